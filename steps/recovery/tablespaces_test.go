package recovery

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/wal"
)

// TestAReplayedTablespaceSparesTheOrigins: PostgreSQL replays CREATE TABLESPACE where the origin had it, and removes what is
// there. On the origin's machine such WAL is not handed out; where the directory is empty it is.
func TestAReplayedTablespaceSparesTheOrigins(t *testing.T) {
	w := newWorld(t, 15, nil)
	w.commit(1)
	backup := w.take()
	later := w.Dir(t, "later")
	sooner := w.commit(3)
	w.Exec(t, "create tablespace later location '"+later+"'")
	w.Exec(t, "create table precious tablespace later as select generate_series(1, 1000) i")
	w.commit(2)
	w.archive(1)
	w.Exec(t, "checkpoint")
	w.Stop(t, "fast")
	target := hclspec.Target{Latest: true}
	o := w.options(w.route(target, w.target(target), backup))
	_, err := Restore(t.Context(), o)
	check(t, err)
	dir, before := o.Route.Destination.Path, listing(t, later)
	w.recoversTo(sooner, backup)
	s, err := pgtest.TryStartDir(t, w.Version, dir, pgtest.Options{Version: w.Version})
	if err == nil { // it may answer before it gets there
		select {
		case <-s.Done():
		case <-time.After(10 * time.Minute):
			t.Fatalf("it did not end:\n%s", s.Log())
		}
	}
	if got := listing(t, later); got != before {
		t.Fatalf("the origin's tablespace was %s\nand is %s\n%s", before, got, s.Log())
	}
	if !strings.Contains(s.Log(), later) || !strings.Contains(s.Log(), "which may be the origin's") {
		t.Errorf("the log does not say why:\n%s", s.Log())
	}
	check(t, os.Rename(later, later+".away"))
	check(t, os.Mkdir(later, 0o700))
	giveToServer(t, later)
	s = pgtest.StartDir(t, w.Version, dir, pgtest.Options{Version: w.Version})
	awaitPromotion(t, s)
	if got := rows(t, s) + " " + s.SQL(t, "select count(*) from precious"); got != "1 2 3 1000" {
		t.Errorf("the copy has %q", got)
	}
	s.Stop(t, "fast")
}

// recoversTo recovers to before the tablespace, in the same segment: nobody stands in the way of that.
func (w *world) recoversTo(sooner state.Commit, backup string) {
	t := w.t
	t.Helper()
	target := hclspec.Target{XID: sooner.XID, Inclusive: true, Action: "promote"}
	s := w.restore(w.route(target, w.target(target), backup))
	awaitPromotion(t, s)
	if got := rows(t, s); got != "1 3" {
		t.Errorf("before the tablespace it has %q", got)
	}
	s.Stop(t, "fast")
}

// TestATablespaceAcrossTwoSegments: the record begins in one segment and ends in the next. Where all WAL is copied beforehand,
// the restore itself refuses it.
func TestATablespaceAcrossTwoSegments(t *testing.T) {
	w := newWorld(t, 15, nil)
	backup := w.take()
	later := w.createAcross()
	w.commit(1)
	w.archive(1)
	target := hclspec.Target{Latest: true}
	o := w.options(w.route(target, w.target(target), backup))
	o.Route.Destination.WAL = "copy"
	before := listing(t, later)
	_, err := Restore(t.Context(), o)
	if err == nil || !strings.Contains(err.Error(), "creates tablespace") {
		t.Errorf("it was restored: %v", err)
	}
	if got := listing(t, later); got != before {
		t.Error("something was changed")
	}
}

// createAcross creates a tablespace whose record begins in one segment and ends in the next, and gives where. How far from its
// beginning the statement writes that record is measured; what was tried is dropped, and leaves an empty directory.
func (w *world) createAcross() (location string) {
	t := w.t
	t.Helper()
	var far, length int64
	for n := range 20 {
		location = w.Dir(t, fmt.Sprintf("later%02d", n)+strings.Repeat("r", 200)) // a long record is hit more easily
		if n > 0 {
			w.fillUpTo(far + length/2)
		}
		before := w.lsn("select pg_current_wal_insert_lsn()")
		w.Exec(t, "create tablespace later location '"+location+"'")
		record := w.lastTablespace()
		if n > 0 && w.size.SegmentAt(1, record.Start) != w.size.SegmentAt(1, record.End-1) {
			return location
		}
		far, length = int64(record.Start-before), int64(record.End-record.Start)
		w.Exec(t, "drop tablespace later")
	}
	t.Fatal("no record lay across two segments")
	return ""
}

// fillUpTo writes WAL until so many bytes are left in the segment.
func (w *world) fillUpTo(left int64) {
	const overhead = 90 // of a message's record at most, with the header of a page
	for {
		at := w.lsn("select pg_current_wal_insert_lsn()")
		more := int64(w.size.Ceil(at+1)-at) - left
		if more < 0 { // the next one, then
			more += w.size.Bytes()
		}
		if more <= overhead {
			return
		}
		if more > 1000 {
			more -= max(500, more/50) // for the headers of pages
		}
		w.SQL(w.t, fmt.Sprintf("select pg_logical_emit_message(false, 'x', repeat('x', %d))", more-overhead))
	}
}

// lastTablespace finds the record in what the server has written.
func (w *world) lastTablespace() (last wal.Tablespace) {
	t := w.t
	t.Helper()
	id, err := strconv.ParseUint(w.systemID, 10, 64)
	check(t, err)
	scan := wal.NewScanner(w.size, id, 1)
	scan.EachTablespace(func(x wal.Tablespace) error { last = x; return nil })
	end := w.lsn("select pg_current_wal_flush_lsn()")
	for seg := w.size.SegmentAt(1, end-2*wal.LSN(w.size)); seg.Start(w.size) < end; seg = seg.Next() {
		f, err := os.Open(filepath.Join(w.DataDir, "pg_wal", seg.Name(w.size)))
		if errors.Is(err, fs.ErrNotExist) {
			continue // before its first
		}
		check(t, err)
		_, _ = scan.Segment(seg, f, nil) // the last one ends in the middle
		check(t, f.Close())
	}
	return last
}

func TestGuardAllows(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	check(t, os.MkdirAll(filepath.Join(dir, "pg_tblspc"), 0o700))
	empty, full, made := t.TempDir(), t.TempDir(), t.TempDir()
	for _, d := range []string{full, made} {
		check(t, os.Mkdir(filepath.Join(d, "PG_15_202209061"), 0o700))
	}
	check(t, os.Symlink(made, filepath.Join(dir, "pg_tblspc", "7")))
	check(t, os.Symlink("/elsewhere", filepath.Join(dir, "pg_tblspc", "8")))
	g := guard{dataDir: dir}
	for _, c := range []struct {
		oid      uint32
		location string
		ok       bool
	}{
		{5, empty, true},
		{5, "pg_tblspc/5", true},
		{7, made, true}, // by this recovery, before it was interrupted
		{7, full, false},
		{8, full, false},
		{5, full, false},
		{5, filepath.Join(empty, "absent"), false},
	} {
		if err := g.allows(wal.Tablespace{OID: c.oid, Location: c.location}, "x"); (err == nil) != c.ok {
			t.Errorf("%d in %s: %v", c.oid, c.location, err)
		}
	}
}
