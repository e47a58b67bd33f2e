package spool

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgkeep/pgkeep/state"
)

// TestSeed lets a repository that reaches further go on where the spool ends, unless the two hold different WAL.
func TestSeed(t *testing.T) {
	t.Parallel()
	s := wantWAL(t)
	seg := s.first.Next()
	at, further := seg.Start(mib)+300_000, seg.Start(mib)+700_000
	held := s.from(seg.Start(mib))[:further-seg.Start(mib)]

	t.Run("more of the same", func(t *testing.T) {
		sp := s.open(t, t.TempDir(), Limit{Percent: 100})
		defer sp.Close()
		s.feed(t, sp, at)
		if err := sp.Seed(seg, further, bytes.NewReader(held)); err != nil {
			t.Fatal(err)
		}
		p := sp.Position()
		if p.Durable <= at || p.Durable > further {
			t.Errorf("the spool reaches %s; it had %s and was given %s", p.Durable, at, further)
		}
		s.holds(t, sp, p.Durable)
	})
	t.Run("the whole segment", func(t *testing.T) {
		sp := s.open(t, t.TempDir(), Limit{Percent: 100})
		defer sp.Close()
		s.feed(t, sp, at)
		if err := sp.Seed(seg, seg.End(mib), bytes.NewReader(s.from(seg.Start(mib))[:mib])); err != nil {
			t.Fatal(err)
		}
		if p := sp.Position(); p.Durable != seg.End(mib) {
			t.Errorf("the spool reaches %s", p.Durable)
		}
		s.holds(t, sp, seg.End(mib))
	})
	t.Run("something else", func(t *testing.T) {
		sp := s.open(t, t.TempDir(), Limit{Percent: 100})
		defer sp.Close()
		s.feed(t, sp, at)
		other := bytes.Clone(held)
		other[200_003] ^= 1
		err := sp.Seed(seg, further, bytes.NewReader(other))
		if state.CodeOf(err) != state.CodeFork || state.HintOf(err) == "" || !strings.Contains(err.Error(), (seg.Start(mib)+200_003).String()) {
			t.Errorf("other bytes: %v", err)
		}
		kept, err := os.ReadFile(filepath.Join(sp.divergedDir(), seg.Name(mib)+".fork.1"))
		if err != nil || !bytes.Equal(kept, held[:300_000]) {
			t.Errorf("ours is not kept: %d bytes, %v", len(kept), err)
		}
		if err := sp.RefuseFork(); state.CodeOf(err) != state.CodeFork {
			t.Errorf("the spool goes on: %v", err)
		}
		if p := sp.Position(); p.Durable != seg.Start(mib) {
			t.Errorf("the spool reaches %s", p.Durable)
		}
	})
}
