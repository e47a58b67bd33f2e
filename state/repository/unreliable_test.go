package repository

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgkeep/pgkeep/state/repository/seal"
	"github.com/pgkeep/pgkeep/state/repository/store/remote"
	"github.com/pgkeep/pgkeep/state/repository/store/storetest"
	"github.com/pgkeep/pgkeep/state/wal"
)

func unreliable(seed uint64) (*storetest.Provider, *remote.Store) {
	p := storetest.NewProvider(seed, storetest.EveryFault())
	return p, remote.New(p, remote.Patience{First: time.Microsecond, Longest: time.Millisecond, Total: 5 * time.Minute})
}

// TestUnreliableStore lives a repository's life over a store where a third of all calls go wrong in some way: refused, done
// but reported as failed, cut off, slow. What is there in the end is what a clean store holds, and is read whole.
func TestUnreliableStore(t *testing.T) {
	members := randomMembers(rand.New(rand.NewPCG(1, 1)), 30, 100_000)
	codec := seal.Codec{Algorithm: seal.Zstd}
	story := func(t *testing.T, c *Cluster) map[string][]byte {
		for n := range uint64(6) {
			putSegment(t, c, wal.Segment{Timeline: 1, Number: n}, mib)
		}
		takeBackup(t, testIntent(1), codec, members, 9999, c)
		takeBackup(t, testIntent(2), codec, members, 9999, reopened(t, c))
		check(t, c.Tomb(t.Context(), testIntent(1).ID, testNow))
		must(c.Sweep(t.Context(), testNow.Add(1000*time.Hour)))(t)
		return readBack(t, must(reopened(t, c).OpenBackup(t.Context(), testIntent(2).ID))(t))
	}
	clean := storetest.NewMemory(nil)
	want := story(t, newArchive(t, clean, mib))
	for seed := range uint64(2) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			p, st := unreliable(seed)
			c := newArchive(t, st, mib)
			got := story(t, c)
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("the files of the backup differ")
			}
			kept := p.Memory().Keys()
			kept = kept[1:] // .pgkeep-probe sorts first
			want := withoutKeys(clean.Keys())
			if kept = withoutKeys(kept); !slices.Equal(want, kept) {
				t.Errorf("objects (-clean +unreliable):\n%s", cmp.Diff(want, kept))
			}
			for n := range uint64(6) {
				seg := wal.Segment{Timeline: 1, Number: n}
				if b, err := plainOf(t, c, seg); err != nil || !bytes.Equal(b, plainSegment(seg, mib)) {
					t.Errorf("segment %d: %v, or other bytes", n, err)
				}
			}
		})
	}
}

func plainOf(t *testing.T, c *Cluster, seg wal.Segment) ([]byte, error) {
	t.Helper()
	r, err := c.OpenSegment(t.Context(), seg)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// TestLyingStore never takes a wrong bit for WAL, whatever it says instead.
func TestLyingStore(t *testing.T) {
	p, st := unreliable(9)
	c := newArchive(t, st, mib)
	for n := range uint64(6) {
		putSegment(t, c, wal.Segment{Timeline: 1, Number: n}, mib)
	}
	p.Misbehave(storetest.Faults{Lie: 0.5})
	noticed := 0
	for round := range uint64(60) {
		seg := wal.Segment{Timeline: 1, Number: round % 6}
		b, err := plainOf(t, c, seg)
		if err != nil {
			noticed++
		} else if !bytes.Equal(b, plainSegment(seg, mib)) {
			t.Fatalf("segment %d came back with other bytes and no error", seg.Number)
		}
	}
	if noticed == 0 {
		t.Error("no lie was noticed")
	}
}
