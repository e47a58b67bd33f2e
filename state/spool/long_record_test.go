package spool

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/host/hosttest"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/wal"
)

// longWAL is WAL of a server with a record that begins in the first segment and ends in the third.
func longWAL(t *testing.T) sample {
	t.Helper()
	srv := pgtest.Start(t, pgtest.Options{SegmentMB: 1, Settings: map[string]string{"wal_keep_size": "1GB", "wal_level": "logical"}})
	srv.SQL(t, "select pg_switch_wal()")
	begin, err := wal.ParseLSN(srv.SQL(t, "select pg_current_wal_insert_lsn()"))
	if err != nil {
		t.Fatal(err)
	}
	srv.Exec(t, "select pg_logical_emit_message(false, 'x', repeat('y', 2500000))")
	srv.Exec(t, "create table t as select md5(g::text) from generate_series(1, 40000) g")
	srv.Exec(t, "select pg_switch_wal()")
	s := sample{system: srv.SQL(t, "select system_identifier from pg_control_system()"), first: wal.SegmentSize(mib).SegmentAt(1, begin)}
	for seg, i := s.first, 0; i < 4; seg, i = seg.Next(), i+1 {
		b, err := os.ReadFile(filepath.Join(srv.DataDir, "pg_wal", seg.Name(mib)))
		if err != nil {
			t.Fatal(err)
		}
		s.bytes = append(s.bytes, b...)
	}
	srv.Stop(t, "immediate")
	return s
}

// life has a spool take WAL up to l, the repositories hold the first segments, and something happen to its files before it is opened again.
func (s sample) life(t *testing.T, upTo wal.LSN, archived int, between func(*Spool)) *Spool {
	t.Helper()
	dir := t.TempDir()
	sp := s.open(t, dir, Limit{})
	s.feed(t, sp, upTo)
	for seg := s.first; archived > 0; seg, archived = seg.Next(), archived-1 {
		if err := sp.Done(seg); err != nil {
			t.Fatal(err)
		}
	}
	if err := sp.Close(); err != nil {
		t.Fatal(err)
	}
	between(sp)
	sp = s.open(t, dir, Limit{})
	t.Cleanup(func() {
		if err := sp.Close(); err != nil {
			t.Error(err)
		}
	})
	return sp
}

// damage puts bytes into a file.
func damage(t *testing.T, path string, b []byte, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

// TestAHoleInALongRecord: the power fails while a record comes that began two segments ago, and of the partial a later page is on disk, but
// an earlier one is not. The record's checksum tells, also where the segments before are archived: the hole comes again.
func TestAHoleInALongRecord(t *testing.T) {
	s := longWAL(t)
	third := s.first.Next().Next()
	for archived := range 3 {
		sp := s.life(t, third.Start(mib)+900_000, archived, func(sp *Spool) { s.hole(t, sp, third) }) // a little behind the record's end
		s.feed(t, sp, third.End(mib))
		got, err := os.ReadFile(sp.path(third, ""))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, s.from(third.Start(mib))[:mib]) {
			t.Errorf("with %d segments archived: the completed segment is not what the server sent", archived)
		}
	}
}

// TestALongRecordIsTheLast: a long record, a commit of many subtransactions, was acknowledged and nothing follows it.
func TestALongRecordIsTheLast(t *testing.T) {
	s := longWAL(t)
	third := s.first.Next().Next()
	var end wal.LSN
	for _, e := range s.records(t) {
		if end = e; e > third.Start(mib) {
			break
		}
	}
	for archived := range 3 {
		if p := s.life(t, end, archived, func(*Spool) {}).Position(); p.Proven != end {
			t.Errorf("with %d segments archived: %+v, acknowledged was %s", archived, p, end)
		}
	}
}

