package torture

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state/wal"
)

// drawn is a target with what the chronicle says of it.
type drawn struct {
	what   string
	target hclspec.Target
	before int // the last commit that a recovery to it contains; -1: none is in the chronicle
}

func (d drawn) String() string { return fmt.Sprintf("%s, inclusive %t", d.what, d.target.Inclusive) }

// draw draws a target that can be reached; ok is false when the chronicle does not tell where a recovery to it ends.
func (c *chronicle) draw(r *rand.Rand, borders []wal.LSN) (d drawn, ok bool) {
	i := r.IntN(len(c.acts))
	inclusive := r.IntN(2) == 0
	switch r.IntN(5) {
	case 0, 1:
		if late := c.inversions(); len(late) > 0 && r.IntN(3) == 0 {
			i = late[r.IntN(len(late))] - r.IntN(2)
		}
		d, ok = c.toTime(r, i, inclusive)
	case 2:
		d, ok = c.toEnd(i, inclusive)
	case 3:
		l := borders[r.IntN(len(borders))]
		if a := &c.acts[i]; r.IntN(3) > 0 && a.commit() {
			l = []wal.LSN{a.start, a.end, a.start + 8, a.start - 8, a.free}[r.IntN(5)]
		}
		d, ok = c.toLSN(l, inclusive)
	default:
		d, ok = c.toName(i)
	}
	return d, ok
}

// toTime: recovery goes through the WAL and stops at the first commit past the time, whatever the times of later ones.
func (c *chronicle) toTime(r *rand.Rand, i int, inclusive bool) (d drawn, ok bool) {
	a := &c.acts[max(i, 0)]
	next := c.commitAfter(max(i, 0))
	if !a.commit() || next < 0 || a.region == 0 || c.acts[next].region != a.region {
		return d, false
	}
	at := a.at
	if gap := c.acts[next].at.Sub(at); gap > time.Microsecond && r.IntN(3) > 0 {
		at = at.Add(time.Duration(r.Int64N(int64(gap/time.Microsecond)))*time.Microsecond + time.Microsecond)
	}
	for k := range c.acts {
		s := &c.acts[k]
		if s.region == a.region && s.commit() && (s.at.After(at) || !inclusive && s.at.Equal(at)) {
			d = drawn{fmt.Sprintf("time %s near transaction %d", at.Format(time.RFC3339Nano), a.xid), hclspec.Target{Time: at, Inclusive: inclusive}, c.commitBefore(k)}
			return d, true
		}
	}
	return d, false
}

func (c *chronicle) toEnd(i int, inclusive bool) (d drawn, ok bool) {
	a := &c.acts[i]
	if a.region == 0 || a.xid == 0 {
		return d, false
	}
	d = drawn{fmt.Sprintf("transaction %d, aborted %t", a.xid, a.aborted), hclspec.Target{XID: a.xid, Inclusive: inclusive}, c.commitBefore(i)}
	if inclusive && a.commit() {
		d.before = i
	}
	return d, true
}

func (c *chronicle) toName(i int) (d drawn, ok bool) {
	for range c.acts { // they are few
		if c.acts[i].name != "" {
			break
		}
		i = (i + 1) % len(c.acts)
	}
	a := &c.acts[i]
	if a.name == "" || a.region == 0 {
		return d, false
	}
	return drawn{fmt.Sprintf("restore point %q", a.name), hclspec.Target{Restore: a.name, Inclusive: true}, c.commitBefore(i)}, true
}

// toLSN: recovery stops at the first record that begins at the position or behind it, before it or after it. Which record
// that is, the chronicle knows only next to commits.
func (c *chronicle) toLSN(l wal.LSN, inclusive bool) (d drawn, ok bool) {
	next := -1
	for i := range c.acts {
		if c.acts[i].commit() && c.acts[i].start >= l {
			next = i
			break
		}
	}
	if next < 0 || c.acts[next].region == 0 {
		return d, false
	}
	before := c.commitBefore(next)
	if before < 0 || c.acts[before].region != c.acts[next].region {
		return d, false
	}
	d = drawn{fmt.Sprintf("position %s", l), hclspec.Target{LSN: l, Inclusive: inclusive}, before}
	switch s := &c.acts[next]; {
	case !inclusive:
	case s.start == l:
		d.before = next
	case s.free < l:
		return d, false
	}
	return d, true
}

// borders gives positions at and beside the borders of segments and timelines.
func (c *chronicle) borders(size wal.SegmentSize, switches []wal.LSN) []wal.LSN {
	at := append([]wal.LSN{}, switches...)
	for i := range c.acts {
		if l := size.Floor(c.acts[i].start); i == 0 || l != size.Floor(c.acts[i-1].start) {
			at = append(at, l)
		}
	}
	for _, l := range switches {
		at = append(at, size.Floor(l), size.Ceil(l))
	}
	var out []wal.LSN
	for _, l := range at {
		out = append(out, l, l-8, l+8, l+1)
	}
	return out
}
