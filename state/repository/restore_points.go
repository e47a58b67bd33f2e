package repository

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

const (
	maxLogPoints     = 64  // restore points of a log up to which each is remembered
	maxStretchPoints = 5   // restore points that are named of one stretch
	maxPoints        = 100 // restore points that are named of one cluster, and stretches that are told apart
	maxPointReads    = 256 // segments without an index whose notes are read for the sake of restore points
)

// pointRun is some restore points of one timeline that lie beside each other.
type pointRun struct {
	first, last wal.LSN
	count       int
	more        bool               // there are more than were counted
	named       []wal.RestorePoint // the newest of them
}

// addPoints adds what a segment's summary tells, as one run for each restore point. more: the segment has others.
func addPoints(runs []pointRun, s wal.Summary, more bool) []pointRun {
	for i, p := range s.RestorePoints {
		last := more && i == len(s.RestorePoints)-1
		runs = append(runs, pointRun{first: p.LSN, last: p.LSN, count: 1, more: last, named: []wal.RestorePoint{p}})
	}
	return runs
}

// fewPoints puts neighbours together until there are no more runs than a log may have, each with the name of its newest.
func fewPoints(runs []pointRun) []pointRun {
	if len(runs) <= maxLogPoints {
		return runs
	}
	each := (len(runs) + maxLogPoints - 1) / maxLogPoints
	out := make([]pointRun, 0, maxLogPoints)
	for some := range slices.Chunk(runs, each) {
		newest := some[len(some)-1]
		r := pointRun{first: some[0].first, last: newest.last, named: newest.named}
		for _, o := range some {
			r.count, r.more = r.count+o.count, r.more || o.more
		}
		out = append(out, r)
	}
	return out
}

// restorePoints tells of the restore points before the end of the newest backup: those after it no deletion of backups can
// lose. What is indexed was read with the index; of newer segments the notes are read, a bounded number, and remembered.
func (c *Cluster) restorePoints(ctx context.Context, views map[wal.Timeline][]logView, backups []state.Backup) (*state.RestorePoints, error) {
	z, err := c.segmentSize(ctx)
	if err != nil {
		return nil, err
	}
	out := &state.RestorePoints{}
	var newest state.Backup
	borders := map[wal.Timeline][]wal.LSN{}
	for _, b := range backups {
		if b.Stop == 0 {
			continue
		}
		borders[b.Timeline] = append(borders[b.Timeline], b.Stop)
		if b.Timeline > newest.Timeline || b.Timeline == newest.Timeline && b.Stop > newest.Stop {
			newest = b
		}
	}
	look := pointLook{Cluster: c, z: z, budget: maxPointReads}
	for _, t := range slices.Sorted(maps.Keys(views)) {
		if t > newest.Timeline {
			break
		}
		end := ^wal.LSN(0)
		if t == newest.Timeline {
			end = newest.Stop
		}
		runs, err := look.runs(ctx, views[t], end)
		if err != nil {
			return nil, err
		}
		slices.Sort(borders[t])
		out.Stretches = append(out.Stretches, stretches(t, runs, borders[t], end)...)
	}
	out.Unread = max(0, -look.budget)
	out.Stretches = bounded(out.Stretches)
	return out, nil
}

// pointLook is one look for the restore points of a cluster.
type pointLook struct {
	*Cluster
	z      wal.SegmentSize
	budget int // how many notes may still be read; what goes below zero was not
}

// runs gives the restore points of a timeline, of which the views are, up to end.
func (c *pointLook) runs(ctx context.Context, views []logView, end wal.LSN) ([]pointRun, error) {
	var runs []pointRun
	for _, v := range views {
		if v.index != nil {
			runs = append(runs, v.index.points...)
		}
		var wanted []listed
		whole := map[uint64]bool{}
		for _, o := range v.tail {
			if !o.partial() {
				whole[o.Segment.Number] = true
				wanted = append(wanted, o)
			}
		}
		wanted = append(wanted, longestParts(v, whole)...)
		wanted = slices.DeleteFunc(wanted, func(o listed) bool { return o.Segment.Start(c.z) >= end })
		slices.SortFunc(wanted, func(a, b listed) int { return cmp.Compare(a.Segment.Number, b.Segment.Number) })
		cut := max(0, min(len(wanted), len(wanted)-max(c.budget, 0)))
		c.budget -= len(wanted)
		more, err := c.notedPoints(ctx, wanted[cut:])
		if err != nil {
			return nil, err
		}
		runs = append(runs, more...)
	}
	return runs, nil
}

