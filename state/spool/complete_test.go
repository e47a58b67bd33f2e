package spool

import (
	"errors"
	"os"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pgkeep/pgkeep/state/wal"
)

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func TestSegmentsAreCompletedBesideTheStream(t *testing.T) {
	s := wantWAL(t)
	second := s.first.Next()
	at := s.start() + mib + 300_000

	t.Run("nothing behind one counts before it is durable", func(t *testing.T) {
		dir := t.TempDir()
		sp := s.open(t, dir, Limit{Percent: 100})
		goOn := make(chan struct{})
		begun := make(chan wal.Segment, 4)
		w, err := sp.Writer(1, s.start(), func(seg wal.Segment) { begun <- seg; <-goOn })
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Write(s.start(), s.bytes[:at-s.start()]); err != nil {
			t.Fatal(err)
		}
		if seg := <-begun; seg != s.first {
			t.Errorf("%v is complete", seg)
		}
		if w.Written() != at || w.Flushed() != s.start() {
			t.Errorf("written %s, flushed %s while the first segment is not durable", w.Written(), w.Flushed())
		}
		if exists(sp.path(second, partialSuffix)) || !exists(sp.path(second, partialSuffix+newSuffix)) {
			t.Error("the second segment has a name that a kill would leave")
		}
		if p := sp.Position(); p.Durable > second.Start(mib) {
			t.Errorf("at %+v", p)
		}
		close(goOn)
		if err := w.Sync(); err != nil {
			t.Fatal(err)
		}
		if w.Flushed() != at || !exists(sp.path(second, partialSuffix)) {
			t.Errorf("flushed %s of %s", w.Flushed(), at)
		}
		s.holds(t, sp, at)
		if err := errors.Join(w.Close(), sp.Close()); err != nil {
			t.Fatal(err)
		}
	})

	t.Run("a kill leaves the first, and not what follows it", func(t *testing.T) {
		dir := t.TempDir()
		sp := s.open(t, dir, Limit{Percent: 100})
		killed := make(chan struct{})
		defer close(killed)
		begun := make(chan struct{}, 4)
		w, err := sp.Writer(1, s.start(), func(wal.Segment) { begun <- struct{}{}; <-killed })
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Write(s.start(), s.bytes[:at-s.start()]); err != nil {
			t.Fatal(err)
		}
		<-begun
		_ = sp.Close()
		sp = s.open(t, dir, Limit{Percent: 100})
		defer sp.Close()
		if p := sp.Position(); p.Durable != second.Start(mib) {
			t.Errorf("at %+v", p)
		}
		s.feed(t, sp, s.end())
		s.holds(t, sp, s.end())
	})

	t.Run("one that cannot be completed ends the stream, and comes again", func(t *testing.T) {
		sp := s.open(t, t.TempDir(), Limit{Percent: 100})
		defer sp.Close()
		inTheWay := sp.path(s.first, "")
		if err := os.Mkdir(inTheWay, 0o700); err != nil {
			t.Fatal(err)
		}
		w, err := sp.Writer(1, s.start(), func(seg wal.Segment) { t.Errorf("%v is complete", seg) })
		if err != nil {
			t.Fatal(err)
		}
		err = w.Write(s.start(), s.bytes[:at-s.start()])
		if err == nil {
			err = w.Sync()
		}
		if err == nil || w.Flushed() != s.start() {
			t.Errorf("%v, flushed %s", err, w.Flushed())
		}
		if again := w.Close(); again == nil || exists(sp.path(second, partialSuffix)) || exists(sp.path(second, partialSuffix+newSuffix)) {
			t.Errorf("closed with %v; what followed is left", again)
		}
		if err := os.Remove(inTheWay); err != nil {
			t.Fatal(err)
		}
		s.feed(t, sp, s.end())
		s.holds(t, sp, s.end())
	})

	t.Run("one whose name did not become durable is none", func(t *testing.T) {
		sp := s.open(t, t.TempDir(), Limit{Percent: 100})
		defer sp.Close()
		at := s.start() + 2*mib + 300_000
		failed := s.failDir(t, sp, 3, at) // of the first segment, of its completion, and of that of the second, which had no name
		if p := sp.Position(); failed == nil || p.Durable > second.Start(mib) {
			t.Errorf("%v; at %+v, and no directory with the second segment is durable", failed, p)
		}
		s.feed(t, sp, s.end())
		s.holds(t, sp, s.end())
	})

	t.Run("a name that did not become durable is not gone on with", func(t *testing.T) {
		sp := s.open(t, t.TempDir(), Limit{Percent: 100})
		defer sp.Close()
		failed := s.failDir(t, sp, 3, at) // of the first segment, of its completion, and of the name of the second
		if failed == nil || exists(sp.path(second, partialSuffix)) {
			t.Errorf("%v; the second segment has a name that a power cut may take back, and nothing makes it durable again", failed)
		}
		s.feed(t, sp, s.end())
		s.holds(t, sp, s.end())
	})
}

// failDir feeds the sample up to l in one piece, and lets the nth fsync of the directory fail, once. It gives the writer's error.
func (s sample) failDir(t *testing.T, sp *Spool, nth int64, upTo wal.LSN) error {
	t.Helper()
	var calls atomic.Int64
	sp.syncDir = func(dir string) error {
		if calls.Add(1) == nth {
			return unix.EIO
		}
		return syncDir(dir)
	}
	defer func() { sp.syncDir = syncDir }()
	w, err := sp.Writer(1, s.start(), func(wal.Segment) {})
	if err != nil {
		t.Fatal(err)
	}
	err = w.Write(s.start(), s.bytes[:upTo-s.start()])
	if err == nil {
		err = w.Sync()
	}
	if closed := w.Close(); err == nil {
		err = closed
	}
	return err
}
