package recovery

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/wal"
)

// walOf is a server with segments of a megabyte that it keeps, and a folder for copies of them.
type walOf struct {
	*pgtest.Server
	t          *testing.T
	z          wal.SegmentSize
	system     string
	begin, end wal.LSN // of what it wrote; at the end it switched
	dir        string
}

func newWALOf(t *testing.T, queries ...string) *walOf {
	w := &walOf{t: t, z: 1 << 20, dir: t.TempDir()}
	w.Server = pgtest.Start(t, pgtest.Options{SegmentMB: 1, Settings: map[string]string{"wal_keep_size": "1GB", "wal_level": "logical"}})
	w.system = w.SQL(t, "select system_identifier from pg_control_system()")
	var err error
	w.begin, err = wal.ParseLSN(w.SQL(t, "select pg_current_wal_flush_lsn()"))
	check(t, err)
	for _, q := range queries {
		w.Exec(t, q)
	}
	w.end, err = wal.ParseLSN(w.SQL(t, "select pg_switch_wal()"))
	check(t, err)
	return w
}

// put copies the first n bytes of a segment into a file that has its full length.
func (w *walOf) put(seg wal.Segment, ending string, n int64) string {
	w.t.Helper()
	b, err := os.ReadFile(filepath.Join(w.DataDir, "pg_wal", seg.Name(w.z)))
	check(w.t, err)
	path := filepath.Join(w.dir, seg.Name(w.z)+ending)
	check(w.t, os.WriteFile(path, b[:n], 0o600))
	check(w.t, os.Truncate(path, w.z.Bytes()))
	return path
}

func (w *walOf) route(t wal.Timeline) *routeFile {
	return &routeFile{SegmentSize: w.z, Timeline: t, SystemID: w.system, Path: []wal.Range{{Timeline: 1, From: w.begin, To: w.end}}}
}

// TestUnfinishedSegmentsOfTheSpool asks how far segments reach that were prepared with zeros and did not come to their end: one that
// ends within a record which crosses the border, and one whose last record is a switch.
func TestUnfinishedSegmentsOfTheSpool(t *testing.T) {
	w := newWALOf(t, "create table t as select md5(g::text) from generate_series(1, 40000) g")
	l := local{dir: w.dir, size: w.z, system: w.system}
	reaches := func(seg wal.Segment, n int64) wal.LSN {
		w.put(seg, ".partial", n)
		f, got, err := l.partial(t.Context(), seg)
		check(t, err)
		check(t, f.Close())
		return got
	}
	last := w.z.SegmentAt(1, w.end-1)
	for seg := w.z.SegmentAt(1, w.begin).Next(); seg != last; seg = seg.Next() {
		for _, short := range []int64{1, 9, 17, 33} {
			if got := reaches(seg, w.z.Bytes()-short); got > (seg.End(w.z)-wal.LSN(short)+7)&^7 { // records are aligned
				t.Errorf("%s came up to %d bytes before its end and reaches to %s", seg.Name(w.z), short, got)
			}
		}
	}
	if got := reaches(last, w.z.Offset(w.end)); got != last.End(w.z) {
		t.Errorf("the segment that was switched at %s reaches to %s", w.end, got)
	}
}

// TestOwnSegmentsOfAStandby asks how far segments in a standby's pg_wal reach. Where the stream broke within a record that crosses a
// border, the zeros behind it are no WAL; where it went on into the next segment, all of it came.
func TestOwnSegmentsOfAStandby(t *testing.T) {
	// Records that end in zeros cross some of the borders.
	w := newWALOf(t, "create table t (b bytea)", "alter table t alter b set storage external", "insert into t select decode(repeat('00', 1500), 'hex') from generate_series(1, 4000)")
	route, last, doubtful := w.route(3), w.z.SegmentAt(1, w.end-1), 0
	for seg := w.z.SegmentAt(1, w.begin).Next(); seg != last; seg = seg.Next() {
		name, end := seg.Name(w.z), seg.End(w.z)
		own := w.put(seg, "", w.z.Bytes())
		whole, err := endOf(own, route, seg)
		check(t, err)
		begun := w.put(seg.Next(), "", 4096)
		if next, err := endOf(own, route, seg); err != nil || next != end {
			t.Errorf("%s is whole, and the next has begun, but it reaches to %s only: %v", name, next, err)
		}
		if whole == end {
			continue
		}
		doubtful++
		later := filepath.Join(w.dir, wal.Segment{Timeline: 2, Number: seg.Number + 1}.Name(w.z)) // as after a restore over a failover
		check(t, os.Rename(begun, later))
		if next, err := endOf(own, route, seg); err != nil || next != end {
			t.Errorf("%s is whole, and the next has begun on a later timeline, but it reaches to %s only: %v", name, next, err)
		}
		check(t, os.Remove(later))
		short := *route
		short.Path = []wal.Range{{Timeline: 1, From: w.begin, To: end}}
		if last, err := endOf(own, &short, seg); err != nil || last != end {
			t.Errorf("%s is the last of the route, but it reaches to %s only: %v", name, last, err)
		}
		w.put(seg, "", w.z.Bytes()-100) // these bytes were zeros, but this was never received
		if short, err := endOf(own, route, seg); err != nil || short > whole {
			t.Errorf("%s lacks bytes and reaches to %s: %v", name, short, err)
		}
		w.put(seg, "", w.z.Bytes()) // the segment before the next one
	}
	if doubtful == 0 {
		t.Error("no border is crossed by zeros: this has shown nothing")
	}
}

// TestAHoleInAStandbysOwnSegment: of a long record that crosses borders a page is not on the standby's disk, as after a power cut.
func TestAHoleInAStandbysOwnSegment(t *testing.T) {
	w := newWALOf(t, "create table before ()", "select pg_logical_emit_message(false, 'x', repeat('y', 2500000))", "create table after ()")
	route, first, last := w.route(1), w.z.SegmentAt(1, w.begin), w.z.SegmentAt(1, w.end-1)
	for seg := first; seg != last.Next(); seg = seg.Next() {
		w.put(seg, "", w.z.Bytes())
	}
	for seg := first; seg != last.Next(); seg = seg.Next() {
		own := filepath.Join(w.dir, seg.Name(w.z))
		if end, err := endOf(own, route, seg); err != nil || end != seg.End(w.z) {
			t.Errorf("%s is whole and reaches to %s: %v", seg.Name(w.z), end, err)
		}
	}
	f, err := os.OpenFile(filepath.Join(w.dir, last.Name(w.z)), os.O_RDWR, 0)
	check(t, err)
	defer f.Close()
	_, err = f.WriteAt(make([]byte, 4096), 10*wal.PageSize+4096)
	check(t, err)
	if end, err := endOf(f.Name(), route, last); err != nil || end > last.Start(w.z)+10*wal.PageSize+4096 {
		t.Errorf("%s has a hole and reaches to %s: %v", last.Name(w.z), end, err)
	}
}
