package observe

import (
	"context"
	"slices"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// MomentOptions say which moments are looked for.
type MomentOptions struct {
	Cluster  state.Cluster // as observed
	Archive  WALArchive    // the same cluster's WAL
	Timeline wal.Timeline  // the line of history that leads to it is searched; 0: the newest
	From, To time.Time     // of commits and restore points, both inclusive; zero: no bound
	Kinds    []state.MomentKind
	XID      uint32 // of a MomentTransaction; 0: any
	Name     string // of a MomentRestorePoint; empty: any
	MinRows  int    // of a MomentDelete; 0: 1000
}

// defaultRows is how many deleted rows make a MomentDelete.
const defaultRows = 1000

// Searched is what Moments looked through.
type Searched struct {
	Segments int         // that were read
	Range    []wal.Range // in order
}

// Moments looks through the archived WAL of a line of history for transactions that somebody may want to undo, and tells
// each in the order of the WAL. What the index tells is taken from it: only segments are read of which it does not know
// enough, each with those before in which its transactions began. WAL behind a hole is searched too. The error of tell ends
// the search.
func Moments(ctx context.Context, o MomentOptions, tell func(state.Moment) error) (Searched, error) {
	t, err := newTargeting(ctx, TargetOptions{Target: hclspec.Target{Timeline: o.Timeline}, Cluster: o.Cluster, Archive: o.Archive})
	if err != nil {
		return Searched{}, err
	}
	if t.refused != nil {
		return Searched{}, &state.Error{Code: state.CodeTarget, Text: t.refused.Why, Hint: "pgkeep wal list"}
	}
	if o.MinRows == 0 {
		o.MinRows = defaultRows
	}
	m := &momentSearch{targeting: t, o: o, tell: tell}
	m.done.Range = t.onLine()
	for i, r := range m.done.Range {
		if i > 0 && t.size.Ceil(m.done.Range[i-1].To) < r.From {
			m.forget() // a hole
		}
		if err := m.walk(r); err != nil {
			return m.done, err
		}
	}
	return m.done, nil
}

// onLine gives the archived stretches of the line of history, oldest first.
func (t *targeting) onLine() []wal.Range {
	var out []wal.Range
	for _, part := range t.segments(0, t.archiveEnd()) {
		for _, held := range t.held {
			from, to := max(part.From, t.size.Floor(held.From)), min(part.To, held.To)
			if held.Timeline == part.Timeline && from < to {
				out = append(out, wal.Range{Timeline: part.Timeline, From: from, To: to})
			}
		}
	}
	slices.SortFunc(out, func(a, b wal.Range) int {
		if a.From < b.From {
			return -1
		}
		return 1
	})
	return out
}

// walk goes along one stretch.
func (m *momentSearch) walk(r wal.Range) error {
	var failed error
	m.walkRange(r, func(p place, err error) bool {
		if failed = err; failed == nil {
			failed = m.ctx.Err()
		}
		if failed == nil {
			failed = m.take(p)
		}
		m.trail = append(m.trail, step{seg: p.seg, next: p.sum.NextXID, commits: p.sum.Commits > 0})
		return failed == nil
	})
	return failed
}

// take tells the moments of one segment: from the index when it knows enough, else from the segment.
func (m *momentSearch) take(p place) error {
	switch {
	case m.passes(p.sum):
		return nil
	case m.indexed(p.sum):
		for _, d := range p.sum.Deeds {
			if !m.asked(d) {
				continue
			}
			if err := m.tell(m.moment(d)); err != nil {
				return err
			}
		}
		return nil
	}
	return m.readWhole(p)
}

// passes tells whether a segment surely holds nothing that is asked for. One of which nothing is known does not pass.
func (m *momentSearch) passes(s wal.Summary) bool {
	every := m.wants(state.MomentTransaction) && m.o.XID == 0 // all is read on, then
	if s.Clock.IsZero() {                                     // no record that is told ends in it, or nothing is known of it
		return s.Followed && !every
	}
	if !m.o.From.IsZero() && s.Clock.Before(m.o.From) || !m.o.To.IsZero() && !s.MinCommit.IsZero() && s.MinCommit.After(m.o.To) && len(s.RestorePoints) == 0 {
		return true
	}
	if len(m.o.Kinds) != 1 || every {
		return false
	}
	switch m.o.Kinds[0] {
	case state.MomentTransaction:
		return s.Commits == 0 || m.o.XID != 0 && (m.o.XID < s.MinXID || m.o.XID > s.MaxXID)
	case state.MomentRestorePoint:
		return !slices.ContainsFunc(s.RestorePoints, func(p wal.RestorePoint) bool { return m.o.Name == "" || p.Name == m.o.Name })
	case state.MomentDrop, state.MomentTruncate, state.MomentReplace, state.MomentDelete, state.MomentDropDatabase:
	}
	return false
}

// indexed tells whether the index says all that is asked for of a segment.
func (m *momentSearch) indexed(s wal.Summary) bool {
	if !s.Followed || s.MoreDeeds || m.wants(state.MomentTransaction) ||
		m.wants(state.MomentRestorePoint) && len(s.RestorePoints) > 0 || m.wants(state.MomentDelete) && m.o.MinRows < wal.UsualManyRows {
		return false
	}
	return !slices.ContainsFunc(s.Deeds, func(d wal.Deed) bool {
		return m.wants(state.MomentKind(d.Kind)) && m.within(d.Time) && (d.Unsure || d.Others > 0)
	})
}

// within tells whether a time is one that was asked for. One that no clock gave is.
func (m *momentSearch) within(at time.Time) bool {
	return at.IsZero() || !(at.Before(m.o.From) || !m.o.To.IsZero() && at.After(m.o.To))
}

func (m *momentSearch) wants(k state.MomentKind) bool { return slices.Contains(m.o.Kinds, k) }
