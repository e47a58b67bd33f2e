package observe

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/wal"
)

// probe says where recovery stops.
type probe struct {
	maybe func(*wal.Summary) bool // could a segment with this summary hold the record
	stop  func(*wal.Event) bool   // is this the record
	after bool                    // recovery stops after the record, not before it
	every bool                    // records of every kind are asked about
}

// never goes to the end.
func never() probe {
	return probe{maybe: func(*wal.Summary) bool { return false }, stop: func(*wal.Event) bool { return false }}
}

// found is what a search saw.
type found struct {
	hit    *wal.Event    // the record that stops recovery; nil: none
	before *state.Commit // last commit that recovery contains
	after  *state.Commit // first that it does not
	clock  time.Time     // newest time that any record carries, when there was no hit
}

// place is a segment with what is known of it.
type place struct {
	seg wal.Segment
	sum wal.Summary
}

// walk gives the segments from one position to another, in order, with their summaries.
func (t *targeting) walk(from, to wal.LSN) iter.Seq2[place, error] {
	return func(yield func(place, error) bool) {
		for _, r := range t.segments(from, to) {
			if !t.walkRange(r, yield) {
				return
			}
		}
	}
}

// walkRange goes along the index and asks the objects themselves where the index says nothing.
func (t *targeting) walkRange(r wal.Range, yield func(place, error) bool) bool {
	next, stop := iter.Pull2(t.Archive.Summaries(t.ctx, r))
	defer stop()
	known, sum, ok := next()
	for seg := t.size.SegmentAt(r.Timeline, r.From); seg.Start(t.size) < r.To; seg = seg.Next() {
		for ok && known.Number < seg.Number {
			known, sum, ok = next()
		}
		p := place{seg: seg}
		if ok && known == seg {
			p.sum = sum
		} else {
			var err error
			if p.sum, err = t.summary(seg); err != nil {
				yield(p, err)
				return false
			}
		}
		if !yield(p, nil) {
			return false
		}
	}
	return true
}

func (t *targeting) summary(seg wal.Segment) (wal.Summary, error) {
	if err := t.ctx.Err(); err != nil {
		return wal.Summary{}, err
	}
	sum, err := t.Archive.Summary(t.ctx, seg)
	if err != nil {
		return sum, fmt.Errorf("look at segment %s: %w", seg.Name(t.size), err)
	}
	return sum, nil
}

// search looks for the record that stops recovery from `from` on, and for the commits around it.
func (t *targeting) search(from, to wal.LSN, p probe) (found, error) {
	s := &searching{t: t, p: p, from: from}
	for at, err := range t.walk(from, to) {
		if err != nil {
			return found{}, err
		}
		if err := s.take(at); err != nil {
			return found{}, err
		}
		if s.hit != nil && s.after != nil {
			break
		}
	}
	if s.before == nil && s.commits != nil {
		if err := s.lastCommit(); err != nil {
			return found{}, err
		}
	}
	return s.found, nil
}

// searching is one walk.
type searching struct {
	found
	t       *targeting
	p       probe
	from    wal.LSN
	trail   []place // segments back to one in which a record begins: where a record that ends in the next may begin
	commits []place // trail and segment of the newest commits before the hit that were not decoded
}

// take looks at the next segment.
func (s *searching) take(at place) error {
	if s.hit == nil && at.sum.Clock.After(s.clock) {
		s.clock = at.sum.Clock
	}
	trail := append(s.trail, at)
	wanted := s.hit == nil && s.p.maybe(&at.sum) || s.hit != nil && at.sum.Commits > 0
	var err error
	switch {
	case wanted:
		err = s.t.decode(trail, s.p.every && s.hit == nil, s.event)
	case s.hit == nil && at.sum.Commits > 0:
		s.before, s.commits = nil, append([]place{}, trail...)
	}
	if at.sum.First != 0 {
		trail = trail[len(trail)-1:]
	}
	s.trail = append([]place{}, trail...)
	return err
}

// event takes one record in LSN order.
func (s *searching) event(e *wal.Event) {
	if e.Start < s.from {
		return
	}
	commit := e.Kind == wal.Commit
	if s.hit == nil && s.p.stop(e) {
		hit := *e
		s.hit = &hit
		if !s.p.after {
			if commit {
				s.after = commitOf(e)
			}
			return
		}
		if commit {
			s.before = commitOf(e)
		}
		return
	}
	switch {
	case !commit:
	case s.hit == nil:
		s.before = commitOf(e)
	case s.after == nil:
		s.after = commitOf(e)
	}
}

func commitOf(e *wal.Event) *state.Commit {
	return &state.Commit{XID: e.XID, LSN: e.End, Time: e.Time}
}

// lastCommit decodes the segment with the newest commits before the hit.
func (s *searching) lastCommit() error {
	return s.t.decode(s.commits, false, func(e *wal.Event) {
		if e.Kind == wal.Commit && e.Start >= s.from && (s.hit == nil || e.Start < s.hit.Start) {
			s.before = commitOf(e)
		}
	})
}

// decode reads the last segment of the trail and tells its records. The segments before it are read for a record that
// crosses into it. All of them are read as of the line's own timeline, which holds its ancestors' pages too.
func (t *targeting) decode(trail []place, every bool, visit func(*wal.Event)) error {
	scanner := wal.NewScanner(t.size, t.system, t.history.Timeline)
	if every {
		scanner.EveryRecord()
	}
	last := trail[len(trail)-1].seg
	for _, p := range trail {
		as := wal.Segment{Timeline: t.history.Timeline, Number: p.seg.Number}
		tell := func(e wal.Event) error {
			if e.End > last.Start(t.size) && p.seg == last {
				visit(&e)
			}
			return nil
		}
		if err := t.scan(t.ctx, scanner, p.seg, as, tell); err != nil {
			return err
		}
	}
	return nil
}

func (t *targeting) scan(ctx context.Context, scanner *wal.Scanner, seg, as wal.Segment, tell func(wal.Event) error) error {
	r, err := t.Archive.Segment(ctx, seg)
	if errors.Is(err, store.ErrNotExist) {
		return &state.Error{Code: state.CodeStale, Text: fmt.Sprintf("segment %s is not archived any more", seg.Name(t.size)), Hint: "look again"}
	}
	if err != nil {
		return fmt.Errorf("open segment %s: %w", seg.Name(t.size), err)
	}
	defer r.Close()
	if _, err := scanner.Segment(as, r, tell); err != nil {
		var damaged *wal.CorruptError
		if errors.As(err, &damaged) {
			return &state.Error{Code: state.CodeCorrupt, Text: "segment " + seg.Name(t.size), Hint: "pgkeep check --repository", Err: err}
		}
		return fmt.Errorf("read segment %s: %w", seg.Name(t.size), err)
	}
	return nil
}
