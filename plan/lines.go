package plan

import (
	"slices"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// line is one line of history: a timeline and the ancestors that it grew out of, oldest first. Positions only grow
// along a line, whatever timeline they are on.
type line struct {
	timeline wal.Timeline
	parents  []state.Parent
}

// left gives the position at which the line left timeline t; ok is false when the line never was on t. The line's own
// timeline is not left: its position is the highest there is.
func (x line) left(t wal.Timeline) (wal.LSN, bool) {
	if t == x.timeline {
		return ^wal.LSN(0), true
	}
	for _, p := range x.parents {
		if p.Timeline == t {
			return p.Switch, true
		}
	}
	return 0, false
}

// holds tells whether position l of timeline t is on the line.
func (x line) holds(t wal.Timeline, l wal.LSN) bool {
	end, ok := x.left(t)
	return ok && l <= end
}

// stretches gives what the line used of each timeline, oldest first, from LSN zero to the end of all.
func (x line) stretches() []wal.Range {
	out := make([]wal.Range, 0, len(x.parents)+1)
	var at wal.LSN
	for _, p := range x.parents {
		out = append(out, wal.Range{Timeline: p.Timeline, From: at, To: p.Switch})
		at = p.Switch
	}
	return append(out, wal.Range{Timeline: x.timeline, From: at, To: ^wal.LSN(0)})
}

// path gives the WAL files that a recovery walks from position from to position to, as one range for each timeline. The
// segment in which a timeline was left is read from the next one, which begins with a copy of it.
func (x line) path(from, to wal.LSN, z wal.SegmentSize) []wal.Range {
	var out []wal.Range
	stretches := x.stretches()
	for i, s := range stretches {
		r := wal.Range{Timeline: s.Timeline, From: max(z.Floor(s.From), from), To: min(s.To, to)}
		if i == 0 {
			r.From = from
		}
		if i < len(stretches)-1 {
			if s.To <= from {
				continue
			}
			r.To = min(z.Floor(s.To), to)
		}
		if !r.Empty() {
			out = append(out, r)
		}
	}
	return out
}

// archive is one cluster of one repository with what follows from its histories.
type archive struct {
	*state.Cluster
	size    wal.SegmentSize
	have    []wal.Range // merged, unfinished segments included
	lines   []line      // one for each timeline that the repository holds something of, ascending
	orphans []wal.Timeline
	current line // the line that the server writes now, as far as it is known
}

// readable gives what of the WAL can be read, for all that the newest verification knows.
func readable(have []wal.Range, v *state.Verification) []wal.Range {
	if v == nil || len(v.BadWAL) == 0 {
		return have
	}
	var out []wal.Range
	for _, r := range have {
		out = append(out, wal.Missing(r, v.BadWAL)...)
	}
	return out
}

// newArchive reads the cluster's histories. live is the timeline that the server is on; zero: not known.
func newArchive(c *state.Cluster, live wal.Timeline) *archive {
	a := &archive{Cluster: c, size: c.SegmentSize}
	if a.size == 0 {
		a.size = wal.DefaultSegmentSize
	}
	seen := make([]wal.Timeline, 0, 4)
	see := func(t wal.Timeline) {
		if t != 0 && !slices.Contains(seen, t) {
			seen = append(seen, t)
		}
	}
	for _, r := range c.WAL {
		see(r.Timeline)
		a.have = append(a.have, held(r))
	}
	for _, b := range c.Backups {
		see(b.Timeline)
	}
	for _, h := range c.Histories {
		see(h.Timeline)
	}
	a.have = readable(wal.Merge(a.have), c.Verified)
	slices.Sort(seen)
	for _, t := range seen {
		x, ok := a.lineOf(t)
		if !ok {
			a.orphans = append(a.orphans, t)
		}
		a.lines = append(a.lines, x)
	}
	if n := len(a.lines); n > 0 {
		a.current = a.lines[n-1]
	}
	for _, x := range a.lines {
		if x.timeline == live {
			a.current = x
		}
	}
	return a
}

// held gives what an archived range holds, its unfinished segment included.
func held(r state.WALRange) wal.Range {
	out := r.Range
	out.To = max(out.To, r.Partial)
	return out
}

func (a *archive) lineOf(t wal.Timeline) (line, bool) {
	if t == 1 {
		return line{timeline: 1}, true
	}
	for _, h := range a.Histories {
		if h.Timeline == t {
			return line{timeline: t, parents: h.Parents}, true
		}
	}
	return line{timeline: t}, false
}

// missing gives the parts of the ranges that are not archived.
func (a *archive) missing(want []wal.Range) []wal.Range {
	var out []wal.Range
	for _, w := range want {
		at := w.From
		for _, h := range a.have {
			if h.Timeline != w.Timeline || h.To <= at {
				continue
			}
			if h.From > at || at >= w.To {
				break
			}
			at = h.To
		}
		if at < w.To {
			out = append(out, wal.Missing(w, a.have)...)
		}
	}
	return out
}

// usability is the cluster's verdict on a backup, and one that knows ancestry: the segment in which a timeline was left
// is often archived on the next timeline only.
func (a *archive) usability(b *state.Backup) state.Usability {
	if b.State != state.BackupCommitted {
		return state.NotUsable
	}
	want := [1]wal.Range{{Timeline: b.Timeline, From: b.Redo, To: b.Stop}}
	if len(a.missing(want[:])) == 0 {
		return state.Usable
	}
	for _, x := range a.lines {
		if x.timeline > b.Timeline && x.holds(b.Timeline, b.Stop) && len(a.missing(x.path(b.Redo, b.Stop, a.size))) == 0 {
			return state.Usable
		}
	}
	if all := a.Cluster.Usability(*b); all != state.Usable {
		return all
	}
	return state.Waiting // its WAL is there and was found damaged: it stays, and does not count
}

// reach gives the end of contiguous WAL from a backup's redo along a line.
func (a *archive) reach(x line, b *state.Backup) wal.LSN {
	end := b.Redo
	for _, s := range x.path(b.Redo, ^wal.LSN(0), a.size) {
		if s.From > end {
			return end
		}
		for _, h := range a.have {
			if h.Timeline == s.Timeline && h.From <= end && h.To > end {
				end = min(h.To, s.To)
			}
		}
		if end < s.To {
			return a.onOlder(x, end)
		}
	}
	return end
}

// onOlder goes on from a position at which the timeline that is read there has no WAL: until the next one is archived, the
// segment in which a timeline was left is there on that timeline alone.
func (a *archive) onOlder(x line, at wal.LSN) wal.LSN {
	end := at
	for _, p := range x.parents {
		for _, h := range a.have {
			if h.Timeline == p.Timeline && h.From <= at {
				end = max(end, min(h.To, p.Switch))
			}
		}
	}
	return end
}

// walk is path with what the archive has: a segment in which a timeline was left is read from that timeline where no younger
// one has it.
func (a *archive) walk(x line, from, to wal.LSN) []wal.Range {
	path := x.path(from, to, a.size)
	if len(path) == 0 {
		return nil
	}
	last := path[len(path)-1]
	if len(a.missing([]wal.Range{last})) == 0 {
		return path
	}
	for _, p := range slices.Backward(x.parents) {
		older := wal.Range{Timeline: p.Timeline, From: last.From, To: to}
		if p.Switch < to || len(a.missing([]wal.Range{older})) > 0 {
			continue
		}
		path = path[:len(path)-1]
		if n := len(path); n > 0 && path[n-1].Timeline == older.Timeline {
			path[n-1].To = to
			return path
		}
		return append(path, older)
	}
	return path
}

// branchEnd gives the newest moment that lies on line x and not on the current one; zero: there is none.
func (a *archive) branchEnd(x line) time.Time {
	var end time.Time
	from, shared := a.current.left(x.timeline)
	if shared && x.timeline == a.current.timeline {
		return end
	}
	for _, r := range a.WAL {
		if r.Timeline == x.timeline && held(r).To > from {
			end = later(end, r.LastCommit)
		}
	}
	for i := range a.Backups {
		b := &a.Backups[i]
		if b.Timeline == x.timeline && b.Stop > from {
			end = later(end, b.Ended)
		}
	}
	return end
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// earliest gives the earliest of the times, and zero when one of them is zero.
func earliest(times ...time.Time) time.Time {
	out := times[0]
	for _, t := range times {
		if t.IsZero() {
			return time.Time{}
		}
		if t.Before(out) {
			out = t
		}
	}
	return out
}
