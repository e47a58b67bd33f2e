package repository

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/pgkeep/pgkeep/state/repository/seal"
)

// TestReadOtherwise damages volumes of a backup whose other repositories hold it otherwise: as a copy that stands alone, or in another
// codec. What is damaged in one is read from the other, by file and position, also where both are damaged in different places.
// What is damaged in both, and another backup under the same id, is an error.
func TestReadOtherwise(t *testing.T) {
	random := rand.New(rand.NewPCG(12, 8))
	full, child := testIntent(1), childIntent(2, testIntent(1).ID)
	for name, second := range map[string]func(t *testing.T, from, to *Cluster, before, members []member){
		"alone": func(t *testing.T, from, to *Cluster, _, _ []member) {
			if got := must(CopyBackup(t.Context(), from, to, copyIntent(child.ID)))(t); !got.Alone {
				t.Fatalf("copied %+v", got)
			}
		},
		"another codec": func(t *testing.T, _, to *Cluster, before, members []member) {
			takeBackup(t, full, seal.Codec{Algorithm: seal.Gzip}, before, 50_000, to)
			takeIncremental(t, child, seal.Codec{Algorithm: seal.Gzip}, members, to)
		},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := newMemory(), newMemory()
			ca, cb := newArchive(t, a, mib), newArchive(t, b, mib)
			before := randomMembers(random, 40, 400_000)
			takeBackup(t, full, seal.Codec{}, before, 60_000, ca)
			members := change(random, before, 2)
			takeIncremental(t, child, seal.Codec{}, members, ca)
			second(t, ca, cb, before, members)
			ra, rb := must(ca.OpenBackup(t.Context(), child.ID))(t), must(cb.OpenBackup(t.Context(), child.ID))(t)
			var mu sync.Mutex
			told := 0
			usable := ra.Or(func(string, string, error) {
				mu.Lock()
				defer mu.Unlock()
				told++
			}, Alternate{Name: "other", Backup: rb})
			if !usable || len(ra.others) > 0 {
				t.Fatalf("usable %t, alike %d", usable, len(ra.others))
			}
			holdsMembers(t, ra, members)
			if told > 0 {
				t.Errorf("%d reads elsewhere without need", told)
			}
			own := map[string]bool{} // volumes of the child itself, which have the same names in both
			for _, key := range volumeKeysIn(a) {
				if own[key] = strings.Contains(key, child.ID); !own[key] {
					flip(t, ca, key)
				}
			}
			for _, key := range volumeKeysIn(b) {
				if own[key] {
					flip(t, cb, key)
				}
			}
			holdsMembers(t, ra, members)
			if told == 0 {
				t.Error("nothing was read elsewhere")
			}
			if u := ra.unlike[0]; name == "alone" { // the frames are the same, so that no checksum of the file is needed
				check(t, u.load(t.Context(), 0))
				for _, f := range u.files {
					f.NoCRC = true
				}
				must(tryPieces(t, ra))(t)
			}
			for _, key := range volumeKeysIn(b) {
				check(t, cb.repo.Store().Delete(t.Context(), key))
			}
			if _, err := tryPieces(t, ra); !isCorrupt(err) {
				t.Errorf("damaged in both: %v", err)
			}
		})
	}
}

func volumeKeysIn(st *memory) []string {
	var out []string
	for _, key := range st.keys() {
		if strings.Contains(key, "/v/") {
			out = append(out, key)
		}
	}
	return out
}

func tryPieces(t *testing.T, b *BackupReader) (n int64, err error) {
	t.Helper()
	var mu sync.Mutex
	err = b.Pieces(t.Context(), PieceOptions{}, func(p Piece) error {
		mu.Lock()
		defer mu.Unlock()
		n += int64(len(p.Data))
		return nil
	})
	return n, err
}

// TestReadOtherwiseProves: files that are others under the same names, of the same sizes, are told by their checksums, or by that of the
// frame where they have none, and are not taken; nor is another backup under the same id.
func TestReadOtherwiseProves(t *testing.T) {
	members := randomMembers(rand.New(rand.NewPCG(13, 8)), 20, 300_000)
	changed := slices.Clone(members)
	for i, m := range changed {
		if len(m.data) > 0 {
			changed[i].data = bytes.Clone(m.data)
			changed[i].data[len(m.data)/2] ^= 1
		}
	}
	full := testIntent(1)
	a := newMemory()
	ca, cb := newArchive(t, a, mib), newArchive(t, newMemory(), mib)
	takeBackup(t, full, seal.Codec{}, members, 60_000, ca)
	takeBackup(t, full, seal.Codec{Algorithm: seal.Gzip}, changed, 60_000, cb)
	rb := must(cb.OpenBackup(t.Context(), full.ID))(t)
	for _, key := range volumeKeysIn(a) {
		flip(t, ca, key)
	}
	for _, summed := range []bool{true, false} {
		ra, u := must(ca.OpenBackup(t.Context(), full.ID))(t), &unlike{Alternate: Alternate{Name: "other", Backup: rb}}
		check(t, u.load(t.Context(), 0))
		for _, f := range u.files {
			f.NoCRC = !summed
		}
		ra.unlike = []*unlike{u}
		if n, err := tryPieces(t, ra); !isCorrupt(err) {
			t.Errorf("another backup stood in, files with checksums %t: %d bytes, %v", summed, n, err)
		}
	}
	rb.rec.decided.Stop++
	if must(ca.OpenBackup(t.Context(), full.ID))(t).Or(nil, Alternate{Name: "other", Backup: rb}) {
		t.Error("another backup under the same id is an alternate")
	}
}
