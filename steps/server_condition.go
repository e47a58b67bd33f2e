package steps

import (
	"context"
	"strconv"

	"github.com/pgkeep/pgkeep/plan"
)

// serverCondition re-reads the conditions that every step on a server can have.
func serverCondition(ctx context.Context, s Server, c plan.Condition) (verdict, error) {
	switch c.Code {
	case plan.NeedSystem, plan.NeedPrimary, plan.NeedTimeline:
	case plan.NeedSlotAbsent, plan.NeedSlotUsable, plan.NeedSlotInactive, plan.NeedSlotLost:
		return slotCondition(ctx, s, c)
	default:
		return unknownCondition(c), nil
	}
	facts, err := s.Facts(ctx)
	if err != nil {
		return verdict{}, err
	}
	switch {
	case c.Code == plan.NeedSystem && facts.SystemID != c.Value:
		return isRefused("the server's system identifier is %s now, not %s", facts.SystemID, c.Value), nil
	case c.Code == plan.NeedPrimary && facts.InRecovery:
		return isStale("the server is in recovery now"), nil
	case c.Code == plan.NeedTimeline && strconv.FormatUint(uint64(facts.Timeline), 10) != c.Value:
		return isStale("the server is on timeline %d now, not %s", facts.Timeline, c.Value), nil
	}
	return holds(), nil
}

// slotCondition is for steps whose action names no slot: the condition does.
func slotCondition(ctx context.Context, s Server, c plan.Condition) (verdict, error) {
	if c.Value == "" {
		return unknownCondition(c), nil
	}
	return slotNeed(ctx, s, c.Value, c)
}

// slotNeed re-reads one of the conditions on a slot.
func slotNeed(ctx context.Context, slots Slots, name string, c plan.Condition) (verdict, error) {
	slot, err := slots.Slot(ctx, name)
	if err != nil {
		return verdict{}, err
	}
	switch {
	case c.Code == plan.NeedSlotAbsent && slot != nil:
		return isStale("there is a slot %q now", name), nil
	case c.Code == plan.NeedSlotLost && !lostOrAbsent(slot):
		return isStale("slot %q is no longer lost, but %q", name, slot.WALStatus), nil
	case c.Code == plan.NeedSlotUsable && !holdsWAL(slot):
		return isStale("slot %q is absent or lost now", name), nil
	case c.Code == plan.NeedSlotInactive && slot != nil && slot.Active:
		return isStale("slot %q is in use by process %d of the server now", name, slot.ActivePID), nil
	}
	return holds(), nil
}
