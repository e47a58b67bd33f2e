package receive

import (
	"errors"
	"io/fs"
	"syscall"
	"testing"

	"github.com/pgkeep/pgkeep/state/wal"
)

// oneSegment gives the uploader of a session whose spool holds a complete segment of timeline 1, and its job.
func oneSegment(t *testing.T, a *memoryArchive) (*uploader, job) {
	t.Helper()
	f := scripted(t, &script{}, func(o *Options) { o.Archives = []Archive{a.archive("main")} })
	if err := errors.Join(f.w.Write(mib, make([]byte, mib)), f.w.Sync()); err != nil {
		t.Fatal(err)
	}
	u := f.s.uploads[0]
	u.unindexed = map[wal.Timeline]bool{}
	j := job{segment: wal.SegmentSize(mib).SegmentAt(1, mib)}
	f.s.queue.add(j)
	return u, j
}

func TestAnArchiveWhoseDirectoryIsGoneHoldsNothing(t *testing.T) {
	a := newMemoryArchive(mib)
	u, j := oneSegment(t, a)
	a.breakWith(&fs.PathError{Op: "openat", Path: "tmp/1", Err: syscall.ENOENT})
	if err := u.do(t.Context(), a, j); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("its put succeeded: %v", err)
	}
	if held := u.s.tail.held(1); held != 0 {
		t.Errorf("the archive counts as holding WAL up to %s", held)
	}
	if u.s.queue.settled(0) {
		t.Error("the job left the queue")
	}
	a.breakWith(nil)
	if err := u.do(t.Context(), a, j); err != nil || len(a.whole) != 1 {
		t.Errorf("mended it holds %d segments, %v", len(a.whole), err)
	}
}

func TestASegmentThatWasSetAsideIsPassedOver(t *testing.T) {
	a := newMemoryArchive(mib)
	u, j := oneSegment(t, a)
	if _, err := u.s.spool.GoBack(1, mib); err != nil {
		t.Fatal(err)
	}
	if err := u.do(t.Context(), a, j); err != nil || u.s.tail.held(1) != 0 {
		t.Errorf("held up to %s, %v", u.s.tail.held(1), err)
	}
}

func TestWhatThePromotedServerNeverHadCountsForNothing(t *testing.T) {
	tl := newTail(1)
	tl.reached(0, 1, 9000)
	tl.back(1, 5000)
	tl.reached(0, 1, 9000) // an upload that began before
	if held := tl.held(1); held != 5000 {
		t.Errorf("after going back to 5000 the archive counts up to %s", held)
	}
	tl.reached(0, 2, 6000)
	tl.reached(0, 1, 9000)
	if held := tl.held(1); held != 6000 {
		t.Errorf("of the new timeline it holds up to 6000, and counts up to %s", held)
	}

	a := newMemoryArchive(mib)
	u, j := oneSegment(t, a)
	a.during = func() { u.s.tail.back(1, mib+100) }
	if err := u.do(t.Context(), a, j); err != nil || u.s.tail.held(1) != mib+100 {
		t.Errorf("a put that went on meanwhile counts up to %s, %v", u.s.tail.held(1), err)
	}
}

func TestAnEndedSegmentThatIsAbsentCountsForNothing(t *testing.T) {
	a := newMemoryArchive(mib)
	u, _ := oneSegment(t, a)
	j := job{ended: &ended{segment: wal.SegmentSize(mib).SegmentAt(1, 2*mib), upTo: 2*mib + 500}}
	if err := u.do(t.Context(), a, j); err != nil || u.s.tail.held(1) != 0 {
		t.Errorf("nothing was pushed, and the archive counts up to %s, %v", u.s.tail.held(1), err)
	}
}
