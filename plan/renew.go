package plan

import (
	"fmt"

	"github.com/pgkeep/pgkeep/state"
)

// renewSlot plans what --replace asks for: the receiver stops, the slot goes though it holds WAL, and comes anew. The
// receiver starts again by its own step.
func (b *builder) renewSlot(s *server, slot *state.Slot) bool {
	r, ok := b.seen.Receivers[s.Name]
	known := ok && r.Unknown == nil
	refuse := func(code, why, hint, host string) bool {
		b.notDone(NotDone{What: "replace-slot of " + s.Name, Why: Reason{Code: code, Text: why}, Hint: hint, Host: host})
		return true
	}
	switch {
	case slot.Active && !known:
		host := b.elsewhere(s.Receiver.Host)
		return refuse("receiver-unknown", "its receiver, which holds the slot, is not on this machine", runOn(host), host)
	case known && r.Running && r.Agent:
		return refuse("agent", "its receiver lives in an agent, which would start it again at once", "stop the agent first: systemctl stop pgkeep-agent; then apply, and start it again", "")
	case known && r.Running:
		s.stopped = b.step(Step{
			ID: "server." + s.Name + "/receiver/stop", Action: StopReceiver{Server: s.Name}, Change: Modify, Impact: Disruptive, Host: s.Receiver.Host,
			Because: []Reason{{Code: "replace-asked", Text: "the slot that it streams from is to be replaced"}},
			Effect:  "WAL of " + s.Name + " is not received until it starts again; the slot keeps it until then", After: s.after,
			Requires: []Condition{{Code: NeedReceiver, Text: "the receiver of " + s.Name + " runs"}},
		})
		s.after = append(s.after, s.stopped)
	}
	s.after = append(s.after, b.step(Step{
		ID: "server." + s.Name + "/slot", Action: ReplaceSlot{Server: s.Name, Slot: slot.Name, Healthy: true}, Change: Modify, Impact: Destructive,
		Because: []Reason{{Code: "replace-asked", Text: fmt.Sprintf("--replace names it; it is %s and holds back %s of WAL", orUnreserved(slot.WALStatus), Size(slot.Retained))}},
		Effect:  "between the drop and the creation nothing keeps WAL: what the server removes then cannot be had, and is recorded as a gap when the receiver starts",
		After:   s.after,
		Requires: []Condition{
			{Code: NeedSystem, Value: s.systemID, Text: s.Name + " is system identifier " + s.systemID},
			{Code: NeedSlotInactive, Text: "nobody streams from " + slot.Name},
		},
	}))
	return true
}

func orUnreserved(status string) string {
	if status == "" {
		return "without reserved WAL"
	}
	return status
}
