package wal_test

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/wal"
)

// TestChanges compares what the WAL says of drops, truncations and rows with what was done.
func TestChanges(t *testing.T) {
	for _, v := range pgtest.SomeVersions(t, 13, 15, 18) {
		t.Run(fmt.Sprint(v), func(t *testing.T) {
			s := newSource(t, v, 16, "on")
			s.Exec(t, "create table victim as select g as n, md5(g::text) from generate_series(1, 500) g; create index on victim (n)")
			s.Exec(t, "create table emptied as select generate_series(1, 3) n; create table thinned as select generate_series(1, 700) n")
			s.Exec(t, "create database gone")
			files := func(what string) []string {
				return strings.Fields(s.SQL(t, "select pg_relation_filenode(oid) from pg_class where relname like '"+what+"%' or oid in (select reltoastrelid from pg_class where relname = '"+what+"') or oid in (select indexrelid from pg_index join pg_class c on c.oid = indrelid where '"+what+"' in (select relname from pg_class p where p.reltoastrelid = c.oid)) order by 1"))
			}
			gone := s.SQL(t, "select oid from pg_database where datname = 'gone'")
			victim, emptied, thinned := files("victim"), files("emptied"), files("thinned")
			s.switched(t)
			from := s.lsn(t, "select pg_current_wal_insert_lsn()")
			s.Exec(t, "begin; savepoint a; drop table victim; release a; commit")
			s.Exec(t, "truncate emptied")
			s.Exec(t, "begin; delete from thinned where n > 100; savepoint b; delete from thinned where n > 50; release b; commit")
			s.Exec(t, "copy thinned from program 'seq 1 300'")
			s.Exec(t, "drop database gone")
			s.Exec(t, "begin; create table never (n int); rollback")
			end := s.switched(t)

			changes, events := s.changes(t, from, end)
			var dropped [][]string
			subxacts := 0
			for _, e := range events {
				if e.Kind == wal.Commit && len(e.Dropped) > 0 {
					dropped = append(dropped, numbers(e.Dropped))
					subxacts += len(e.Subxacts)
				}
			}
			if diff := cmp.Diff([][]string{victim, emptied}, dropped); diff != "" || subxacts != 1 {
				t.Errorf("commits drop (-want +got), with %d subtransactions:\n%s", subxacts, diff)
			}
			if last := events[len(events)-2]; last.Kind != wal.Abort || len(last.Dropped) != 1 {
				t.Errorf("the abort of a creation: %+v", last)
			}
			rows, databases, made := map[wal.ChangeKind]int{}, []string{}, 0
			for _, c := range changes {
				switch {
				case c.Kind == wal.DatabaseDropped:
					databases = append(databases, fmt.Sprint(c.Relation.Database))
				case c.Kind == wal.FileMade:
					made++
				case slices.Contains(thinned, fmt.Sprint(c.Relation.Number)):
					rows[c.Kind] += c.Rows
				}
			}
			if diff := cmp.Diff(map[wal.ChangeKind]int{wal.RowsDeleted: 650, wal.RowsInserted: 300}, rows); diff != "" {
				t.Errorf("rows of the table that was thinned (-want +got):\n%s", diff)
			}
			if !slices.Equal(databases, []string{gone}) || made < 2 {
				t.Errorf("databases %v were dropped, %s was; %d files were made", databases, gone, made)
			}
		})
	}
}

func numbers(rs []wal.Relation) []string {
	var out []string
	for _, r := range rs {
		out = append(out, fmt.Sprint(r.Number))
	}
	slices.Sort(out)
	return out
}

// changes reads the WAL from one position to another.
func (s source) changes(tb testing.TB, from, end wal.LSN) (changes []wal.Change, events []wal.Event) {
	tb.Helper()
	scanner := wal.NewScanner(s.size, s.systemID, 1)
	scanner.EveryChange(func(c wal.Change) error { changes = append(changes, c); return nil })
	for seg := s.size.SegmentAt(1, from); seg.Start(s.size) < end; seg = seg.Next() {
		b, err := os.ReadFile(s.path(seg))
		if err != nil {
			tb.Fatal(err)
		}
		if _, err := scanner.Segment(seg, bytes.NewReader(b), func(e wal.Event) error { events = append(events, e); return nil }); err != nil {
			tb.Fatal(err)
		}
	}
	return changes, events
}

// TestBlocksOfImages has a table rewritten, which writes records that are nothing but images of pages: each of its pages is
// told once, as written anew.
func TestBlocksOfImages(t *testing.T) {
	for _, v := range pgtest.SomeVersions(t, 13, 15, 18) {
		t.Run(fmt.Sprint(v), func(t *testing.T) {
			s := newSource(t, v, 16, "off")
			s.Exec(t, "create table big as select g as n, md5(g::text) from generate_series(1, 20000) g")
			from := s.switched(t)
			s.Exec(t, "vacuum full big")
			end := s.switched(t)
			file, pages := s.SQL(t, "select pg_relation_filenode('big')"), s.SQL(t, "select pg_relation_size('big') / 8192")
			scanner := wal.NewScanner(s.size, s.systemID, 1)
			told := map[uint32]int{}
			scanner.EveryBlock(func(_ wal.LSN, b wal.Block) error {
				if fmt.Sprint(b.Relation) == file && b.Fork == 0 && b.Whole {
					told[b.Number]++
				}
				return nil
			})
			for seg := s.size.SegmentAt(1, from); seg.Start(s.size) < end; seg = seg.Next() {
				b, err := os.ReadFile(s.path(seg))
				if err != nil {
					t.Fatal(err)
				}
				if _, err := scanner.Segment(seg, bytes.NewReader(b), nil); err != nil {
					t.Fatal(err)
				}
			}
			if fmt.Sprint(len(told)) != pages || told[0] != 1 {
				t.Errorf("%d pages were told of %s; the first %d times", len(told), pages, told[0])
			}
		})
	}
}
