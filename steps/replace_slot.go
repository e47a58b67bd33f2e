package steps

import (
	"context"
	"fmt"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
)

// replaceSlot drops a lost slot and creates it anew. Killed between the two, the next look finds no slot and plans its
// creation: a lost slot holds nothing, so nothing is lost with it.
type replaceSlot struct {
	server Server
	action plan.ReplaceSlot
}

func (s *replaceSlot) Done(ctx context.Context) (bool, error) {
	slot, err := s.server.Slot(ctx, s.action.Slot)
	if err != nil {
		return false, fmt.Errorf("look at slot %q: %w", s.action.Slot, err)
	}
	return holdsWAL(slot), nil
}

func (s *replaceSlot) Holds(ctx context.Context, c plan.Condition) (verdict, error) {
	if c.Code == plan.NeedSlotLost {
		return slotNeed(ctx, s.server, s.action.Slot, c)
	}
	return serverCondition(ctx, s.server, c)
}

func lostOrAbsent(slot *state.Slot) bool { return slot == nil || slot.WALStatus == state.SlotLost }

// Run never drops a slot that still holds WAL, whatever the plan says.
func (s *replaceSlot) Run(ctx context.Context, _ func(done, total int64)) error {
	slot, err := s.server.Slot(ctx, s.action.Slot)
	if err != nil {
		return fmt.Errorf("look at slot %q: %w", s.action.Slot, err)
	}
	if slot != nil && slot.WALStatus != state.SlotLost {
		return &state.Error{
			Code: state.CodeStale,
			Text: fmt.Sprintf("slot %q is %q, not lost: it is left as it is", s.action.Slot, slot.WALStatus),
			Hint: "look again: pgkeep plan",
		}
	}
	if slot != nil {
		if err := s.server.DropSlot(ctx, s.action.Slot); err != nil {
			return fmt.Errorf("drop lost slot %q: %w", s.action.Slot, err)
		}
	}
	if err := s.server.CreateSlot(ctx, s.action.Slot); err != nil {
		return fmt.Errorf("create slot %q: %w", s.action.Slot, err)
	}
	return nil
}
