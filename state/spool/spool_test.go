package spool

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/wal"
)

const mib = 1 << 20

// sample is real WAL: some segments of a server, one after the other.
type sample struct {
	system string
	first  wal.Segment
	bytes  []byte
}

func (s sample) start() wal.LSN { return s.first.Start(mib) }
func (s sample) end() wal.LSN   { return s.start() + wal.LSN(len(s.bytes)) }

func (s sample) from(l wal.LSN) []byte { return s.bytes[l-s.start():] }

// wantWAL runs a server for a moment and takes its WAL.
func wantWAL(t *testing.T) sample {
	t.Helper()
	srv := pgtest.Start(t, pgtest.Options{SegmentMB: 1, Settings: map[string]string{"wal_keep_size": "1GB"}})
	begin, err := wal.ParseLSN(srv.SQL(t, "select pg_current_wal_flush_lsn()"))
	if err != nil {
		t.Fatal(err)
	}
	srv.Exec(t, "create table t as select md5(g::text) from generate_series(1, 40000) g")
	srv.Exec(t, "select pg_switch_wal()")
	out := sample{system: srv.SQL(t, "select system_identifier from pg_control_system()"), first: wal.SegmentSize(mib).SegmentAt(1, begin)}
	seg := out.first
	for range 4 {
		b, err := os.ReadFile(filepath.Join(srv.DataDir, "pg_wal", seg.Name(mib)))
		if err != nil {
			t.Fatal(err)
		}
		out.bytes = append(out.bytes, b...)
		seg = seg.Next()
	}
	srv.Stop(t, "immediate")
	return out
}

func (s sample) open(t testing.TB, dir string, l Limit) *Spool {
	t.Helper()
	sp, err := Open(dir, Holder{PID: os.Getpid(), Who: "test"}, Options{Name: "orders", SystemID: s.system, SegmentSize: mib, Limit: l, AllowVolatile: true})
	if err != nil {
		t.Fatal(err)
	}
	return sp
}

