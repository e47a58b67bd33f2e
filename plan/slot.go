package plan

import (
	"fmt"
	"strings"

	"github.com/pgkeep/pgkeep/state"
)

// slot plans the server's replication slot, and tells whether the rest of the server can be planned upon it.
func (b *builder) slot(s *server) bool {
	if len(s.homes) == 0 {
		b.notDone(NotDone{
			What: "slot, receiver and backups of " + s.Name,
			Why: because("no-repository-seen", "none of its repositories ("+strings.Join(s.blocked, ", ")+") was seen, and a slot without an archive only fills the server's disk",
				s.Where.Of("repositories")),
			Host: b.hostOf(s.blocked),
		})
		return false
	}
	slot := findSlot(s.seen, s.Slot.Name)
	switch {
	case slot == nil:
		return b.createSlot(s)
	case !slot.Physical || slot.Temporary:
		kind := "a logical"
		if slot.Physical {
			kind = "a temporary"
		}
		return b.refuseSlot(s, state.CodeSlotInUse, fmt.Sprintf("%s has %s slot named %s", s.Name, kind, slot.Name), "give "+s.Address+" another slot { name = … }")
	case slot.WALStatus == state.SlotLost:
		return b.lostSlot(s, slot)
	case slot.Active && !b.ours(s, slot):
		return b.foreignSlot(s, slot)
	case b.scope.replaces(s, "slot"):
		return b.renewSlot(s, slot)
	case slot.WALStatus == state.SlotUnreserved:
		b.unreserved(s, slot)
	}
	return true
}

func (b *builder) refuseSlot(s *server, code state.Code, text, hint string) bool {
	at := s.Where.Of("slot.name")
	b.notDone(NotDone{What: "slot, receiver and backups of " + s.Name, Why: because("slot-refused", text, at), Hint: hint})
	b.finding(Finding{Severity: Error, Code: code, Subject: s.Address, Text: text, Hint: hint, Range: rangeOf(at)})
	return false
}

func (b *builder) createSlot(s *server) bool {
	t, end, _ := b.durable(s)
	if s.seen.Patroni {
		lines := ignoreSlots(s)
		if end != 0 {
			return b.refuseSlot(s, state.CodeSettings,
				fmt.Sprintf("Patroni manages %s and has dropped the slot %s before; creating it again would be undone again", s.Name, s.Slot.Name), lines)
		}
		b.finding(Finding{
			Severity: Warning, Code: state.CodeSettings, Subject: s.Address, Range: rangeOf(s.Where.Block),
			Text: "Patroni manages " + s.Name + " and drops slots that it does not know, " + s.Slot.Name + " among them", Hint: lines,
		})
	}
	effect := "the server keeps WAL from now on until it is archived"
	if end != 0 {
		effect = fmt.Sprintf("the server keeps WAL from now on; whether it still has everything after our %s of timeline %d shows when the receiver starts", end, t)
	}
	s.after = append(s.after, b.step(Step{
		ID: "server." + s.Name + "/slot", Action: CreateSlot{Server: s.Name, Slot: s.Slot.Name}, Change: Add, Impact: Safe,
		Because: []Reason{because("no-slot", fmt.Sprintf(
			"pg_replication_slots has no %s; without it PostgreSQL may remove WAL before it is archived", s.Slot.Name), s.Where.Of("slot.name"))},
		Effect: effect, After: s.after,
		Requires: []Condition{{Code: NeedSystem, Value: s.systemID, Text: s.Name + " is system identifier " + s.systemID}, {Code: NeedSlotAbsent, Text: "no slot is named " + s.Slot.Name}},
	}))
	return true
}

// ignoreSlots gives the lines for Patroni's configuration.
func ignoreSlots(s *server) string {
	return "patronictl edit-config, and add:\nignore_slots:\n- name: " + s.Slot.Name + "\n  type: physical"
}

