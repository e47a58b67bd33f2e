package repository

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/wal"
)

// listed is an object below w/ as a listing shows it.
type listed struct {
	walName
	size int64
}

// listLog lists objects of WAL below prefix that sort after after.
func (c *Cluster) listLog(ctx context.Context, prefix, after string, z wal.SegmentSize) ([]listed, error) {
	var out []listed
	for info, err := range c.repo.st.List(ctx, prefix, after, false) {
		if err != nil {
			return nil, fmt.Errorf("list WAL: %w", err)
		}
		if n, ok := c.key.parseWALFile(info.Key, z); ok {
			out = append(out, listed{walName: n, size: info.Size})
		}
	}
	return out, nil
}

// run is a contiguous stretch of whole segments of one timeline.
type run struct {
	first, last             uint64 // numbers
	bytes                   int64  // as stored
	firstCommit, lastCommit time.Time
}

// append joins o to the run when it follows it.
func (r *run) append(o run) bool {
	if r.last+1 != o.first {
		return false
	}
	r.last, r.bytes = o.last, r.bytes+o.bytes
	if r.firstCommit.IsZero() {
		r.firstCommit = o.firstCommit
	}
	if !o.lastCommit.IsZero() {
		r.lastCommit = o.lastCommit
	}
	return true
}

func join(runs []run, more ...run) []run {
	for _, o := range more {
		if n := len(runs); n == 0 || !runs[n-1].append(o) {
			runs = append(runs, o)
		}
	}
	return runs
}

// indexRoll is what a wx object says in short; it is what is remembered.
type indexRoll struct {
	runs     []run
	partials []listed
	removing []uint32
	points   []pointRun
}

// logView is what a repository holds of one log of a timeline.
type logView struct {
	log      log
	names    []indexName // of wx objects, by generation
	empty    bool        // no object of WAL is in it
	index    *indexRoll  // nil: no index counts, everything was listed
	grown    bool        // there is more than the index says
	tail     []listed    // what was listed: after the index, or everything
	partials []listed    // all known, those of the tail included
}

// survey looks at one timeline: the index where there is one, and a listing of what it does not cover. No index hides WAL: a log
// without one is listed, and so is the end of a log whose index does not reach its last segment.
func (c *Cluster) survey(ctx context.Context, t wal.Timeline, z wal.SegmentSize) ([]logView, error) {
	names, err := c.indexNames(ctx, c.key.indexTimeline(t))
	if err != nil {
		return nil, err
	}
	found := map[log]bool{}
	for info, err := range c.repo.st.List(ctx, c.key.timelineDir(t), "", true) {
		if err != nil {
			return nil, fmt.Errorf("list WAL: %w", err)
		}
		if l, ok := c.key.parseLogDir(info.Key, t); ok && info.Prefix {
			found[l] = true
		}
	}
	for l := range names { // a log without objects has no index that counts, whatever a late writer left
		if _, known := found[l]; !known {
			found[l] = false
		}
	}
	views := make([]logView, 0, len(found))
	for _, l := range slices.Sorted(maps.Keys(found)) {
		views = append(views, logView{log: l, names: names[l], empty: !found[l]})
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for i := range views {
		if views[i].empty {
			continue
		}
		g.Go(func() error { return c.surveyLog(ctx, t, z, &views[i]) })
	}
	return views, g.Wait()
}

func (c *Cluster) surveyLog(ctx context.Context, t wal.Timeline, z wal.SegmentSize, v *logView) error {
	after := ""
	n, ok := winner(v.names)
	if ok {
		roll, err := c.roll(ctx, n, z)
		switch {
		case err == nil:
			v.index, v.partials = roll, roll.partials
			after = c.key.segmentFile(segmentOf(t, v.log, n.Last, z), z)
		case !isAbsent(err) && !isCorrupt(err):
			return err
		}
	}
	if v.index != nil && uint64(n.Last) == perLog(z)-1 {
		return nil
	}
	tail, err := c.listLog(ctx, c.key.logDir(t, v.log), after, z)
	if err != nil {
		return err
	}
	v.tail = tail
	for _, o := range tail {
		if o.partial() {
			v.partials = append(v.partials[:len(v.partials):len(v.partials)], o)
		} else {
			v.grown = true
		}
	}
	return nil
}

func segmentOf(t wal.Timeline, l log, n uint32, z wal.SegmentSize) wal.Segment {
	return wal.Segment{Timeline: t, Number: uint64(l)*perLog(z) + uint64(n)}
}

// roll gives a wx object in short.
func (c *Cluster) roll(ctx context.Context, n indexName, z wal.SegmentSize) (*indexRoll, error) {
	key := c.key.indexFile(n)
	if r, ok := c.repo.shared.rolls.get(key); ok {
		return r, nil
	}
	x, err := c.readIndex(ctx, n, z)
	if err != nil {
		return nil, err
	}
	r := &indexRoll{removing: x.Removing}
	for _, e := range x.Segments {
		number := segmentOf(n.Timeline, n.Log, e.N, z).Number
		r.runs = join(r.runs, run{first: number, last: number, bytes: e.Size, firstCommit: e.Sum.MinCommit, lastCommit: e.Sum.MaxCommit})
		r.points = addPoints(r.points, e.Sum, e.More)
	}
	r.points = fewPoints(r.points)
	for _, p := range x.Partials {
		name := walName{Segment: segmentOf(n.Timeline, n.Log, p.N, z), Offset: p.Offset}
		r.partials = append(r.partials, listed{walName: name, size: p.Size})
	}
	c.repo.shared.rolls.put(key, r)
	return r, nil
}

// runs gives the stretches of whole segments of a log.
func (c *Cluster) runs(ctx context.Context, v logView, z wal.SegmentSize) ([]run, error) {
	var out, open []run
	if v.index != nil {
		out = slices.Clone(v.index.runs)
	}
	for _, o := range v.tail {
		if !o.partial() {
			open = join(open, run{first: o.Segment.Number, last: o.Segment.Number, bytes: o.size})
		}
	}
	for i := range open {
		if err := c.findCommits(ctx, v.tail[0].Segment.Timeline, &open[i], z); err != nil {
			return nil, err
		}
	}
	return join(out, open...), nil
}

// findCommits reads notes from both ends of a run until it meets commits.
func (c *Cluster) findCommits(ctx context.Context, t wal.Timeline, r *run, z wal.SegmentSize) error {
	for n := r.first; n <= r.last && r.firstCommit.IsZero(); n++ {
		h, err := c.headOrNothing(ctx, wal.Segment{Timeline: t, Number: n}, z)
		if err != nil {
			return err
		}
		r.firstCommit = h.info.Summary.MinCommit
	}
	if r.firstCommit.IsZero() {
		return nil
	}
	for n := r.last; n >= r.first && r.lastCommit.IsZero(); n-- {
		h, err := c.headOrNothing(ctx, wal.Segment{Timeline: t, Number: n}, z)
		if err != nil {
			return err
		}
		r.lastCommit = h.info.Summary.MaxCommit
	}
	return nil
}

// headOrNothing is head for a segment whose times are wanted and whose absence or damage is found elsewhere.
func (c *Cluster) headOrNothing(ctx context.Context, seg wal.Segment, z wal.SegmentSize) (walHead, error) {
	h, err := c.head(ctx, walName{Segment: seg}, z)
	if errors.Is(err, store.ErrNotExist) || isCorrupt(err) {
		return walHead{}, nil
	}
	return h, err
}