// feed writes the sample from the spool's position up to l.
func (s sample) feed(t testing.TB, sp *Spool, upTo wal.LSN) []wal.Segment {
	t.Helper()
	p := sp.Position()
	from := p.Resume
	if p.Timeline == 0 {
		from = s.start()
	}
	var completed []wal.Segment
	w, err := sp.Writer(1, from, func(seg wal.Segment) { completed = append(completed, seg) })
	if err != nil {
		t.Fatal(err)
	}
	for at := from; at < upTo; {
		n := min(100_000, upTo-at)
		if err := w.Write(at, s.from(at)[:n]); err != nil {
			t.Fatal(err)
		}
		at += n
	}
	if err := w.Sync(); err != nil {
		t.Fatal(err)
	}
	if w.Flushed() != max(upTo, from) || w.Written() != w.Flushed() {
		t.Fatalf("flushed %s, written %s of %s", w.Flushed(), w.Written(), upTo)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return completed
}

// holds checks that the spool's files have the sample's bytes up to l.
func (s sample) holds(t testing.TB, sp *Spool, upTo wal.LSN) {
	t.Helper()
	for seg := s.first; seg.Start(mib) < upTo; seg = seg.Next() {
		f, err := sp.OpenSegment(seg)
		if errors.Is(err, os.ErrNotExist) {
			f, err = sp.OpenPartial(seg)
		}
		if err != nil {
			t.Fatal(err)
		}
		n := min(seg.End(mib), upTo) - seg.Start(mib)
		have, err := io.ReadAll(io.LimitReader(f, int64(n)))
		f.Close()
		if err != nil || !bytes.Equal(have, s.from(seg.Start(mib))[:n]) {
			t.Fatalf("segment %s is not what was fed (%d bytes, %v)", seg.Name(mib), len(have), err)
		}
	}
}

func TestSpool(t *testing.T) {
	s := wantWAL(t)

	t.Run("trusts no file of an earlier process to be on disk", func(t *testing.T) {
		dir := t.TempDir()
		sp := s.open(t, dir, Limit{Percent: 100})
		s.feed(t, sp, s.start()+300_000)
		path := sp.path(s.first, partialSuffix)
		before, err := os.Open(path) // held open, so that its inode is not used again
		if err != nil {
			t.Fatal(err)
		}
		defer before.Close()
		was, err := before.Stat()
		if err != nil {
			t.Fatal(err)
		}
		if err := sp.Close(); err != nil {
			t.Fatal(err)
		}
		sp = s.open(t, dir, Limit{Percent: 100})
		defer sp.Close()
		is, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if os.SameFile(was, is) {
			t.Error("the unfinished segment is the same file: where its fsync failed before, it never reaches the disk")
		}
		s.holds(t, sp, sp.Position().Durable)
		if p := sp.Position(); p.Durable == s.start() {
			t.Errorf("nothing is left of it: %+v", p)
		}
	})

	t.Run("keeps what it is fed and goes on", func(t *testing.T) {
		dir := t.TempDir()
		sp := s.open(t, dir, Limit{Percent: 100})
		if p := sp.Position(); p != (Position{}) {
			t.Errorf("an empty spool is at %+v", p)
		}
		at := s.start() + mib + 300_000
		done := s.feed(t, sp, at)
		if diff := cmp.Diff([]wal.Segment{s.first}, done); diff != "" {
			t.Error(diff)
		}
		s.holds(t, sp, at)
		if err := sp.Close(); err != nil {
			t.Fatal(err)
		}
		sp = s.open(t, dir, Limit{Percent: 100})
		defer sp.Close()
		p := sp.Position()
		if p.Durable > at || at-p.Durable > 16<<10 || p.Resume >= p.Durable || p.Durable-p.Resume > wal.PageSize {
			t.Errorf("after it was opened again it is at %+v, fed up to %s", p, at)
		}
		s.feed(t, sp, s.end())
		s.holds(t, sp, s.end())
	})

	t.Run("has one owner, who is named", func(t *testing.T) {
		dir := t.TempDir()
		sp := s.open(t, dir, Limit{Percent: 100})
		_, err := Take(dir, "orders", Holder{})
		if state.CodeOf(err) != state.CodeLocked || !strings.Contains(err.Error(), strconv.Itoa(os.Getpid())) {
			t.Errorf("claimed twice: %v", err)
		}
		f, err := Look(dir, "orders")
		if err != nil || !f.Receiver.Running || f.Receiver.PID != os.Getpid() {
			t.Errorf("looked at: %+v, %v", f.Receiver, err)
		}
		if err := sp.Close(); err != nil {
			t.Fatal(err)
		}
		if f, err = Look(dir, "orders"); err != nil || f.Receiver.Running {
			t.Errorf("looked at after its end: %+v, %v", f.Receiver, err)
		}
		c, err := Take(dir, "orders", Holder{})
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Release()
	})

	t.Run("takes no other bytes for the same position", func(t *testing.T) {
		dir := t.TempDir()
		sp := s.open(t, dir, Limit{Percent: 100})
		defer sp.Close()
		at := s.start() + mib + 300_000
		s.feed(t, sp, at)
		p := sp.Position()
		w, err := sp.Writer(1, p.Resume, func(wal.Segment) {})
		if err != nil {
			t.Fatal(err)
		}
		other := bytes.Clone(s.from(p.Resume)[:100_000])
		other[50] ^= 1
		if err := w.Write(p.Resume, other); state.CodeOf(err) != state.CodeFork {
			t.Errorf("other bytes: %v", err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		s.holds(t, sp, at)
		if err := sp.PutHistory(2, []byte("1\t0/3000000\tno recovery target specified\n")); err != nil {
			t.Fatal(err)
		}
		if err := sp.PutHistory(2, []byte("1\t0/3000028\tno recovery target specified\n")); state.CodeOf(err) != state.CodeFork {
			t.Errorf("another history: %v", err)
		}
	})

	t.Run("takes no stream with a hole", func(t *testing.T) {
		sp := s.open(t, t.TempDir(), Limit{Percent: 100})
		defer sp.Close()
		w, err := sp.Writer(1, s.start(), func(wal.Segment) {})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Write(s.start()+8, []byte("x")); err == nil {
			t.Error("a hole of 8 bytes was taken")
		}
	})

	t.Run("forgets what every repository holds, but for the last", func(t *testing.T) {
		dir := t.TempDir()
		sp := s.open(t, dir, Limit{Percent: 100})
		at := s.start() + 3*mib + 5000
		for _, seg := range s.feed(t, sp, at) {
			if err := sp.Done(seg); err != nil {
				t.Fatal(err)
			}
		}
		before := sp.Position()
		if err := sp.Close(); err != nil {
			t.Fatal(err)
		}
		sp = s.open(t, dir, Limit{Percent: 100})
		defer sp.Close()
		w, err := sp.Work()
		if err != nil || len(w.Segments) != 0 || len(w.Before) != 1 {
			t.Errorf("work %+v, %v", w, err)
		}
		if p := sp.Position(); p.Begin != before.Begin || p.Durable == 0 {
			t.Errorf("at %+v, before %+v", p, before)
		}
		f, err := Look(dir, "orders")
		if err != nil || len(f.Spool.Pending) > 0 || f.Spool.Durable != sp.Position().Durable {
			t.Errorf("looked at: %+v, %v", f.Spool, err)
		}
	})

	t.Run("asks for nothing to be archived of a segment that came to nothing", func(t *testing.T) {
		dir := t.TempDir()
		sp := s.open(t, dir, Limit{Percent: 100})
		s.feed(t, sp, s.start()+mib)
		empty := s.first.Next()
		lost, err := sp.create(empty, "") // killed before its first page was whole
		if err != nil {
			t.Fatal(err)
		}
		_ = lost.Close()
		if err := sp.Close(); err != nil {
			t.Fatal(err)
		}
		sp = s.open(t, dir, Limit{Percent: 100})
		if w, err := sp.Work(); err != nil || len(w.Ended) != 0 || sp.Position().Unfinished != empty {
			t.Errorf("at the end of the stream: work %+v, at %+v, %v", w, sp.Position(), err)
		}
		behind := empty.Next()
		w, err := sp.Writer(1, behind.Start(mib), func(wal.Segment) {})
		if err == nil { // the server had removed what lies between
			err = errors.Join(w.Write(behind.Start(mib), s.from(behind.Start(mib))[:100_000]), w.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if w, err := sp.Work(); err != nil || len(w.Ended) != 0 || len(w.Segments) != 1 {
				t.Errorf("behind a gap: work %+v, %v", w, err)
			}
			if _, err := os.Stat(sp.path(empty, partialSuffix)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the empty segment is still there: %v", err)
			}
			_ = sp.Close()
			sp = s.open(t, dir, Limit{Percent: 100})
		}
		_ = sp.Close()
	})

	t.Run("goes back and keeps what was ahead", func(t *testing.T) {
		for _, at := range []wal.LSN{s.start() + 1*mib, s.start() + 1*mib + 70_000, s.start() + 2*mib + 299_000} {
			dir := t.TempDir()
			sp := s.open(t, dir, Limit{Percent: 100})
			s.feed(t, sp, s.start()+2*mib+300_000)
			aside, err := sp.GoBack(1, at)
			if err != nil || len(aside) == 0 {
				t.Fatalf("put aside %v, %v", aside, err)
			}
			if p := sp.Position(); p.Durable != at {
				t.Errorf("went back to %s, is at %+v", at, p)
			}
			s.holds(t, sp, at)
			_ = sp.Close()
			sp = s.open(t, dir, Limit{Percent: 100})
			if p := sp.Position(); p.Durable > at || at-p.Durable > 16<<10 {
				t.Errorf("went back to %s, is at %+v when opened again", at, p)
			}
			_ = sp.Close()
		}
	})

	t.Run("stops at its limit", func(t *testing.T) {
		sp := s.open(t, t.TempDir(), Limit{Bytes: 2 * mib})
		defer sp.Close()
		w, err := sp.Writer(1, s.start(), func(wal.Segment) {})
		if err != nil {
			t.Fatal(err)
		}
		err = w.Write(s.start(), s.bytes)
		if state.CodeOf(err) != state.CodeDiskFull || state.HintOf(err) == "" {
			t.Errorf("beyond the limit: %v", err)
		}
		if w.Flushed() != s.start()+2*mib {
			t.Errorf("flushed %s", w.Flushed())
		}
		if err := w.Close(); state.CodeOf(err) != state.CodeDiskFull {
			t.Errorf("closed: %v", err)
		}
	})

	t.Run("fetches a quarantined segment again", func(t *testing.T) {
		dir := t.TempDir()
		sp := s.open(t, dir, Limit{Percent: 100})
		s.feed(t, sp, s.start()+2*mib+100_000)
		if err := sp.Quarantine(s.first); err != nil {
			t.Fatal(err)
		}
		_ = sp.Close()
		sp = s.open(t, dir, Limit{Percent: 100})
		defer sp.Close()
		w, err := sp.Work()
		if err != nil || len(w.Missing) != 1 || w.Missing[0] != s.first {
			t.Fatalf("work %+v, %v", w, err)
		}
		if same, err := sp.Replace(s.first, bytes.NewReader(s.bytes[:mib])); err != nil || !same {
			t.Errorf("replaced: same %v, %v", same, err)
		}
		if w, err := sp.Work(); err != nil || len(w.Missing) != 0 || len(w.Segments) != 2 {
			t.Errorf("work %+v, %v", w, err)
		}
	})

	t.Run("a short replacement changes nothing", func(t *testing.T) {
		sp := s.open(t, t.TempDir(), Limit{Percent: 100})
		defer sp.Close()
		s.feed(t, sp, s.start()+2*mib)
		if err := sp.Quarantine(s.first); err != nil {
			t.Fatal(err)
		}
		if _, err := sp.Replace(s.first, bytes.NewReader(s.bytes[:mib-1])); err == nil {
			t.Error("a short segment was taken")
		}
		if w, err := sp.Work(); err != nil || len(w.Missing) != 1 {
			t.Errorf("work %+v, %v", w, err)
		}
	})

	t.Run("a failed fsync leaves the file behind", func(t *testing.T) {
		sp := s.open(t, t.TempDir(), Limit{Percent: 100})
		defer sp.Close()
		at := s.start() + 300_000
		s.feed(t, sp, at)
		p := sp.Position()
		w, err := sp.Writer(1, p.Resume, func(wal.Segment) {})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Write(p.Resume, s.from(p.Resume)[:50_000]); err != nil {
			t.Fatal(err)
		}
		before, err := os.Stat(sp.path(s.first, partialSuffix))
		if err != nil {
			t.Fatal(err)
		}
		if err := w.fail("fsync segment", errors.New("EIO"), true); state.CodeOf(err) != state.CodeIO {
			t.Errorf("a failed fsync: %v", err)
		}
		if w.Sync() == nil || w.Close() == nil || w.Flushed() > at {
			t.Errorf("after a failed fsync the writer calls %s flushed; durable is %s", w.Flushed(), at)
		}
		if p := sp.Position(); p.Durable != at {
			t.Errorf("durable %s, was %s", p.Durable, at)
		}
		s.feed(t, sp, s.start()+mib/2)
		after, err := os.Stat(sp.path(s.first, partialSuffix))
		if err != nil || os.SameFile(before, after) {
			t.Errorf("the file is used again (%v)", err)
		}
		s.holds(t, sp, s.start()+mib/2)
	})

	t.Run("heals any torn partial", func(t *testing.T) {
		rapid.Check(t, func(r *rapid.T) {
			dir, err := os.MkdirTemp(t.TempDir(), "")
			if err != nil {
				t.Fatal(err)
			}
			upTo := s.start() + mib + wal.LSN(rapid.IntRange(0, mib).Draw(r, "fed"))
			sp := s.open(t, dir, Limit{Percent: 100})
			done := s.feed(t, sp, upTo)
			if rapid.Bool().Draw(r, "archived") {
				for _, seg := range done {
					if err := sp.Done(seg); err != nil {
						t.Fatal(err)
					}
				}
			}
			_ = sp.Close()
			tear(t, r, dir)
			sp = s.open(t, dir, Limit{Percent: 100})
			p := sp.Position()
			if p.Durable > upTo {
				r.Fatalf("durable up to %s, fed up to %s", p.Durable, upTo)
			}
			s.holdsFrom(t, sp, p)
			s.feed(t, sp, s.end())
			s.holdsFrom(t, sp, Position{Begin: p.Begin, Durable: s.end()})
			_ = sp.Close()
		})
	})
}

func (s sample) holdsFrom(t testing.TB, sp *Spool, p Position) {
	t.Helper()
	first := s
	first.first = wal.SegmentSize(mib).SegmentAt(1, p.Begin)
	first.bytes = s.from(p.Begin)
	first.holds(t, sp, p.Durable)
}

// tear damages the newest partial as a power cut may.
func tear(t testing.TB, r *rapid.T, dir string) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "orders", "*", "*.partial"))
	if err != nil || len(found) == 0 {
		return
	}
	b, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal(err)
	}
	at := rapid.IntRange(0, len(b)).Draw(r, "torn at")
	switch rapid.SampledFrom([]string{"cut", "zeros", "sector", "noise behind"}).Draw(r, "how") {
	case "cut":
		b = b[:at]
	case "zeros":
		b = append(b[:at], make([]byte, mib-at)...)
	case "sector":
		clear(b[at/512*512 : min(len(b), at/512*512+512)])
	default:
		b = append(b, bytes.Repeat([]byte{0xd1}, min(9000, mib-len(b)))...)
	}
	if err := os.WriteFile(found[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
}
