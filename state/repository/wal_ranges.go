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
	views  map[wal.Timeline][]logView
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
	out := archivedWAL{views: map[wal.Timeline][]logView{}}
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
		out.views[t] = views
		for _, o := range stale {
			out.stale += o.size
		}
	}
	return out, nil
}

// ranges joins the logs of a timeline and tells which partials are of archived segments.
func (c *Cluster) ranges(ctx context.Context, t wal.Timeline, z wal.SegmentSize, views []logView) (out []state.WALRange, stale []listed, err error) {
	var runs []run
	longest := map[uint64]listed{} // partial, by segment
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
		if p.Offset > longest[p.Segment.Number].Offset {
			longest[p.Segment.Number] = p
		}
	}
	for _, r := range runs {
		w := state.WALRange{
			Range: wal.Range{Timeline: t, From: wal.Segment{Number: r.first}.Start(z), To: wal.Segment{Number: r.last}.End(z)},
			Bytes: r.bytes, FirstCommit: r.firstCommit, LastCommit: r.lastCommit,
		}
		if p, ok := longest[r.last+1]; ok {
			if w, err = c.extend(ctx, w, p, z); err != nil {
				return nil, nil, err
			}
			delete(longest, r.last+1)
		}
		out = append(out, w)
	}
	for _, p := range longest {
		start := p.Segment.Start(z)
		w, err := c.extend(ctx, state.WALRange{Range: wal.Range{Timeline: t, From: start, To: start}}, p, z)
		if err != nil {
			return nil, nil, err
		}
		out = append(out, w)
	}
	slices.SortFunc(out, func(a, b state.WALRange) int { return compareRanges(a.Range, b.Range) })
	return out, stale, nil
}

// extend adds a pushed unfinished segment and its commits to the range before it. A part that is gone or damaged meanwhile has no commits
// to tell of; what reads it finds the damage.
func (c *Cluster) extend(ctx context.Context, w state.WALRange, p listed, z wal.SegmentSize) (state.WALRange, error) {
	w.Partial = p.Segment.Start(z) + wal.LSN(p.Offset)
	h, err := c.head(ctx, p.walName, z)
	if isAbsent(err) || isCorrupt(err) {
		return w, nil
	}
	if err != nil {
		return w, fmt.Errorf("read the times of a part of segment %s: %w", p.Segment.Name(z), err)
	}
	if sum := h.info.Summary; sum.Commits > 0 {
		if w.FirstCommit.IsZero() {
			w.FirstCommit = sum.MinCommit
		}
		if sum.MaxCommit.After(w.LastCommit) {
			w.LastCommit = sum.MaxCommit
		}
	}
	return w, nil
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