func (b *builder) lostSlot(s *server, slot *state.Slot) bool {
	text := fmt.Sprintf("the slot %s on %s is lost: PostgreSQL has removed WAL that it should have kept", slot.Name, s.Name)
	if slot.Invalidation != "" {
		text += " (" + slot.Invalidation + ")"
	}
	if s.Slot.OnLost == "fail" {
		return b.refuseSlot(s, state.CodeSlotLost, text+"; on_lost = \"fail\"",
			fmt.Sprintf("SELECT pg_drop_replication_slot(%s);  -- then apply again", quoteLiteral(slot.Name)))
	}
	if s.seen.Patroni {
		b.finding(Finding{
			Severity: Warning, Code: state.CodeSettings, Subject: s.Address, Range: rangeOf(s.Where.Block),
			Text: "Patroni manages " + s.Name + " and drops slots that it does not know", Hint: ignoreSlots(s),
		})
	}
	_, end, _ := b.durable(s)
	effect := "the server keeps WAL again from now on"
	if end != 0 {
		effect += fmt.Sprintf("; WAL between our %s and what the server still has cannot be had: if there is such a stretch, which shows when the receiver starts, it is recorded as a gap, and the look after this plan takes a new backup", end)
	}
	b.finding(Finding{Severity: Error, Code: state.CodeSlotLost, Subject: s.Address, Text: text, Hint: "apply the plan; raise max_slot_wal_keep_size", Range: rangeOf(s.Where.Of("slot.name"))})
	s.after = append(s.after, b.step(Step{
		ID: "server." + s.Name + "/slot", Action: ReplaceSlot{Server: s.Name, Slot: slot.Name}, Change: Modify, Impact: Declared,
		Because: []Reason{because("slot-lost", text, s.Where.Of("slot.on_lost"))}, Effect: effect, After: s.after,
		Requires: []Condition{{Code: NeedSlotLost, Text: slot.Name + " is still lost"}, {Code: NeedSystem, Value: s.systemID, Text: s.Name + " is system identifier " + s.systemID}},
	}))
	return true
}

// ours tells whether the client that holds the slot is our own receiver: the one that this machine runs; one with its
// application_name when the receiver's machine cannot be asked; and what the server still has of one that died here a
// moment ago. A receiver that was turned away from the slot proves that it is somebody else's.
func (b *builder) ours(s *server, slot *state.Slot) bool {
	r, ok := b.seen.Receivers[s.Name]
	known := ok && r.Unknown == nil
	if known && !r.Streaming && r.Problem != nil && r.Problem.Code == state.CodeSlotInUse {
		return false
	}
	if known && r.Running {
		return true
	}
	sender := senderOf(s.seen, slot.ActivePID)
	if sender == nil {
		return !known
	}
	return sender.Application == s.Receiver.ApplicationName
}

func senderOf(s state.Server, pid int) *state.Sender {
	for i := range s.Senders {
		if s.Senders[i].PID == pid {
			return &s.Senders[i]
		}
	}
	return nil
}

func (b *builder) foreignSlot(s *server, slot *state.Slot) bool {
	who := fmt.Sprintf("pid %d", slot.ActivePID)
	if c := senderOf(s.seen, slot.ActivePID); c != nil {
		address := c.Address
		if address == "" {
			address = "a local socket"
		}
		who = fmt.Sprintf("pid %d, application_name %q, from %s", slot.ActivePID, c.Application, address)
	}
	return b.refuseSlot(s, state.CodeSlotInUse, fmt.Sprintf("the slot %s on %s is in use by another client: %s", slot.Name, s.Name, who),
		fmt.Sprintf("stop that client, or SELECT pg_terminate_backend(%d);", slot.ActivePID))
}

func (b *builder) unreserved(s *server, slot *state.Slot) {
	text := fmt.Sprintf("the slot %s on %s is unreserved: the server may remove the WAL it needs at its next checkpoint", slot.Name, s.Name)
	if slot.SafeBytes != nil {
		text += fmt.Sprintf("; safe_wal_size is %s", Size(*slot.SafeBytes))
	}
	b.finding(Finding{
		Severity: Error, Code: state.CodeGap, Subject: s.Address, Text: text, Range: rangeOf(s.Where.Of("slot.name")),
		Hint: "let the receiver catch up now; nothing is dropped. Raise max_slot_wal_keep_size",
	})
}

// unclaimed warns of slots with our prefix that hold WAL back for nobody in the configuration.
func (b *builder) unclaimed(s *server) {
	for _, slot := range s.seen.Slots {
		if !strings.HasPrefix(slot.Name, "pgkeep_") || slot.Active || b.claimed[slot.Name] {
			continue
		}
		b.finding(Finding{
			Severity: Warning, Code: state.CodeSettings, Subject: s.Address, Range: rangeOf(s.Where.Block),
			Text: fmt.Sprintf("the inactive slot %s on %s belongs to no block of the configuration and holds back %s of WAL", slot.Name, s.Name, Size(slot.Retained)),
			Hint: fmt.Sprintf("SELECT pg_drop_replication_slot(%s);  -- when nothing needs it", quoteLiteral(slot.Name)),
		})
	}
}

// hostOf gives the machine of the first of the repositories that has one.
func (b *builder) hostOf(labels []string) string {
	for _, l := range labels {
		if p := b.repositories[l]; p != nil && p.spec.Host != "" && !b.here(p.spec.Host) {
			return p.spec.Host
		}
	}
	return ""
}
