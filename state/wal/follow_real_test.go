package wal_test

import (
	"bytes"
	"fmt"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/wal"
)

// deedIs is what a deed says, without what differs from run to run.
type deedIs struct {
	Kind      wal.DeedKind
	Relations int
	Rows      int
	Unsure    bool
}

// TestDeeds has transactions destroy things in every way, and asks the WAL which of them did what.
func TestDeeds(t *testing.T) {
	for _, v := range pgtest.SomeVersions(t, 13, 15, 18) {
		t.Run(fmt.Sprint(v), func(t *testing.T) {
			t.Parallel()
			s := newSource(t, v, 1, "on")
			s.Exec(t, "create table victim as select g as n, md5(g::text) from generate_series(1, 500) g; create index on victim (n)")
			s.Exec(t, "create table other as select 1 n; create table third (n int)")
			s.Exec(t, "create table emptied as select generate_series(1, 3) n; create table thinned as select generate_series(1, 700) n")
			s.Exec(t, "create database gone")
			s.Exec(t, "checkpoint")
			from := s.switched(t)
			s.Exec(t, "checkpoint") // tells which transactions run
			s.Exec(t, "insert into other values (2)")
			s.Exec(t, "begin; savepoint a; drop table victim; release a; commit")
			s.Exec(t, "truncate emptied")
			s.Exec(t, "begin; delete from thinned where n > 600; savepoint b; delete from thinned where n > 500; release b; commit")
			s.Exec(t, "begin; drop table other; rollback")
			s.Exec(t, "delete from thinned where n > 490")
			s.Exec(t, "vacuum full thinned")
			s.Exec(t, "begin; savepoint a; drop table other; release a; prepare transaction 'a drop'")
			s.Exec(t, "begin; drop table third; prepare transaction 'no drop'")
			s.SQL(t, "select pg_logical_emit_message(true, 'x', repeat('0123456789', 350000))")
			s.Stop(t, "fast")
			s.StartAgain(t)
			s.Exec(t, "commit prepared 'a drop'")
			s.Exec(t, "rollback prepared 'no drop'")
			s.Exec(t, "drop database gone")
			end := s.switched(t)

			var got, summed []deedIs
			var deeds []wal.Deed
			var prepared []string
			for _, sum := range s.follow(t, from, end, func(d wal.Deed) { deeds = append(deeds, d) }) {
				if !sum.Followed || sum.MoreDeeds {
					t.Errorf("a segment was lost sight of: %+v", sum)
				}
				for _, d := range sum.Deeds {
					summed = append(summed, deedIs{d.Kind, len(d.Relations), d.Rows, d.Unsure})
				}
				for _, p := range sum.Prepared {
					prepared = append(prepared, p.Kind+" "+p.GID)
				}
			}
			for _, d := range deeds {
				got = append(got, deedIs{d.Kind, len(d.Relations), d.Rows, d.Unsure})
				if d.Stop == 0 || d.Stop >= d.LSN || d.Before == nil || d.Before.LSN > d.Stop || d.Time.IsZero() || d.XID == 0 {
					t.Errorf("%+v", d)
				}
			}
			want := []deedIs{
				{wal.DeedDrop, 4, 0, false},
				{wal.DeedTruncate, 1, 0, false},
				{wal.DeedDelete, 1, 200, false},
				{wal.DeedReplace, 1, 0, false},
				{wal.DeedDrop, 1, 0, false},
				{wal.DeedDropDatabase, 1, 0, false},
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("deeds (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(want, summed); diff != "" {
				t.Errorf("deeds of the summaries (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff([]string{"prepare a drop", "prepare no drop", "commit a drop", "abort no drop"}, prepared); diff != "" {
				t.Errorf("prepared transactions (-want +got):\n%s", diff)
			}
		})
	}
}

// follow reads the WAL from one position to another and follows its transactions.
func (s source) follow(tb testing.TB, from, end wal.LSN, visit func(wal.Deed)) (sums []wal.Summary) {
	tb.Helper()
	scanner := wal.NewScanner(s.size, s.systemID, 1)
	scanner.Follow(wal.FollowOptions{Visit: func(d wal.Deed) error { visit(d); return nil }})
	for seg := s.size.SegmentAt(1, from); seg.Start(s.size) < end; seg = seg.Next() {
		b, err := os.ReadFile(s.path(seg))
		if err != nil {
			tb.Fatal(err)
		}
		sum, err := scanner.Segment(seg, bytes.NewReader(b), nil)
		if err != nil {
			tb.Fatal(err)
		}
		sums = append(sums, sum)
	}
	return sums
}
