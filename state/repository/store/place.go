package store

import (
	"context"
	"errors"
)

// ErrAbsent means that the place itself is not there: a directory or bucket that does not exist. It says nothing about
// objects: a driver never answers ErrNotExist for a place that it cannot see.
var ErrAbsent = errors.New("store location does not exist")

// Place is implemented by stores that live in a file system of this machine and can say how it stands there.
type Place interface {
	// Look reads how the place stands now, without changing anything.
	Look(ctx context.Context) (PlaceFacts, error)
}

// MaxEntries bounds PlaceFacts.Entries.
const MaxEntries = 16

// PlaceFacts is how a directory stands.
type PlaceFacts struct {
	Path        string
	Exists      bool
	Empty       bool     // nothing in it but what a file system or this driver puts there by itself
	Entries     []string // names in it, sorted, without those of Empty; at most MaxEntries
	Free, Total int64    // bytes of its file system (of the nearest parent that exists)
	FstabMount  string   // mount point of /etc/fstab at or above the path that is not mounted; empty: none
}
