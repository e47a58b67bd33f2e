package storetest

import (
	"testing"

	"github.com/pgkeep/pgkeep/state/repository/store"
)

func TestMemory(t *testing.T) {
	Run(t, func(t *testing.T) store.Store { return NewMemory(nil) })
}

func TestFaultyChangesNothingUnasked(t *testing.T) {
	Run(t, func(t *testing.T) store.Store { return &Faulty{Store: NewMemory(nil)} })
}