// TestALongRecordThatNothingChecks is the last, and its beginning gave way to the disk, or a segment before is damaged. It stays, and is told.
func TestALongRecordThatNothingChecks(t *testing.T) {
	s := longWAL(t)
	third := s.first.Next().Next()
	var end wal.LSN
	for _, e := range s.records(t) {
		if end = e; e > third.Start(mib) {
			break
		}
	}
	for name, between := range map[string]func(*Spool){
		"no beginning": func(sp *Spool) {
			if err := sp.removeProofs(); err != nil {
				t.Fatal(err)
			}
		},
		"rot": func(sp *Spool) {
			damage(t, sp.path(s.first.Next(), doneSuffix), []byte{1}, 50*wal.PageSize+4096)
		},
	} {
		sp := s.life(t, end, 2, between)
		if p := sp.Position(); p.Unchecked != end || p.Proven != third.Start(mib) {
			t.Errorf("%s: %+v, acknowledged was %s", name, p, end)
		}
		if got, err := os.ReadFile(sp.path(third, partialSuffix)); err != nil || !bytes.Equal(got, s.from(third.Start(mib))[:len(got)]) || len(got) != int(end-third.Start(mib)) {
			t.Errorf("%s: %d bytes are left, %v", name, len(got), err)
		}
		s.feed(t, sp, third.Start(mib)+10) // the server dies again
		if fi, err := os.Stat(sp.path(third, partialSuffix)); err != nil || fi.Size() < int64(end-third.Start(mib)) {
			t.Errorf("%s: after ten bytes came again %d are left, %v", name, fi.Size(), err)
		}
		s.feed(t, sp, third.End(mib))
		if got, err := os.ReadFile(sp.path(third, "")); err != nil || !bytes.Equal(got, s.whole(third)) {
			t.Errorf("%s: the completed segment is not what the server sent: %v", name, err)
		}
	}
}

