package recovery

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/wal"
)

// TestUnfinishedSegmentsOfTheSpool asks how far segments reach that were prepared with zeros and did not come to their end: one that
// ends within a record which crosses the border, and one whose last record is a switch.
func TestUnfinishedSegmentsOfTheSpool(t *testing.T) {
	const z = wal.SegmentSize(1 << 20)
	srv := pgtest.Start(t, pgtest.Options{SegmentMB: 1, Settings: map[string]string{"wal_keep_size": "1GB"}})
	begin, err := wal.ParseLSN(srv.SQL(t, "select pg_current_wal_flush_lsn()"))
	check(t, err)
	srv.Exec(t, "create table t as select md5(g::text) from generate_series(1, 40000) g")
	end, err := wal.ParseLSN(srv.SQL(t, "select pg_switch_wal()"))
	check(t, err)
	l := local{dir: t.TempDir(), size: z, system: srv.SQL(t, "select system_identifier from pg_control_system()")}
	reaches := func(seg wal.Segment, n int64) wal.LSN {
		b, err := os.ReadFile(filepath.Join(srv.DataDir, "pg_wal", seg.Name(z)))
		check(t, err)
		path := filepath.Join(l.dir, seg.Name(z)+".partial")
		check(t, os.WriteFile(path, b[:n], 0o600))
		check(t, os.Truncate(path, z.Bytes()))
		f, got, err := l.partial(t.Context(), seg)
		check(t, err)
		check(t, f.Close())
		return got
	}
	last := z.SegmentAt(1, end-1)
	for seg := z.SegmentAt(1, begin).Next(); seg != last; seg = seg.Next() {
		for _, short := range []int64{1, 9, 17, 33} {
			if got := reaches(seg, z.Bytes()-short); got > (seg.End(z)-wal.LSN(short)+7)&^7 { // records are aligned
				t.Errorf("%s came up to %d bytes before its end and reaches to %s", seg.Name(z), short, got)
			}
		}
	}
	if got := reaches(last, z.Offset(end)); got != last.End(z) {
		t.Errorf("the segment that was switched at %s reaches to %s", end, got)
	}
}

// TestOwnSegmentsOfAStandby asks how far segments in a standby's pg_wal reach. Where the stream broke within a record that crosses a
// border, the zeros behind it are no WAL; where it went on into the next segment, all of it came.
func TestOwnSegmentsOfAStandby(t *testing.T) {
	const z = wal.SegmentSize(1 << 20)
	srv := pgtest.Start(t, pgtest.Options{SegmentMB: 1, Settings: map[string]string{"wal_keep_size": "1GB"}})
	begin, err := wal.ParseLSN(srv.SQL(t, "select pg_current_wal_flush_lsn()"))
	check(t, err)
	// Records that end in zeros cross some of the borders.
	srv.Exec(t, "create table t (b bytea); alter table t alter b set storage external; insert into t select decode(repeat('00', 1500), 'hex') from generate_series(1, 4000)")
	end, err := wal.ParseLSN(srv.SQL(t, "select pg_switch_wal()"))
	check(t, err)
	route := &routeFile{SegmentSize: z, Timeline: 3, SystemID: srv.SQL(t, "select system_identifier from pg_control_system()"), Path: []wal.Range{{Timeline: 1, From: begin, To: end}}}
	dir := t.TempDir()
	put := func(seg wal.Segment, n int64) string {
		b, err := os.ReadFile(filepath.Join(srv.DataDir, "pg_wal", seg.Name(z)))
		check(t, err)
		path := filepath.Join(dir, seg.Name(z))
		check(t, os.WriteFile(path, b[:n], 0o600))
		check(t, os.Truncate(path, z.Bytes()))
		return path
	}
	last, doubtful := z.SegmentAt(1, end-1), 0
	for seg := z.SegmentAt(1, begin).Next(); seg != last; seg = seg.Next() {
		own := put(seg, z.Bytes())
		whole, err := endOf(own, route, seg)
		check(t, err)
		begun := put(seg.Next(), 4096)
		next, err := endOf(own, route, seg)
		check(t, err)
		if next != seg.End(z) {
			t.Errorf("%s is whole, and the next has begun, but it reaches to %s only", seg.Name(z), next)
		}
		if whole == next {
			continue
		}
		doubtful++
		later := wal.Segment{Timeline: 2, Number: seg.Number + 1} // as after a restore over a failover
		check(t, os.Rename(begun, filepath.Join(dir, later.Name(z))))
		if next, err := endOf(own, route, seg); err != nil || next != seg.End(z) {
			t.Errorf("%s is whole, and the next has begun on a later timeline, but it reaches to %s only: %v", seg.Name(z), next, err)
		}
		check(t, os.Remove(filepath.Join(dir, later.Name(z))))
		short := *route
		short.Path = []wal.Range{{Timeline: 1, From: begin, To: seg.End(z)}}
		if last, err := endOf(own, &short, seg); err != nil || last != seg.End(z) {
			t.Errorf("%s is the last of the route, but it reaches to %s only: %v", seg.Name(z), last, err)
		}
		put(seg, z.Bytes()-100) // these bytes were zeros, but this was never received
		if short, err := endOf(own, route, seg); err != nil || short > whole {
			t.Errorf("%s lacks bytes and reaches to %s: %v", seg.Name(z), short, err)
		}
	}
	if doubtful == 0 {
		t.Error("no border is crossed by zeros: this has shown nothing")
	}
}
