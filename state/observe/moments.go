package observe

import (
	"context"
	"errors"
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
	Segments int
	Range    []wal.Range // in order
}

// Moments looks through the archived WAL of a line of history for transactions that somebody may want to undo, and tells
// each in the order of the WAL. Segments that the index proves to hold nothing of the time asked for are not read, but for
// the one before. WAL behind a hole is searched too. The error of tell ends the search.
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
	for _, r := range m.done.Range {
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

// momentSearch is one search.
type momentSearch struct {
	*targeting
	o    MomentOptions
	tell func(state.Moment) error
	done Searched

	before *state.Commit           // the newest so far
	open   map[uint32]*transaction // by xid of a transaction or subtransaction, those that did something worth telling
	fresh  map[wal.Relation]bool   // files that open transactions made; true: something was written to them
	marked mark                    // the newest of pg_database
	failed error                   // of tell
}

// walk reads what may hold a moment of one stretch.
func (m *momentSearch) walk(r wal.Range) error {
	m.open = map[uint32]*transaction{} // what was open before a hole is not known to have ended
	m.fresh = map[wal.Relation]bool{}
	m.marked = mark{}
	scanner := wal.NewScanner(m.size, m.system, m.history.Timeline)
	scanner.EveryChange(m.change)
	scanner.EveryBlock(m.block)
	var skipped *place
	var failed error
	m.walkRange(r, func(p place, err error) bool {
		switch {
		case err != nil:
			failed = err
		case m.passes(p.sum):
			skipped = &p
			m.passed(p.sum)
			return true
		default:
			if skipped != nil { // for the record that crosses into this one, and what began there
				failed, skipped = m.read(scanner, skipped.seg), nil
			}
			if failed == nil {
				failed = m.read(scanner, p.seg)
			}
		}
		return failed == nil
	})
	return failed
}

// passes tells whether a segment surely holds nothing of the time that is asked for.
func (m *momentSearch) passes(s wal.Summary) bool {
	if s.Clock.IsZero() {
		return false
	}
	return !m.o.From.IsZero() && s.Clock.Before(m.o.From) || !m.o.To.IsZero() && !s.MinCommit.IsZero() && s.MinCommit.After(m.o.To) && len(s.RestorePoints) == 0
}

// passed keeps what is known of the last commit of a segment that is not read.
func (m *momentSearch) passed(s wal.Summary) {
	if s.Commits > 0 {
		m.before = nil // it is in there; the segment before the first that is read is read too
	}
}

func (m *momentSearch) read(scanner *wal.Scanner, seg wal.Segment) error {
	if err := m.ctx.Err(); err != nil {
		return err
	}
	m.done.Segments++
	as := wal.Segment{Timeline: m.history.Timeline, Number: seg.Number}
	err := m.scan(m.ctx, scanner, seg, as, func(e wal.Event) error {
		m.failed = m.event(&e)
		return m.failed
	})
	if err != nil && m.failed != nil && errors.Is(err, m.failed) {
		return m.failed
	}
	return err
}

// within tells whether a time is one that was asked for. One that no clock gave is.
func (m *momentSearch) within(at time.Time) bool {
	return at.IsZero() || !(at.Before(m.o.From) || !m.o.To.IsZero() && at.After(m.o.To))
}

func (m *momentSearch) wants(k state.MomentKind) bool { return slices.Contains(m.o.Kinds, k) }
