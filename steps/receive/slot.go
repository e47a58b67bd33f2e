package receive

import (
	"context"
	"fmt"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/wal"
)

// control opens an SQL session and tells whose it is. A list of hosts, or a name that moves, may lead it to another
// server than the stream's: one of another cluster is refused before anything of it is touched.
func (s *session) control(ctx context.Context) (Control, state.Server, error) {
	ctl, err := s.o.Control(ctx)
	if err != nil {
		return nil, state.Server{}, err
	}
	who, err := ctl.Identify(ctx)
	if err == nil && who.SystemID != s.cluster.SystemID {
		err = &state.Error{
			Code: state.CodeIdentity,
			Text: fmt.Sprintf("%s has system identifier %s where %s is expected: its slots are not touched", who.Host, who.SystemID, s.cluster.SystemID),
			Hint: "let the conninfo lead to one cluster only",
		}
	}
	if err != nil {
		_ = ctl.Close()
		return nil, who, err
	}
	return ctl, who, nil
}

// slot looks at the slot before every start: up to 17 a lost slot streams on with a silent hole.
func (s *session) slot(ctx context.Context, sys postgres.System) (*state.Slot, error) {
	ctl, who, err := s.control(ctx)
	if err != nil {
		return nil, err
	}
	defer ctl.Close()
	slot, err := ctl.Slot(ctx, s.o.Slot)
	if err == nil && slot == nil {
		slot, err = s.absentSlot(ctx, ctl, who, sys)
	}
	if err != nil {
		return nil, err
	}
	if err := s.refuseSlot(slot); err != nil {
		return nil, err
	}
	s.start.slotAt = slot.RestartLSN
	if slot.Active && slot.ActivePID != 0 && slot.ActivePID == s.start.lastPID {
		// Our own walsender, whose connection broke without the server's noticing.
		if err := ctl.TerminateBackend(ctx, slot.ActivePID); err != nil {
			s.o.Log.Info("our former walsender was not ended", "server", s.o.Server, "error", err)
		}
	}
	return slot, nil
}

// absentSlot decides what it means that a server has no slot of ours. On a promoted server that we follow it is made:
// slots are not copied to standbys, and waiting for an apply would be an outage. A standby on the timeline that we hold
// may be just about to be promoted, and a server that changed while it was asked was: both are asked again. Only a
// primary on our own timeline has lost a slot that it had.
func (s *session) absentSlot(ctx context.Context, ctl Control, who state.Server, sys postgres.System) (*state.Slot, error) {
	held, err := s.heldTimeline()
	switch {
	case err != nil:
		return nil, err
	case held == 0:
		return nil, nil
	case who.InRecovery && sys.Timeline == held:
		return nil, &state.Error{
			Code: state.CodeStandby,
			Text: fmt.Sprintf("%s is a standby on timeline %d and has no replication slot %s", who.Host, sys.Timeline, s.o.Slot),
			Hint: "after a failover nothing is to be done: the slot is made once the server is promoted; where the standby is to be the source, pgkeep apply creates it there",
		}
	case !who.InRecovery && who.Timeline != sys.Timeline:
		return nil, &state.Error{
			Code: state.CodeStandby,
			Text: fmt.Sprintf("%s was on timeline %d when it was asked first and is a primary on timeline %d now", s.o.Server, sys.Timeline, who.Timeline),
			Hint: "nothing is to be done: it is asked again at once",
		}
	case sys.Timeline == held:
		return nil, nil
	}
	s.o.Log.Info("the promoted server has no slot of ours: it is created", "server", s.o.Server, "slot", s.o.Slot)
	if err := ctl.CreateSlot(ctx, s.o.Slot); err != nil {
		return nil, err
	}
	return ctl.Slot(ctx, s.o.Slot)
}

// heldTimeline gives the newest timeline of which WAL is, or before it was left behind was, in the spool; zero: none.
func (s *session) heldTimeline() (wal.Timeline, error) {
	left, err := s.spool.Left()
	return max(left, s.spool.Position().Timeline), err
}

// refuseSlot refuses a slot that cannot be streamed from; nil is the slot that a server which we follow has no more.
func (s *session) refuseSlot(slot *state.Slot) error {
	switch {
	case slot == nil:
		return final(&state.Error{
			Code: state.CodeSlotAbsent,
			Text: fmt.Sprintf("%s has no replication slot %s: without it PostgreSQL may remove WAL before it is received", s.o.Server, s.o.Slot),
			Hint: "pgkeep apply creates it and starts the receiver again",
		})
	case !slot.Physical:
		return final(&state.Error{
			Code: state.CodeSettings,
			Text: fmt.Sprintf("the replication slot %s of %s is a logical one", s.o.Slot, s.o.Server),
			Hint: "give the server another slot.name",
		})
	case slot.WALStatus == state.SlotLost:
		return &state.Error{
			Code: state.CodeSlotLost,
			Text: fmt.Sprintf("the replication slot %s of %s is lost: PostgreSQL removed WAL that it was to keep", s.o.Slot, s.o.Server),
			Hint: "pgkeep plan shows what is lost; pgkeep apply replaces the slot",
		}
	}
	return nil
}
