package observe

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/wal"
)

// serverArchive is a fake of an archive with a real server's WAL.
type serverArchive struct {
	size     wal.SegmentSize
	segments map[wal.Segment][]byte
	sums     map[wal.Segment]wal.Summary // what the index says; an empty one: nothing
	opened   int
}

func (a *serverArchive) Segment(_ context.Context, seg wal.Segment) (io.ReadCloser, error) {
	b, ok := a.segments[seg]
	if !ok {
		return nil, store.ErrNotExist
	}
	a.opened++
	return io.NopCloser(bytes.NewReader(b)), nil
}

func (a *serverArchive) Summary(_ context.Context, seg wal.Segment) (wal.Summary, error) {
	return a.sums[seg], nil
}

func (a *serverArchive) Summaries(context.Context, wal.Range) iter.Seq2[wal.Segment, wal.Summary] {
	return func(func(wal.Segment, wal.Summary) bool) {}
}

// destructive makes WAL in which transactions destroy things, also ones that begin segments before they end.
func destructive(t *testing.T, version int) (*serverArchive, state.Cluster) {
	t.Helper()
	s := pgtest.Start(t, pgtest.Options{Version: version, SegmentMB: 1, Settings: map[string]string{
		"max_prepared_transactions": "10", "wal_keep_size": "1GB", "max_wal_size": "1GB", "autovacuum": "off",
	}})
	s.Exec(t, "create table noise (n int); select pg_switch_wal()")
	const long = "select pg_logical_emit_message(true, 'x', repeat('0123456789', 250000))"
	for i := range 6 {
		for _, q := range []string{
			fmt.Sprintf("create table a%d as select generate_series(1, 400) n; create table b%[1]d as select generate_series(1, 400) n; create table c%[1]d (n int)", i),
			"checkpoint",
			"insert into noise values (1)",
			fmt.Sprintf("begin; delete from a%d where n > 350; %s; delete from a%[1]d where n > 100; commit", i, long),
			fmt.Sprintf("truncate b%d", i),
			fmt.Sprintf("begin; truncate c%d; insert into c%[1]d values (1); %s; commit", i, long),
			fmt.Sprintf("begin; drop table a%d; %s; savepoint x; drop table b%[1]d; release x; prepare transaction 'p'", i, long),
			"insert into noise values (2)",
			fmt.Sprintf("select pg_create_restore_point('point %d')", i),
			"commit prepared 'p'",
			"select pg_switch_wal()",
		} {
			s.Exec(t, q)
		}
	}
	s.Exec(t, "create database gone")
	s.Exec(t, "drop database gone")
	s.Exec(t, "insert into noise values (3); select pg_switch_wal(); insert into noise values (4)")
	end, err := wal.ParseLSN(s.SQL(t, "select pg_current_wal_lsn()"))
	if err != nil {
		t.Fatal(err)
	}
	id := s.SQL(t, "select system_identifier from pg_control_system()")
	s.Stop(t, "immediate")
	const size = wal.SegmentSize(1 << 20)
	a := &serverArchive{size: size, segments: map[wal.Segment][]byte{}}
	first := wal.LSN(0)
	for seg := (wal.Segment{Timeline: 1, Number: 1}); seg.Start(size) < end; seg = seg.Next() {
		b, err := os.ReadFile(filepath.Join(s.DataDir, "pg_wal", seg.Name(size)))
		if os.IsNotExist(err) && first == 0 {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if first == 0 {
			first = seg.Start(size)
		}
		a.segments[seg] = b[:min(int(size), int(end-seg.Start(size)))]
	}
	c := state.Cluster{Name: "shop", SystemID: id, Major: version, SegmentSize: size}
	c.WAL = []state.WALRange{{Range: wal.Range{Timeline: 1, From: first, To: size.Floor(end)}, Partial: end}}
	return a, c
}

// index lets the index know what a receiver would have put there that stopped and began again before some segments, and
// forgets what it knows of others.
func (a *serverArchive) index(t *testing.T, c state.Cluster, stops, forgets func() bool) {
	t.Helper()
	a.sums = map[wal.Segment]wal.Summary{}
	id, err := strconv.ParseUint(c.SystemID, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	var scanner *wal.Scanner
	for seg := a.size.SegmentAt(1, c.WAL[0].From); a.segments[seg] != nil; seg = seg.Next() {
		if scanner == nil || stops() || len(a.segments[seg]) < int(a.size) {
			scanner = wal.NewScanner(a.size, id, 1)
			scanner.Follow(wal.FollowOptions{})
		}
		sum, err := scanner.Segment(seg, bytes.NewReader(a.segments[seg]), nil)
		if err != nil {
			t.Fatal(err)
		}
		if forgets() {
			sum.Followed, sum.Deeds, sum.NextXID, sum.Prepared = false, nil, 0, nil // as an earlier release wrote it
		}
		a.sums[seg] = sum
	}
}

func (a *serverArchive) find(t *testing.T, o MomentOptions) (out []state.Moment, read int) {
	t.Helper()
	o.Archive = a
	done, err := Moments(t.Context(), o, func(m state.Moment) error { out = append(out, m); return nil })
	if err != nil {
		t.Fatal(err)
	}
	return out, done.Segments
}

// TestTheIndexTellsWhatTheWALTells searches with an index that knows everything, nothing, or some of it: the answers are
// the same, and where it knows everything no segment is read.
func TestTheIndexTellsWhatTheWALTells(t *testing.T) {
	for _, version := range pgtest.SomeVersions(t, 15) {
		t.Run(strconv.Itoa(version), func(t *testing.T) {
			a, c := destructive(t, version)
			never, always := func() bool { return false }, func() bool { return true }
			deeds := MomentOptions{Cluster: c, Kinds: []state.MomentKind{state.MomentDrop, state.MomentTruncate, state.MomentReplace, state.MomentDelete, state.MomentDropDatabase}, MinRows: 300}
			asks := map[string]MomentOptions{
				"deeds":  deeds,
				"points": {Cluster: c, Kinds: []state.MomentKind{state.MomentRestorePoint}},
				"point":  {Cluster: c, Kinds: []state.MomentKind{state.MomentRestorePoint, state.MomentDrop}, Name: "point 3"},
				"all":    {Cluster: c, Kinds: []state.MomentKind{state.MomentTransaction}},
			}
			a.index(t, c, never, always)
			want := map[string][]state.Moment{}
			for name, o := range asks {
				want[name], _ = a.find(t, o)
			}
			checkDeeds(t, want["deeds"])
			if all := want["all"]; len(all) < 40 || len(want["points"]) != 6 {
				t.Fatalf("%d commits, %d restore points", len(all), len(want["points"]))
			}
			xid := want["deeds"][2].XID
			asks["xid"] = MomentOptions{Cluster: c, Kinds: []state.MomentKind{state.MomentTransaction}, XID: xid}
			want["xid"], _ = a.find(t, asks["xid"])

			a.index(t, c, never, never)
			if got, read := a.find(t, deeds); read > 2 || cmp.Diff(want["deeds"], got) != "" {
				t.Errorf("%d segments were read of %d (-read +index): %s", read, len(a.segments), cmp.Diff(want["deeds"], got))
			}
			if _, read := a.find(t, asks["xid"]); read > 12 {
				t.Errorf("%d segments were read for one transaction", read)
			}
			for round := range 8 {
				r := rand.New(rand.NewPCG(uint64(round), 1))
				a.index(t, c, func() bool { return r.IntN(4) == 0 }, func() bool { return r.IntN(3) == 0 })
				for name, o := range asks {
					if got, _ := a.find(t, o); cmp.Diff(want[name], got) != "" {
						t.Fatalf("round %d, %s (-read +index): %s", round, name, cmp.Diff(want[name], got))
					}
				}
			}
		})
	}
}

// checkDeeds looks at what was found against what was done.
func checkDeeds(t *testing.T, got []state.Moment) {
	t.Helper()
	var kinds []state.MomentKind
	for _, m := range got {
		kinds = append(kinds, m.Kind)
		if m.Before == nil || m.Stop == 0 {
			t.Errorf("%+v", m)
		}
		if m.Kind == state.MomentDelete && m.Rows != 300 {
			t.Errorf("%d rows were deleted: %+v", m.Rows, m)
		}
	}
	var want []state.MomentKind
	for range 6 {
		want = append(want, state.MomentDelete, state.MomentTruncate, state.MomentReplace, state.MomentDrop)
	}
	if diff := cmp.Diff(append(want, state.MomentDropDatabase), kinds); diff != "" {
		t.Fatalf("what was found (-want +got):\n%s", diff)
	}
}
