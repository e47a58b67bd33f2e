package plan

import (
	"fmt"

	"github.com/pgkeep/pgkeep/hclspec"
)

// removed plans what a `removed` block asks for: the receiver stops and the slot goes. Backups are never touched.
func (b *builder) removed(r *hclspec.Removed) {
	var after []string
	if rec, ok := b.seen.Receivers[r.Name]; ok && rec.Unknown == nil && rec.Running {
		after = append(after, b.step(Step{
			ID: "removed." + r.Name + "/receiver", Action: StopReceiver{Server: r.Name}, Change: Modify, Impact: Disruptive,
			Because:  []Reason{because("removed", r.From+" is removed from the configuration and its receiver still runs", r.Where.Block)},
			Effect:   "WAL of " + r.Name + " is no longer archived; its backups stay",
			Requires: []Condition{{Code: NeedReceiver, Text: "the receiver of " + r.Name + " runs"}},
		}))
	}
	if r.Slot != "drop" {
		return
	}
	what := "drop-slot of " + r.Name
	if r.Conninfo == (hclspec.Secret{}) {
		b.notDone(NotDone{What: what, Why: because("no-conninfo", "without conninfo its slot cannot be dropped", r.Where.Block), Hint: "add conninfo to the removed block"})
		return
	}
	seen, ok := b.seen.Servers[r.Name]
	if !ok || seen.Unknown != nil {
		why, hint := r.Name+" was not looked at", ""
		at := r.Where.Of("conninfo")
		if ok {
			why, hint = seen.Unknown.Because, seen.Unknown.Hint
			b.finding(Finding{Severity: Warning, Code: seen.Unknown.Code, Subject: "removed." + r.Name, Text: why, Hint: hint, Range: rangeOf(at)})
		}
		b.notDone(NotDone{What: what, Why: because("server-unknown", why, at), Hint: hint})
		return
	}
	slot := findSlot(seen, r.SlotName)
	if slot == nil || !slot.Physical {
		return
	}
	if slot.Active && len(after) == 0 {
		b.notDone(NotDone{
			What: what, Why: because("slot-in-use", fmt.Sprintf("process %d of the server streams from %s, and no receiver of %s was found here", slot.ActivePID, slot.Name, r.Name), r.Where.Of("slot")),
			Hint: "run it on the machine of the receiver; where that had a spool of its own, name its directory here: spool = \"DIR\"",
		})
		return
	}
	b.step(Step{
		ID: "removed." + r.Name + "/slot", Action: DropSlot{Server: r.Name, Slot: r.SlotName}, Change: Destroy, Impact: Destructive, After: after,
		Because: []Reason{because("removed", fmt.Sprintf("%s is removed from the configuration, and its slot %s holds back %s of WAL", r.From, slot.Name, Size(slot.Retained)), r.Where.Of("slot"))},
		Effect:  "the server no longer keeps WAL for " + r.Name + "; its backups stay and can be recovered up to the end of the archived WAL",
		Requires: []Condition{
			{Code: NeedSystem, Value: seen.SystemID, Text: r.Name + " is system identifier " + seen.SystemID},
			{Code: NeedSlotInactive, Text: "nobody streams from " + slot.Name},
		},
	})
}
