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
