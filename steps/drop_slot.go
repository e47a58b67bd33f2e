package steps

import (
	"context"
	"fmt"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
)

type dropSlot struct {
	server Server
	action plan.DropSlot
}

func (s *dropSlot) Done(ctx context.Context) (bool, error) {
	slot, err := s.server.Slot(ctx, s.action.Slot)
	if err != nil {
		return false, fmt.Errorf("look at slot %q: %w", s.action.Slot, err)
	}
	return slot == nil, nil
}

func (s *dropSlot) Holds(ctx context.Context, c plan.Condition) (verdict, error) {
	if c.Code == plan.NeedSlotInactive {
		return slotNeed(ctx, s.server, s.action.Slot, c)
	}
	return serverCondition(ctx, s.server, c)
}

// Run leaves a slot alone that a client is streaming from: PostgreSQL would refuse too, and says less.
func (s *dropSlot) Run(ctx context.Context, _ func(done, total int64)) error {
	slot, err := s.server.Slot(ctx, s.action.Slot)
	if err != nil {
		return fmt.Errorf("look at slot %q: %w", s.action.Slot, err)
	}
	if slot == nil {
		return nil
	}
	if slot.Active {
		return &state.Error{
			Code: state.CodeSlotInUse,
			Text: fmt.Sprintf("slot %q is in use by process %d of the server", s.action.Slot, slot.ActivePID),
			Hint: "stop its receiver first: pgkeep receiver stop",
		}
	}
	if err := s.server.DropSlot(ctx, s.action.Slot); err != nil {
		return fmt.Errorf("drop slot %q: %w", s.action.Slot, err)
	}
	return nil
}