// TestDoneKeepsTheRecordsBeginning, and no longer than the record goes on.
func TestDoneKeepsTheRecordsBeginning(t *testing.T) {
	s := longWAL(t)
	sp := s.open(t, t.TempDir(), Limit{})
	s.feed(t, sp, s.end())
	seg := s.first
	for done, kept := range []int{1, 2, 1} { // the record ends in the third, and others cross its end
		if err := sp.Done(seg); err != nil {
			t.Fatal(err)
		}
		w, err := sp.Work()
		if err != nil || len(w.Before) != kept {
			t.Errorf("after %d segments were archived %d are kept: %v, %v", done+1, len(w.Before), w.Before, err)
		}
		seg = seg.Next()
	}
	if err := sp.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestRotBeforeAPartial: a segment before is damaged, which the repositories may hold soundly. What was acknowledged behind it stays, and
// is not taken for proven.
func TestRotBeforeAPartial(t *testing.T) {
	s := longWAL(t)
	third := s.first.Next().Next()
	upTo := third.Start(mib) + 900_000
	for _, rotten := range []wal.Segment{s.first, s.first.Next()} {
		sp := s.life(t, upTo, 0, func(sp *Spool) { damage(t, sp.path(rotten, ""), []byte{1}, 50*wal.PageSize+4096) })
		p := sp.Position()
		if p.Durable < upTo-1000 || p.Proven != third.Start(mib) || p.Unchecked != p.Durable {
			t.Errorf("rot in %s: %+v, received was up to %s", rotten.Name(mib), p, upTo)
		}
		if fi, err := os.Stat(sp.path(third, partialSuffix)); err != nil || fi.Size() < 899_000 {
			t.Errorf("rot in %s: of the partial %d bytes are left, %v", rotten.Name(mib), fi.Size(), err)
		}
	}
}

// whole gives the bytes of a segment of the sample.
func (s sample) whole(seg wal.Segment) []byte { return s.from(seg.Start(mib))[:mib] }

// hole is damage to a partial within the record that crosses into it, as a power cut leaves it.
func (s sample) hole(t *testing.T, sp *Spool, seg wal.Segment) {
	t.Helper()
	damage(t, sp.path(seg, partialSuffix), make([]byte, 4096), 10*wal.PageSize+4096)
}

// TestAHoleBehindASeed: the spool begins, as after a takeover, with a segment that lies within a record. Nothing at hand checks where that
// ends, so that it comes again.
func TestAHoleBehindASeed(t *testing.T) {
	s := longWAL(t)
	second, third := s.first.Next(), s.first.Next().Next()
	dir := t.TempDir()
	sp := s.open(t, dir, Limit{})
	if err := sp.Seed(second, second.End(mib), bytes.NewReader(s.whole(second))); err != nil {
		t.Fatal(err)
	}
	s.feed(t, sp, third.Start(mib)+900_000)
	if err := sp.Close(); err != nil {
		t.Fatal(err)
	}
	s.hole(t, sp, third)
	sp = s.open(t, dir, Limit{})
	defer sp.Close()
	s.feed(t, sp, third.End(mib))
	if got, err := os.ReadFile(sp.path(third, "")); err != nil || !bytes.Equal(got, s.whole(third)) {
		t.Errorf("the completed segment is not what the server sent: %v", err)
	}
}

// TestAPartialOfAnotherCluster is left alone by the segment before it, and comes again.
func TestAPartialOfAnotherCluster(t *testing.T) {
	s := longWAL(t)
	third := s.first.Next().Next()
	sp := s.life(t, third.Start(mib)+900_000, 0, func(sp *Spool) {
		damage(t, sp.path(third, partialSuffix), []byte{0x06, 0xD1}, 0)              // the magic of 13
		damage(t, sp.path(third, partialSuffix), []byte{1, 2, 3, 4, 5, 6, 7, 8}, 24) // the system identifier
	})
	if p := sp.Position(); p.Durable != third.Start(mib) {
		t.Errorf("%+v", p)
	}
}

// TestALongRecordOnASmallDisk: everything is archived at once, but all segments of the record would not fit.
func TestALongRecordOnASmallDisk(t *testing.T) {
	s := longWAL(t)
	sp := s.open(t, filepath.Join(hosttest.Tmpfs(t, 2700), "spool"), Limit{Percent: 100})
	defer sp.Close()
	at := s.start()
	for range 6 {
		var completed []wal.Segment
		w, err := sp.Writer(1, at, func(seg wal.Segment) { completed = append(completed, seg) })
		if err != nil {
			t.Fatal(err)
		}
		_ = w.Write(at, s.from(at)[:min(int(s.end()-at), mib+1000)]) // the disk may be full: what came is archived, and the rest comes again
		_ = w.Close()
		for _, seg := range completed {
			if err := sp.Done(seg); err != nil {
				t.Fatal(err)
			}
		}
		at = max(sp.Position().Resume, s.start())
	}
	if p := sp.Position(); p.Durable < s.end() {
		t.Errorf("everything is archived, and the stream stays at %s of %s: %v", p.Durable, s.end(), sp.CheckRoom())
	}
}

// TestProofsMakeRoom: somebody fills the disk while segments of a record are kept beside the last that is archived.
func TestProofsMakeRoom(t *testing.T) {
	s := longWAL(t)
	third := s.first.Next().Next()
	dir := hosttest.Tmpfs(t, 9<<10)
	sp := s.open(t, filepath.Join(dir, "spool"), Limit{Percent: 100})
	defer sp.Close()
	s.feed(t, sp, third.Start(mib)+900_000)
	for _, seg := range []wal.Segment{s.first, s.first.Next()} {
		if err := sp.Done(seg); err != nil {
			t.Fatal(err)
		}
	}
	kept := func() int {
		w, err := sp.Work()
		if err != nil {
			t.Fatal(err)
		}
		return len(w.Before)
	}
	if n := kept(); n != 2 {
		t.Fatalf("%d segments are kept, want the record's", n)
	}
	fill := func(name string) {
		_ = os.WriteFile(filepath.Join(dir, name), make([]byte, 9<<20), 0o600) // as much as fits
	}
	fill("one")
	if err := sp.CheckRoom(); err != nil || kept() != 1 {
		t.Errorf("%d segments are kept: %v", kept(), err)
	}
	fill("two")
	if err := sp.CheckRoom(); state.CodeOf(err) != state.CodeDiskFull {
		t.Errorf("a full disk: %v", err)
	}
}

// TestAFullQuotaMakesRoom: a write finds no room although the file system says that there is some.
func TestAFullQuotaMakesRoom(t *testing.T) {
	s := longWAL(t)
	third := s.first.Next().Next()
	for _, c := range []struct {
		why  error
		kept int
	}{{unix.EDQUOT, 1}, {unix.EIO, 2}} {
		sp := s.life(t, third.Start(mib)+100_000, 2, func(*Spool) {})
		w, err := sp.Writer(1, sp.Position().Resume, func(wal.Segment) {})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.fail("write segment", c.why, false); err == nil {
			t.Fatal("it goes on")
		}
		if got, err := sp.Work(); err != nil || len(got.Before) != c.kept {
			t.Errorf("after %v %d segments are kept: %v", c.why, len(got.Before), err)
		}
	}
}
