package repository

import (
	"errors"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/pgkeep/pgkeep/state/repository/seal"
)

// TestReadElsewhere damages every second object of a backup in one repository and the others in the other one: together they
// are read whole, object by object, and it is told. What is damaged in both is an error, and so is what the reader refuses.
func TestReadElsewhere(t *testing.T) {
	a, b := newMemory(), newMemory()
	ca, cb := newArchive(t, a, mib), newArchive(t, b, mib)
	random := rand.New(rand.NewPCG(11, 8))
	members := randomMembers(random, 40, 400_000)
	full, child := testIntent(1), childIntent(2, testIntent(1).ID)
	takeBackup(t, full, seal.Codec{}, members, 60_000, ca, cb)
	members = change(random, members, 2)
	takeIncremental(t, child, seal.Codec{}, members, ca, cb)
	ra, rb := must(ca.OpenBackup(t.Context(), child.ID))(t), must(cb.OpenBackup(t.Context(), child.ID))(t)
	var mu sync.Mutex
	told := map[string]bool{}
	alike := ra.Or(func(object, from string, why error) {
		mu.Lock()
		defer mu.Unlock()
		if from != "other" || why == nil {
			t.Errorf("%s from %q because of %v", object, from, why)
		}
		told[object] = true
	}, Alternate{Name: "other", Backup: rb})
	if !alike {
		t.Fatal("the two are not alike")
	}
	holdsMembers(t, ra, members)
	if len(told) > 0 {
		t.Errorf("read elsewhere without need: %v", told)
	}
	n := 0
	for _, key := range a.keys() {
		if strings.Contains(key, "/v/") || strings.Contains(key, "/files/") || strings.Contains(key, "/hash/") {
			n++
			c := []*Cluster{ca, cb}[n%2]
			if n%3 == 0 {
				check(t, c.repo.Store().Delete(t.Context(), key))
			} else {
				flip(t, c, key)
			}
		}
	}
	holdsMembers(t, ra, members)
	if len(told) == 0 {
		t.Error("nothing was read elsewhere")
	}

	refused := errors.New("a full disk")
	writes := 0
	err := ra.Pieces(t.Context(), PieceOptions{Workers: 1}, func(Piece) error { writes++; return refused })
	if !errors.Is(err, refused) || writes != 1 {
		t.Errorf("the reader refused %d times: %v", writes, err)
	}
	for key := range maps.Keys(told) {
		if strings.Contains(key, "/v/") {
			delete(b.objects, key)
			break
		}
	}
	if err := ra.Pieces(t.Context(), PieceOptions{}, func(Piece) error { return nil }); !isCorrupt(err) {
		t.Errorf("damaged in both: %v", err)
	}
}
