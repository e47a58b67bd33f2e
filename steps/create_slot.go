package steps

import (
	"context"
	"fmt"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
)

type createSlot struct {
	server Server
	action plan.CreateSlot
}

func (s *createSlot) Done(ctx context.Context) (bool, error) {
	slot, err := s.server.Slot(ctx, s.action.Slot)
	if err != nil {
		return false, fmt.Errorf("look at slot %q: %w", s.action.Slot, err)
	}
	return holdsWAL(slot), nil
}

// holdsWAL tells whether the slot keeps WAL for us: one made without reserve holds nothing, and a lost one streams on
// up to version 17 as if nothing were missing.
func holdsWAL(slot *state.Slot) bool {
	return slot != nil && slot.Physical && slot.RestartLSN != 0 && slot.WALStatus != state.SlotLost
}

func (s *createSlot) Holds(ctx context.Context, c plan.Condition) (verdict, error) {
	if c.Code == plan.NeedSlotAbsent {
		return slotNeed(ctx, s.server, s.action.Slot, c)
	}
	return serverCondition(ctx, s.server, c)
}

func (s *createSlot) Run(ctx context.Context, _ func(done, total int64)) error {
	if err := s.server.CreateSlot(ctx, s.action.Slot); err != nil {
		return fmt.Errorf("create slot %q: %w", s.action.Slot, err)
	}
	return nil
}
