package steps

import (
	"context"
	"fmt"
	"time"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
)

// replaceSlot drops a lost slot and creates it anew. Killed between the two, the next look finds no slot and plans its
// creation: a lost slot holds nothing, so nothing is lost with it. A healthy one goes only when the action says so.
type replaceSlot struct {
	server  Server
	action  plan.ReplaceSlot
	renewed bool // by Run: a healthy slot looks the same before and after
}

func (s *replaceSlot) Done(ctx context.Context) (bool, error) {
	slot, err := s.server.Slot(ctx, s.action.Slot)
	if err != nil {
		return false, fmt.Errorf("look at slot %q: %w", s.action.Slot, err)
	}
	return holdsWAL(slot) && (s.renewed || !s.action.Healthy), nil
}

func (s *replaceSlot) Holds(ctx context.Context, c plan.Condition) (verdict, error) {
	switch c.Code {
	case plan.NeedSlotLost:
		return slotNeed(ctx, s.server, s.action.Slot, c)
	case plan.NeedSlotInactive:
		return s.inactive(ctx, c)
	}
	return serverCondition(ctx, s.server, c)
}

// goodbye is how long the server may need to see that a receiver which was stopped just now is gone.
const goodbye = 5 * time.Second

// inactive waits until nobody streams from the slot, at most goodbye.
func (s *replaceSlot) inactive(ctx context.Context, c plan.Condition) (verdict, error) {
	over := time.NewTimer(goodbye)
	defer over.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		v, err := slotNeed(ctx, s.server, s.action.Slot, c)
		if err != nil || v.kind == satisfied {
			return v, err
		}
		select {
		case <-ctx.Done():
			return v, ctx.Err()
		case <-over.C:
			return v, nil
		case <-tick.C:
		}
	}
}

func lostOrAbsent(slot *state.Slot) bool { return slot == nil || slot.WALStatus == state.SlotLost }

// Run drops a slot that still holds WAL only where the plan was asked for that, and never one that somebody streams from.
func (s *replaceSlot) Run(ctx context.Context, _ func(done, total int64)) error {
	slot, err := s.server.Slot(ctx, s.action.Slot)
	if err != nil {
		return fmt.Errorf("look at slot %q: %w", s.action.Slot, err)
	}
	if slot != nil && slot.WALStatus != state.SlotLost && (!s.action.Healthy || slot.Active) {
		return &state.Error{
			Code: state.CodeStale,
			Text: fmt.Sprintf("slot %q is %q and %s: it is left as it is", s.action.Slot, slot.WALStatus, inUse(slot)),
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
	s.renewed = true
	return nil
}

func inUse(slot *state.Slot) string {
	if slot.Active {
		return fmt.Sprintf("in use by pid %d", slot.ActivePID)
	}
	return "not in use"
}
