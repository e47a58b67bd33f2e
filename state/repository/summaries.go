package repository

import (
	"context"
	"iter"

	"github.com/pgkeep/pgkeep/state/wal"
)

// Summaries gives what is known of the archived whole segments that a range touches, in order, from the index and from the notes of newer
// segments. What cannot be read is left out: who needs a proof reads the segment. Restore points are complete.
func (c *Cluster) Summaries(ctx context.Context, r wal.Range) iter.Seq2[wal.Segment, wal.Summary] {
	return func(yield func(wal.Segment, wal.Summary) bool) {
		z, err := c.segmentSize(ctx)
		if err != nil || r.Empty() {
			return
		}
		views, err := c.survey(ctx, r.Timeline, z)
		if err != nil {
			return
		}
		first, last := z.SegmentAt(r.Timeline, r.From), z.SegmentAt(r.Timeline, r.To-1)
		for _, v := range views {
			if v.log < logOf(first, z) || v.log > logOf(last, z) {
				continue
			}
			for _, e := range c.entries(ctx, r.Timeline, v, z) {
				seg := segmentOf(r.Timeline, v.log, e.N, z)
				if seg.Number < first.Number || seg.Number > last.Number {
					continue
				}
				if !yield(seg, c.complete(ctx, seg, z, e)) {
					return
				}
			}
		}
	}
}

// entries gives what is known of a log's segments, in order.
func (c *Cluster) entries(ctx context.Context, t wal.Timeline, v logView, z wal.SegmentSize) []indexEntry {
	var out []indexEntry
	if n, ok := winner(v.names); ok && v.index != nil {
		if x, err := c.readIndex(ctx, n, z); err == nil {
			out = x.Segments
		}
	}
	for _, o := range v.tail {
		if o.partial() {
			continue
		}
		h, err := c.head(ctx, o.walName, z)
		if err == nil {
			out = append(out, indexEntry{N: inLog(o.Segment, z), Sum: h.info.Summary, More: h.info.MoreRestorePoints})
		}
	}
	return out
}

// complete reads a segment that has more restore points than were listed.
func (c *Cluster) complete(ctx context.Context, seg wal.Segment, z wal.SegmentSize, e indexEntry) wal.Summary {
	if !e.More {
		return e.Sum
	}
	w, err := c.OpenSegment(ctx, seg)
	if err != nil {
		return e.Sum
	}
	defer w.Close()
	sum, err := c.summarize(seg, z, w)
	if err != nil || len(sum.RestorePoints) < len(e.Sum.RestorePoints) {
		return e.Sum
	}
	return sum
}
