package observe

import (
	"slices"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// farBack is how many segments before a backup are looked through for the last commit that it holds.
const farBack = 256

// inBackup gives the last commit before a backup's redo position, which the backup holds: the last commit before a target
// up to which nothing else was committed. nil: the archive does not tell.
func (t *targeting) inBackup(redo wal.LSN) (*state.Commit, error) {
	back := &lookBack{t: t, known: map[wal.Segment]wal.Summary{}}
	back.list(redo)
	for i := len(back.segments) - 1; i >= 0; i-- {
		p, err := back.place(i)
		if err != nil {
			return nil, err
		}
		if p.sum.Commits == 0 {
			continue
		}
		trail, whole, err := back.trail(i)
		if err != nil {
			return nil, err
		}
		var last *state.Commit
		err = t.decode(trail, false, func(e *wal.Event) {
			if e.Kind == wal.Commit && e.Start < redo {
				last = commitOf(e)
			}
		})
		if last != nil || err != nil || !whole {
			return last, err
		}
	}
	return nil, nil //nolint:nilnil // nothing was committed in there
}

// lookBack is what is archived before a position, without a hole.
type lookBack struct {
	t        *targeting
	segments []wal.Segment // oldest first
	known    map[wal.Segment]wal.Summary
}

func (b *lookBack) list(to wal.LSN) {
	size := b.t.size
	from := size.Floor(to)
	from -= min(from, wal.LSN(farBack)*wal.LSN(size))
	for _, r := range b.t.segments(from, to) {
		for seg := size.SegmentAt(r.Timeline, r.From); seg.Start(size) < r.To; seg = seg.Next() {
			need := wal.Range{Timeline: seg.Timeline, From: seg.Start(size), To: min(seg.End(size), to)}
			if len(wal.Missing(need, b.t.held)) > 0 {
				b.segments = nil
				continue
			}
			b.segments = append(b.segments, seg)
		}
		for seg, sum := range b.t.Archive.Summaries(b.t.ctx, r) {
			b.known[seg] = sum
		}
	}
}

// place gives the i-th segment with its summary.
func (b *lookBack) place(i int) (place, error) {
	seg := b.segments[i]
	sum, ok := b.known[seg]
	if !ok {
		var err error
		if sum, err = b.t.summary(seg); err != nil {
			return place{}, err
		}
		b.known[seg] = sum
	}
	return place{seg: seg, sum: sum}, nil
}

// trail gives the i-th segment and those before it back to one in which a record begins. It is not whole when that one is
// not archived: a record that ends in the segment may be overlooked, before all those that begin in it.
func (b *lookBack) trail(i int) (out []place, whole bool, err error) {
	for first := i; first >= 0 && !whole; first-- {
		p, err := b.place(first)
		if err != nil {
			return nil, false, err
		}
		out = append(out, p)
		whole = first < i && p.sum.First != 0
	}
	slices.Reverse(out)
	return out, whole, nil
}
