package repository

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/repository/store/storetest"
	"github.com/pgkeep/pgkeep/state/wal"
)

// pointed gives a segment's summary with n restore points in it, spread evenly.
func pointed(seg wal.Segment, z wal.SegmentSize, n int) wal.Summary {
	s := summaryOf(seg, z)
	for i := range n {
		l := seg.Start(z) + wal.LSN(i+1)*wal.LSN(z)/wal.LSN(n+1)
		s.RestorePoints = append(s.RestorePoints, wal.RestorePoint{Name: fmt.Sprintf("p%d.%d", seg.Number, i), LSN: l, Time: archiveEpoch.Add(time.Duration(l))})
	}
	return s
}

func putPointed(t *testing.T, c *Cluster, seg wal.Segment, z wal.SegmentSize, n int) wal.Summary {
	t.Helper()
	s := pointed(seg, z, n)
	if err := c.PutSegment(t.Context(), seg, s, bytes.NewReader(plainSegment(seg, z))); err != nil {
		t.Fatal(err)
	}
	return s
}

// readCounter counts the objects that are read.
type readCounter struct {
	store.Store
	gets atomic.Int64
}

func (s *readCounter) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	s.gets.Add(1)
	return s.Store.Get(ctx, key, off, n)
}

func stopsAt(t wal.Timeline, stop wal.LSN) state.Backup {
	return state.Backup{State: state.BackupCommitted, Timeline: t, Stop: stop}
}

func pointsOf(t *testing.T, c *Cluster, backups ...state.Backup) *state.RestorePoints {
	t.Helper()
	w, err := c.lookAtWAL(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p, err := c.restorePoints(t.Context(), w.views, backups)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestRestorePointsAreFoundWhereverTheyStand: in the index, in segments that are not indexed yet and in a pushed part; the
// same before and after the index is written, and for a process that remembers nothing.
func TestRestorePointsAreFoundWhereverTheyStand(t *testing.T) {
	c := newArchive(t, storetest.NewMemory(nil), mib)
	for n := uint64(1); n <= 6; n++ {
		putPointed(t, c, wal.Segment{Timeline: 1, Number: n}, mib, int(n%3))
	}
	part := wal.Segment{Timeline: 1, Number: 7}
	half := int64(mib) / 2
	sum := wal.Summary{End: part.Start(mib) + wal.LSN(half), RestorePoints: []wal.RestorePoint{{Name: "part", LSN: part.Start(mib) + 100, Time: archiveEpoch}}}
	if err := c.putWAL(t.Context(), walName{Segment: part, Offset: half}, mib, sum, bytes.NewReader(plainSegment(part, mib)[:half])); err != nil {
		t.Fatal(err)
	}
	backups := []state.Backup{stopsAt(1, 3<<20), stopsAt(1, 7<<20+200)}
	before := pointsOf(t, c, backups...)
	names := map[string]int{}
	for _, s := range before.Stretches {
		names[s.Newest[0].Name] = s.Count
	}
	if d := cmp.Diff(map[string]int{"p2.1": 3, "part": 4}, names); d != "" || before.Unread != 0 {
		t.Errorf("%s; %d unread", d, before.Unread)
	}
	if err := c.WriteIndex(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	for _, again := range []*Cluster{c, reopened(t, c)} {
		if d := cmp.Diff(before, pointsOf(t, again, backups...)); d != "" {
			t.Errorf("indexed (-before +after):\n%s", d)
		}
	}
	if p := pointsOf(t, c, backups[0]); len(p.Stretches) != 1 || p.Stretches[0].Count != 3 {
		t.Errorf("up to the newest backup: %+v", p)
	}
	if p := pointsOf(t, c); len(p.Stretches) != 0 {
		t.Errorf("no backup: %+v", p)
	}
}

// TestRestorePointsReadNoMoreThanTheIndex: a look at an indexed archive costs no object more than its ranges do, and one that is
// not indexed a bounded number, once.
func TestRestorePointsReadNoMoreThanTheIndex(t *testing.T) {
	counted := &readCounter{Store: storetest.NewMemory(nil)}
	c := newArchive(t, counted, mib)
	for n := uint64(1); n <= 300; n++ {
		putPointed(t, c, wal.Segment{Timeline: 1, Number: n}, mib, 1)
	}
	newest := stopsAt(1, 301<<20)
	fresh := reopened(t, c)
	p := pointsOf(t, fresh, newest)
	if p.Unread != 300-maxPointReads || p.Stretches[0].Count != maxPointReads || p.Stretches[0].Newest[0].Name != "p300.0" {
		t.Errorf("not indexed: %+v", p)
	}
	was := counted.gets.Load()
	pointsOf(t, fresh, newest)
	if n := counted.gets.Load() - was; n != 0 {
		t.Errorf("a second look read %d objects", n)
	}
	if err := c.WriteIndex(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	fresh = reopened(t, c)
	was = counted.gets.Load()
	if _, err := fresh.lookAtWAL(t.Context()); err != nil {
		t.Fatal(err)
	}
	ranges := counted.gets.Load() - was
	if p = pointsOf(t, fresh, newest); p.Unread != 0 || p.Stretches[0].Count != 300 {
		t.Errorf("indexed: %+v", p)
	}
	if n := counted.gets.Load() - was - ranges; n != 0 {
		t.Errorf("restore points read %d objects beside the %d of the ranges", n, ranges)
	}
}

// TestRestorePointsStayBounded: a restore point a minute for years, and backups by the thousand, take a few kilobytes, and
// the counts are those of a plain count.
func TestRestorePointsStayBounded(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var runs, log []pointRun
		var points, borders []wal.LSN
		at := wal.LSN(1000)
		for range rng.IntN(3000) {
			at += wal.LSN(1 + rng.IntN(50))
			points = append(points, at)
			log = addPoints(log, wal.Summary{RestorePoints: []wal.RestorePoint{{Name: "p", LSN: at}}}, false)
			if rng.IntN(10) == 0 {
				borders = append(borders, at+wal.LSN(rng.IntN(50)))
			}
			if rng.IntN(200) == 0 {
				runs, log = append(runs, fewPoints(log)...), nil
			}
		}
		runs = append(runs, fewPoints(log)...)
		slices.Sort(borders)
		all := bounded(stretches(1, runs, borders, ^wal.LSN(0)))
		count, named := 0, 0
		for _, s := range all {
			in := 0
			for _, p := range points {
				if s.From < p && p <= s.To {
					in++
				}
			}
			if in < s.Count {
				t.Errorf("%s has %d restore points, and %d were counted", s.Range, in, s.Count)
			}
			count, named = count+s.Count, named+len(s.Newest)
		}
		if count != len(points) || len(all) > maxPoints || named > maxPoints {
			t.Fatalf("%d of %d counted, %d stretches, %d names", count, len(points), len(all), named)
		}
	}
}
