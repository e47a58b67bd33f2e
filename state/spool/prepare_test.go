package spool

import (
	"errors"
	"os"
	"testing"

	"github.com/pgkeep/pgkeep/state/wal"
)

// feedPrepared feeds the sample up to l, and has each next segment prepared before it comes.
func (s sample) feedPrepared(t *testing.T, sp *Spool, upTo wal.LSN) *Writer {
	t.Helper()
	w, err := sp.Writer(1, s.start(), func(wal.Segment) {})
	if err != nil {
		t.Fatal(err)
	}
	for at := s.start(); at < upTo; {
		n := min(100_000, upTo-at)
		if err := errors.Join(w.Write(at, s.from(at)[:n]), w.Sync()); err != nil {
			t.Fatal(err)
		}
		w.Prepare()
		if w.next != nil {
			<-w.next.done
		}
		at += n
	}
	return w
}

func (s sample) sizeOf(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

func TestPreparedSegments(t *testing.T) {
	s := wantWAL(t)
	at := s.start() + 2*mib + 300_000
	tip := s.first.Next().Next()

	t.Run("are overwritten, and found again after a kill", func(t *testing.T) {
		dir := t.TempDir()
		sp := s.open(t, dir, Limit{Percent: 100})
		s.feedPrepared(t, sp, at)
		if got := s.sizeOf(t, sp.path(tip, partialSuffix)); got != mib {
			t.Errorf("the unfinished segment has %d bytes: it was not prepared", got)
		}
		s.holds(t, sp, at)
		looked, err := Look(dir, "orders")
		if err != nil || looked.Spool.Durable > at || at-looked.Spool.Durable > 16<<10 {
			t.Errorf("looked at from beside: up to %s of %s, %v", looked.Spool.Durable, at, err)
		}
		next := sp.path(tip.Next(), zerosSuffix)
		if s.sizeOf(t, next) != mib {
			t.Error("the next segment is not prepared")
		}
		_ = sp.Close() // the writer is not: it was killed
		sp = s.open(t, dir, Limit{Percent: 100})
		defer sp.Close()
		if _, err := os.Stat(next); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("what was prepared and not used is left: %v", err)
		}
		if p := sp.Position(); p.Durable != looked.Spool.Durable || p.Unfinished != tip {
			t.Errorf("opened again it is at %+v, looked at from beside it was at %s", p, looked.Spool.Durable)
		}
		s.feed(t, sp, s.end())
		s.holds(t, sp, s.end())
	})

	t.Run("are gone when the writer is closed, and cut where it goes on", func(t *testing.T) {
		sp := s.open(t, t.TempDir(), Limit{Percent: 100})
		defer sp.Close()
		if err := s.feedPrepared(t, sp, at).Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(sp.path(tip.Next(), zerosSuffix)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("what was prepared is left: %v", err)
		}
		if p := sp.Position(); p.Durable != at || p.Proven != at {
			t.Errorf("at %+v, fed up to %s", p, at)
		}
		w, err := sp.Writer(1, at, func(wal.Segment) {})
		if err != nil {
			t.Fatal(err)
		}
		if got := s.sizeOf(t, sp.path(tip, partialSuffix)); got != 300_000 {
			t.Errorf("%d bytes of the unfinished segment are left", got)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	})

	t.Run("are not made where room is scarce", func(t *testing.T) {
		sp := s.open(t, t.TempDir(), Limit{Bytes: 3 * mib})
		defer sp.Close()
		w := s.feedPrepared(t, sp, s.start()+mib+300_000)
		if w.next == nil || w.next.path != "" {
			t.Error("the last room of the spool was filled with zeros")
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	})

	t.Run("that could not be made cost nothing but time", func(t *testing.T) {
		sp := s.open(t, t.TempDir(), Limit{Percent: 100})
		defer sp.Close()
		if err := os.Mkdir(sp.path(s.first.Next(), zerosSuffix), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := s.feedPrepared(t, sp, at).Close(); err != nil {
			t.Fatal(err)
		}
		s.holds(t, sp, at)
	})
}
