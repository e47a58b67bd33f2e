package receive

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// recordGap keeps a gap durably and hands it to the archives.
func (s *session) recordGap(g state.Gap) error {
	if err := s.spool.PutGap(g); err != nil {
		return err
	}
	s.found(job{gap: &g})
	s.report.update(func(r *state.Receiver) { r.CaughtUpAt = time.Time{} })
	s.report.problem(aboutGap, &state.Error{
		Code: state.CodeGap,
		Text: fmt.Sprintf("WAL of %s is lost and cannot be had again: %s (%s)", s.o.Server, g.Range, g.Reason),
		Hint: "take a new base backup: pgkeep apply plans one",
	})
	return nil
}

// remember lets the stream go on behind a gap that an earlier run recorded and from behind which no WAL has come yet:
// where the slot stands by now would make the gap longer than it is.
func (s *session) remember(g wal.Range) {
	p := s.spool.Position()
	behind := &begin{timeline: g.Timeline, from: g.To, durable: g.To}
	if p.Timeline > g.Timeline || p.Timeline == g.Timeline && p.Durable > g.To {
		return
	}
	if old := s.start.passed; old == nil || old.timeline < behind.timeline || old.timeline == behind.timeline && old.from < behind.from {
		s.start.passed = behind
	}
}

// recordedGaps are those that every archive has recorded and the spool still keeps.
type recordedGaps struct {
	mu  sync.Mutex
	all []wal.Range
}

// forgetGaps takes gaps that every archive has recorded, and lets the spool forget those from behind which WAL has come.
// Until then a start must know of them: see remember.
func (s *session) forgetGaps(recorded ...wal.Range) error {
	r := &s.recorded
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, recorded...)
	if len(r.all) == 0 {
		return nil
	}
	p := s.spool.Position()
	var failed error
	r.all = slices.DeleteFunc(r.all, func(g wal.Range) bool {
		if p.Timeline < g.Timeline || p.Timeline == g.Timeline && p.Durable <= g.To {
			return false
		}
		err := s.spool.DoneGap(g)
		failed = errors.Join(failed, err)
		return err == nil
	})
	return failed
}

// refused remembers that the server no longer has the WAL that was asked for (SQLSTATE 58P01, at the start of the
// stream or as its first message), so that the next connection asks otherwise. It tells whether that was news.
func (s *session) refused(b begin, err error) bool {
	if state.CodeOf(err) != state.CodeGap {
		return false
	}
	s.report.update(func(r *state.Receiver) { r.CaughtUpAt = time.Time{} })
	again := s.start.gone != nil && *s.start.gone == b
	s.start.gone, s.start.why = &b, err
	return !again
}

// afterRefusal changes where to begin when the server has refused just that. Where the page that is to come again lies
// in a segment that is gone, it goes on from the start of the next one; where that is gone too, it passes a gap.
func (s *session) afterRefusal(ctx context.Context, b begin) (begin, error) {
	if passed := s.start.passed; passed != nil && passed.timeline == b.timeline && b.durable < passed.from {
		b = *passed // the gap is recorded; where the slot stands by now would make it longer than it is
	}
	gone := s.start.gone
	if gone == nil || gone.timeline != b.timeline || gone.durable != b.durable {
		return b, nil
	}
	if floor := s.cluster.SegmentSize.Floor(b.durable); b.from < floor && gone.from <= b.from {
		b.from = floor
		return b, nil
	}
	return s.passGap(ctx, b, s.start.why)
}

// passGap records what is lost between our position and the slot's. That the server says so is evidence only once every
// archive has said how far it reaches. It gives where the server's WAL begins again.
func (s *session) passGap(ctx context.Context, b begin, cause error) (begin, error) {
	if !s.start.asked {
		if err := s.askArchives(ctx, s.o.Timeout); err != nil {
			return b, err
		}
		// What was learnt is used by the next connection.
		return b, fmt.Errorf("not taken for a gap before every repository has answered: %w", cause)
	}
	ctl, _, err := s.control(ctx)
	if err != nil {
		return b, err
	}
	defer ctl.Close()
	slot, err := ctl.Slot(ctx, s.o.Slot)
	if err != nil {
		return b, err
	}
	if err := s.refuseSlot(slot); err != nil {
		return b, err
	}
	from := s.cluster.SegmentSize.Floor(slot.RestartLSN)
	if from <= b.durable {
		return b, fmt.Errorf("the slot stands at %s and we at %s, yet: %w", slot.RestartLSN, b.durable, cause)
	}
	if z := s.cluster.SegmentSize; z.Offset(b.durable) != 0 {
		s.found(job{ended: &ended{segment: z.SegmentAt(b.timeline, b.durable), upTo: b.durable}})
	}
	err = s.recordGap(state.Gap{
		Range:    wal.Range{Timeline: b.timeline, From: b.durable, To: from},
		Reason:   "the server had removed it: " + cause.Error(),
		Recorded: time.Now().UTC(),
	})
	if err != nil {
		return b, err
	}
	s.start.passed = &begin{timeline: b.timeline, from: from, durable: from}
	return *s.start.passed, nil
}