// longestParts gives the longest pushed part of each segment that is not archived whole.
func longestParts(v logView, whole map[uint64]bool) []listed {
	longest := map[uint64]listed{}
	for _, p := range v.partials {
		n := p.Segment.Number
		indexed := v.index != nil && holds(v.index.runs, n)
		if !whole[n] && !indexed && p.Offset > longest[n].Offset {
			longest[n] = p
		}
	}
	return slices.Collect(maps.Values(longest))
}

// notedPoints reads the notes of objects, which are in order. One that is gone or damaged has nothing to tell.
func (c *pointLook) notedPoints(ctx context.Context, objects []listed) ([]pointRun, error) {
	heads := make([]walHead, len(objects))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for i, o := range objects {
		g.Go(func() error {
			h, err := c.head(ctx, o.walName, c.z)
			if isAbsent(err) || isCorrupt(err) {
				return nil
			}
			heads[i] = h
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	var runs []pointRun
	for _, h := range heads {
		runs = addPoints(runs, h.info.Summary, h.info.MoreRestorePoints)
	}
	return runs, nil
}

// stretches sorts the restore points of a timeline up to end into the stretches between the borders. A run of which only a
// part lies in a stretch makes that stretch longer: what is asked of a part of a stretch is answered with "at least".
func stretches(t wal.Timeline, runs []pointRun, borders []wal.LSN, end wal.LSN) []state.PointStretch {
	slices.SortFunc(runs, func(a, b pointRun) int { return cmp.Compare(a.last, b.last) })
	var out []state.PointStretch
	current := -1
	for _, r := range runs {
		if r.first > end {
			continue
		}
		i, _ := slices.BinarySearch(borders, r.last) // the first border at or after it
		if i != current {
			current = i
			out = append(out, stretchAt(t, borders, i))
		}
		s := &out[len(out)-1]
		s.Count += r.count
		s.AtLeast = s.AtLeast || r.more
		s.From, s.To = min(s.From, r.first-1), max(s.To, r.last)
		s.Newest = append(slices.Clone(r.named), s.Newest...)
		s.Newest = s.Newest[:min(len(s.Newest), maxStretchPoints)]
	}
	return out
}

// stretchAt gives the empty stretch before border i, or behind the last one.
func stretchAt(t wal.Timeline, borders []wal.LSN, i int) state.PointStretch {
	s := state.PointStretch{Range: wal.Range{Timeline: t}}
	if i > 0 {
		s.From = borders[i-1]
	}
	if i < len(borders) {
		s.To = borders[i]
	}
	return s
}

// bounded puts neighbours together and leaves names out until no more is told than a cluster may take.
func bounded(all []state.PointStretch) []state.PointStretch {
	for len(all) > maxPoints {
		half := make([]state.PointStretch, 0, len(all)/2+1)
		for i := 0; i < len(all); i++ {
			s := all[i]
			if i+1 < len(all) && all[i+1].Timeline == s.Timeline {
				i++
				s = merged(s, all[i])
			}
			half = append(half, s)
		}
		if len(half) == len(all) {
			return all[len(all)-maxPoints:] // as many timelines as that: the oldest are left out
		}
		all = half
	}
	most := maxStretchPoints
	if len(all) > 0 {
		most = max(1, min(most, maxPoints/len(all)))
	}
	for i := range all {
		all[i].Newest = all[i].Newest[:min(most, len(all[i].Newest))]
	}
	return all
}

func merged(a, b state.PointStretch) state.PointStretch {
	a.To, a.Count, a.AtLeast = b.To, a.Count+b.Count, a.AtLeast || b.AtLeast
	a.Newest = append(slices.Clone(b.Newest), a.Newest...)
	a.Newest = a.Newest[:min(len(a.Newest), maxStretchPoints)]
	return a
}
