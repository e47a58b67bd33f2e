package repository

import (
	"context"
	"fmt"
	"slices"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// timelines lists the timelines that WAL is archived of.
func (c *Cluster) timelines(ctx context.Context) ([]wal.Timeline, error) {
	var out []wal.Timeline
	for _, dir := range []string{c.key.walDir(), c.key.indexDir()} {
		for info, err := range c.repo.st.List(ctx, dir, "", true) {
			if err != nil {
				return nil, fmt.Errorf("list timelines: %w", err)
			}
			if t, ok := parseTimelineDir(dir, info.Key); ok && info.Prefix {
				out = append(out, t)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// WALRanges tells what WAL is archived, by timeline and position: contiguous whole segments, and in Partial how far a part of the next
// segment reaches. A range may be empty but for its Partial. It reads the index, and lists what is newer.
func (c *Cluster) WALRanges(ctx context.Context) ([]state.WALRange, error) {
	w, err := c.lookAtWAL(ctx)
	return w.ranges, err
}

// archivedWAL is what a look at w/ and wx/ shows.
type archivedWAL struct {
	ranges []state.WALRange
	stale  int64 // stored bytes of partials whose segment is archived whole
}

func (c *Cluster) lookAtWAL(ctx context.Context) (archivedWAL, error) {
	z, err := c.segmentSize(ctx)
	if err != nil {
		return archivedWAL{}, err
	}
	timelines, err := c.timelines(ctx)
	if err != nil {
		return archivedWAL{}, err
	}
	var out archivedWAL
	for _, t := range timelines {
		views, err := c.survey(ctx, t, z)
		if err != nil {
			return archivedWAL{}, err
		}
		ranges, stale, err := c.ranges(ctx, t, z, views)
		if err != nil {
			return archivedWAL{}, err
		}
		out.ranges = append(out.ranges, ranges...)
		for _, o := range stale {
			out.stale += o.size
		}
	}
	return out, nil
}

// ranges joins the logs of a timeline and tells which partials are of archived segments.
func (c *Cluster) ranges(ctx context.Context, t wal.Timeline, z wal.SegmentSize, views []logView) (out []state.WALRange, stale []listed, err error) {
	var runs []run
	reach := map[uint64]wal.LSN{} // of the longest partial, by segment
	var partials []listed
	for _, v := range views {
		more, err := c.runs(ctx, v, z)
		if err != nil {
			return nil, nil, err
		}
		runs = join(runs, more...)
		partials = append(partials, v.partials...)
	}
	for _, p := range partials {
		if holds(runs, p.Segment.Number) {
			stale = append(stale, p)
			continue
		}
		end := p.Segment.Start(z) + wal.LSN(p.Offset)
		reach[p.Segment.Number] = max(reach[p.Segment.Number], end)
	}
	for _, r := range runs {
		w := state.WALRange{
			Range: wal.Range{Timeline: t, From: wal.Segment{Number: r.first}.Start(z), To: wal.Segment{Number: r.last}.End(z)},
			Bytes: r.bytes, FirstCommit: r.firstCommit, LastCommit: r.lastCommit, Partial: reach[r.last+1],
		}
		delete(reach, r.last+1)
		out = append(out, w)
	}
	for number, end := range reach {
		start := wal.Segment{Number: number}.Start(z)
		out = append(out, state.WALRange{Range: wal.Range{Timeline: t, From: start, To: start}, Partial: end})
	}
	slices.SortFunc(out, func(a, b state.WALRange) int { return compareRanges(a.Range, b.Range) })
	return out, stale, nil
}

// holds tells whether a segment is in one of the runs, which are in order.
func holds(runs []run, number uint64) bool {
	_, ok := slices.BinarySearchFunc(runs, number, func(r run, n uint64) int {
		switch {
		case r.last < n:
			return -1
		case r.first > n:
			return 1
		}
		return 0
	})
	return ok
}

// DurableEnd tells where the newest stretch of archived WAL of a timeline ends, partials included; zero: there is none. Holes before that
// stretch are WAL that was pruned or is recorded as a gap, because segments are put in order.
func (c *Cluster) DurableEnd(ctx context.Context, t wal.Timeline) (wal.LSN, error) {
	z, err := c.segmentSize(ctx)
	if err != nil {
		return 0, err
	}
	views, err := c.survey(ctx, t, z)
	if err != nil {
		return 0, err
	}
	ranges, _, err := c.ranges(ctx, t, z, views)
	if err != nil || len(ranges) == 0 {
		return 0, err
	}
	newest := ranges[len(ranges)-1]
	return max(newest.To, newest.Partial), nil
}
