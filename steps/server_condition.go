package steps

import (
	"context"

	"github.com/pgkeep/pgkeep/plan"
)

// serverCondition re-reads the conditions that every step on a server can have. A plan that does not say which system
// identifier it saw could mean any server, so it is refused.
func serverCondition(ctx context.Context, s Server, c plan.Condition) (verdict, error) {
	if c.Code != plan.NeedSystem {
		return unknownCondition(c), nil
	}
	if c.Value == "" {
		return isRefused("the plan does not say which system identifier it saw"), nil
	}
	facts, err := s.Facts(ctx)
	if err != nil {
		return verdict{}, err
	}
	if facts.SystemID != c.Value {
		return isRefused("the server's system identifier is %s now, not %s", facts.SystemID, c.Value), nil
	}
	return holds(), nil
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
	case c.Code == plan.NeedSlotPresent && !holdsWAL(slot):
		return isStale("slot %q is absent or lost now", name), nil
	case c.Code == plan.NeedSlotInactive && slot != nil && slot.Active:
		return isStale("slot %q is in use by process %d of the server now; if that is a receiver of pgkeep, end it where it runs: pgkeep receiver stop", name, slot.ActivePID), nil
	}
	return holds(), nil
}
