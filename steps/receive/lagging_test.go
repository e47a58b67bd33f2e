package receive

import (
	"errors"
	"os"
	"testing"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/wal"
)

// TestARepositoryThatLagsGetsWhatItLacks has the spool be lost while one repository lags: what it lacks comes again.
func TestARepositoryThatLagsGetsWhatItLacks(t *testing.T) {
	t.Parallel()
	s := startServer(t, pgtest.Options{SegmentMB: 1})
	r := newRig(t, s, mib, 2)
	stop := r.start()
	busy(t, s, "in_two")
	r.awaitArchived(flushed(t, s))
	r.archives[1].breakWith(errors.New("away"))
	busy(t, s, "one_only")
	s.Exec(t, "select pg_switch_wal()")
	await(t, "the first repository has it", func() bool { return r.archives[0].end().To >= flushed(t, s) })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	r.archives[1].breakWith(nil)
	if err := os.RemoveAll(r.o.Spool); err != nil { // the machine is gone
		t.Fatal(err)
	}
	r.o.Acknowledge = Repository
	stop = r.start()
	busy(t, s, "after")
	s.Exec(t, "select pg_switch_wal()")
	r.awaitArchived(flushed(t, s))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	r.compare(s)
}

// TestARepositoryThatLagsDoesNotCountAsHoldingItsHole has the server have removed what one of two repositories lacks.
func TestARepositoryThatLagsDoesNotCountAsHoldingItsHole(t *testing.T) {
	ahead, behind := newMemoryArchive(mib), newMemoryArchive(mib)
	segment := func(n uint64) wal.Segment { return wal.Segment{Timeline: 1, Number: n} }
	for n := uint64(1); n <= 4; n++ {
		ahead.whole[segment(n)] = make([]byte, mib)
	}
	behind.whole[segment(1)] = make([]byte, mib)
	f := scripted(t, &script{}, func(o *Options) {
		o.Acknowledge, o.Archives = Repository, []Archive{ahead.archive("main"), behind.archive("offsite")}
	})
	s := f.s
	s.start.gone = &begin{timeline: 1, from: mib, durable: mib}
	if err := s.askArchives(t.Context(), askBriefly); err != nil {
		t.Fatal(err)
	}
	if p := s.spool.Position(); p.Durable != 5*mib {
		t.Fatalf("the stream goes on from %s", p.Durable)
	}
	rest := func(s *session) wal.LSN {
		t.Helper()
		s.loadTail()
		for i, a := range []*memoryArchive{ahead, behind} {
			s.uploads[i].unindexed = map[wal.Timeline]bool{}
			if _, err := s.uploads[i].rest(t.Context(), a, true); err != nil {
				t.Fatal(err)
			}
		}
		return s.tail.held(2)
	}
	if held := rest(s); held > 2*mib {
		t.Errorf("both count as holding WAL up to %s; one ends at %s", held, behind.end().To)
	}
	if p := s.report.snapshot().Problem; p == nil || p.Code != state.CodeIO || p.Hint == "" {
		t.Errorf("the hole is not told, or told as a gap: %+v", p)
	}
	if held := s.tail.held(1); held != 5*mib {
		t.Errorf("the one that has all counts up to %s", held)
	}
	again := newSession(s.o, s.cluster, s.spool, newReporter(s.o, nil))
	behind.whole[segment(5)] = make([]byte, mib) // what came behind the hole
	if err := again.loadLacks(); err != nil {
		t.Fatal(err)
	}
	if held := rest(again); held > 2*mib {
		t.Errorf("after a restart both count as holding WAL up to %s", held)
	}
	for n := uint64(2); n <= 4; n++ {
		behind.whole[segment(n)] = make([]byte, mib)
	}
	again.uploads[1].lookedAt = again.uploads[1].lookedAt.Add(-2 * lookEvery)
	if held := rest(again); held != 5*mib {
		t.Errorf("the hole is filled, and both count up to %s", held)
	}
}
