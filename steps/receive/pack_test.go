package receive

import (
	"errors"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// segmentsFor gives the uploaders of a session whose spool holds so many complete segments of timeline 1, and their jobs.
func segmentsFor(t *testing.T, n int, archives ...*memoryArchive) (*session, []job) {
	t.Helper()
	f := scripted(t, &script{}, func(o *Options) {
		o.Archives = nil
		for i, a := range archives {
			o.Archives = append(o.Archives, a.archive([]string{"main", "offsite"}[i]))
		}
	})
	f.s.ahead = make(chan struct{}, 2)
	var jobs []job
	for i := range n {
		at := wal.LSN(mib * (i + 1))
		if err := f.w.Write(at, make([]byte, mib)); err != nil {
			t.Fatal(err)
		}
		j := job{segment: wal.SegmentSize(mib).SegmentAt(1, at)}
		jobs = append(jobs, j)
		f.s.queue.add(j)
	}
	if err := f.w.Sync(); err != nil {
		t.Fatal(err)
	}
	for _, u := range f.s.uploads {
		u.unindexed = map[wal.Timeline]bool{}
	}
	return f.s, jobs
}

func named(jobs []job) []string {
	var out []string
	for _, j := range jobs {
		out = append(out, j.segment.Name(mib))
	}
	return out
}

// TestSegmentsArePackedTogetherAndPutInOrder has the first of three be packed last.
func TestSegmentsArePackedTogetherAndPutInOrder(t *testing.T) {
	a := newMemoryArchive(mib)
	s, jobs := segmentsFor(t, 3, a)
	var others sync.WaitGroup
	others.Add(2)
	a.packing = func(seg wal.Segment) {
		if seg != jobs[0].segment {
			others.Done()
			return
		}
		others.Wait() // for ever, if one were packed after another
	}
	u := s.uploads[0]
	for i, j := range jobs {
		if err := u.do(t.Context(), a, j); err != nil {
			t.Fatal(err)
		}
		if held := s.tail.held(1); held != j.segment.End(mib) {
			t.Errorf("after job %d WAL up to %s counts as held", i, held)
		}
	}
	if !slices.Equal(a.order, named(jobs)) {
		t.Errorf("put in the order %v", a.order)
	}
	if a.packed.Load() != 3 || a.open.Load() != 0 || len(s.ahead) != 0 {
		t.Errorf("packed %d times; %d are not let go, %d places not given back", a.packed.Load(), a.open.Load(), len(s.ahead))
	}
}

// TestAFailedPutPutsNothingBehindIt has a repository refuse the first of segments that are all packed.
func TestAFailedPutPutsNothingBehindIt(t *testing.T) {
	a := newMemoryArchive(mib)
	s, jobs := segmentsFor(t, 3, a)
	u := s.uploads[0]
	a.breakWith(errAway)
	if err := u.do(t.Context(), a, jobs[0]); !errors.Is(err, errAway) {
		t.Fatalf("it was put: %v", err)
	}
	if len(a.whole) != 0 || s.tail.held(1) != 0 || a.open.Load() != 0 || len(s.ahead) != 0 {
		t.Errorf("the archive has %v, held %s; %d are not let go", a.order, s.tail.held(1), a.open.Load())
	}
	a.breakWith(nil)
	for _, j := range jobs {
		if err := u.do(t.Context(), a, j); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(a.order, named(jobs)) || a.open.Load() != 0 {
		t.Errorf("put in the order %v, %d are not let go", a.order, a.open.Load())
	}
}

// TestNothingIsPackedAcrossAGap: what comes behind a gap, a history file or a timeline's end waits for it.
func TestNothingIsPackedAcrossAGap(t *testing.T) {
	gap := job{gap: &state.Gap{Range: wal.Range{Timeline: 1, From: 2 * mib, To: 3 * mib}}}
	for _, barrier := range []job{gap, {history: 2}, {ended: &ended{segment: wal.Segment{Timeline: 1, Number: 2}, upTo: 2*mib + 5}}} {
		a := newMemoryArchive(mib)
		s, jobs := segmentsFor(t, 2, a)
		s.queue.jobs = []job{jobs[0], barrier, jobs[1]}
		if err := s.uploads[0].do(t.Context(), a, jobs[0]); err != nil {
			t.Fatal(err)
		}
		if a.packed.Load() != 1 || len(s.uploads[0].packings) != 0 {
			t.Errorf("%+v: %d segments were packed", barrier, a.packed.Load())
		}
	}
}

// TestWhatIsSetAsideOnceItIsPackedIsNotPut has the line of history leave before a segment that waits to be put.
func TestWhatIsSetAsideOnceItIsPackedIsNotPut(t *testing.T) {
	a := newMemoryArchive(mib)
	s, jobs := segmentsFor(t, 2, a)
	u := s.uploads[0]
	if err := u.do(t.Context(), a, jobs[0]); err != nil || len(u.packings) != 1 {
		t.Fatalf("%d wait, %v", len(u.packings), err)
	}
	<-u.packings[0].done
	if _, err := s.spool.GoBack(1, 2*mib); err != nil {
		t.Fatal(err)
	}
	if err := u.do(t.Context(), a, jobs[1]); err != nil || len(a.whole) != 1 || s.tail.held(1) != 2*mib || a.open.Load() != 0 {
		t.Errorf("the archive has %v, held %s, %v", a.order, s.tail.held(1), err)
	}
}

// TestAnotherFileOfTheNameIsPackedAgain has a segment be another file by the time that its turn comes.
func TestAnotherFileOfTheNameIsPackedAgain(t *testing.T) {
	a := newMemoryArchive(mib)
	s, jobs := segmentsFor(t, 2, a)
	u := s.uploads[0]
	if err := u.do(t.Context(), a, jobs[0]); err != nil {
		t.Fatal(err)
	}
	<-u.packings[0].done
	f, err := s.spool.OpenSegment(jobs[1].segment)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	other := make([]byte, mib)
	other[77] = 1
	if err := errors.Join(os.WriteFile(f.Name()+".new", other, 0o600), os.Rename(f.Name()+".new", f.Name())); err != nil {
		t.Fatal(err)
	}
	if err := u.do(t.Context(), a, jobs[1]); err != nil || a.whole[jobs[1].segment][77] != 1 {
		t.Errorf("what was packed before was put: %v", err)
	}
}

// TestAnArchiveThatHangsTakesNothingFromTheOthers has one archive hold every place of those that are packed ahead.
func TestAnArchiveThatHangsTakesNothingFromTheOthers(t *testing.T) {
	slow, quick := newMemoryArchive(mib), newMemoryArchive(mib)
	s, jobs := segmentsFor(t, 4, slow, quick)
	release := slow.stall()
	ended := make(chan error)
	go func() { ended <- s.uploads[0].do(t.Context(), slow, jobs[0]) }()
	for slow.tries.Load() == 0 {
		select {
		case err := <-ended:
			t.Fatal("it does not hang", err)
		default:
		}
	}
	for _, j := range jobs {
		if err := s.uploads[1].do(t.Context(), quick, j); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(quick.order, named(jobs)) {
		t.Errorf("the other has %v", quick.order)
	}
	release()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	s.uploads[0].dropPackings()
	if slow.open.Load() != 0 || len(s.ahead) != 0 {
		t.Errorf("%d are not let go, %d places not given back", slow.open.Load(), len(s.ahead))
	}
}

// TestAnArchiveNeverHasAHole lets a repository fail at any of the first puts, and looks at what it holds after each.
func TestAnArchiveNeverHasAHole(t *testing.T) {
	for pattern := range 16 {
		a := newMemoryArchive(mib)
		s, jobs := segmentsFor(t, 4, a)
		u := s.uploads[0]
		s.ahead = make(chan struct{}, 1+pattern%3)
		for try := 0; ; try++ {
			fail := pattern>>try&1 == 1
			a.breakWith(nil)
			if fail {
				a.breakWith(errAway)
			}
			j, some, _ := s.queue.next(0)
			if !some {
				break
			}
			if err := u.do(t.Context(), a, j); fail != (err != nil) {
				t.Fatalf("pattern %b, try %d: %v", pattern, try, err)
			}
			if n := len(a.order); !slices.Equal(a.order, named(jobs[:n])) || s.tail.held(1) > wal.LSN(mib*(n+1)) {
				t.Fatalf("pattern %b, try %d: put %v, held %s", pattern, try, a.order, s.tail.held(1))
			}
		}
		if len(a.order) != len(jobs) || a.open.Load() != 0 || len(s.ahead) != 0 {
			t.Fatalf("pattern %b: %d of %d are put, %d are not let go", pattern, len(a.order), len(jobs), a.open.Load())
		}
	}
}
