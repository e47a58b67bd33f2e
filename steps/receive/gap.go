package receive

import (
	"context"
	"fmt"
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
	s.report.problem(aboutGap, &state.Error{
		Code: state.CodeGap,
		Text: fmt.Sprintf("WAL of %s is lost and cannot be had again: %s (%s)", s.o.Server, g.Range, g.Reason),
		Hint: "take a new base backup: pgkeep apply plans one",
	})
	return nil
}

// passGap is called when the server says that the WAL we go on from is gone (SQLSTATE 58P01). That is evidence only once
// every archive has said how far it reaches. It gives where the server's WAL begins again.
func (s *session) passGap(ctx context.Context, b begin, cause error) (begin, error) {
	if !s.start.asked {
		return b, fmt.Errorf("not taken for a gap before every repository has answered: %w", cause)
	}
	ctl, err := s.o.Control(ctx)
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
	err = s.recordGap(state.Gap{
		Range:    wal.Range{Timeline: b.timeline, From: b.durable, To: from},
		Reason:   "the server had removed it: " + cause.Error(),
		Recorded: time.Now().UTC(),
	})
	return begin{timeline: b.timeline, from: from, durable: from}, err
}
