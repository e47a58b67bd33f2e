package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pgkeep/pgkeep/state"
)

// observed says what was seen now of the thing that an act is about, so that an operator understands why it is not asked
// for any more; empty: nothing that would explain it.
func observed(a Action, seen state.Observation) string {
	switch a := a.(type) {
	case CreateRepository:
		return repositoryNow(a.Repository, seen)
	case CreateSlot:
		return slotNow(a.Server, a.Slot, seen)
	case ReplaceSlot:
		return slotNow(a.Server, a.Slot, seen)
	case DropSlot:
		return slotNow(a.Server, a.Slot, seen)
	case StartReceiver:
		return receiverNow(a.Server, seen)
	case StopReceiver:
		return receiverNow(a.Server, seen)
	case TakeBackup:
		return newestNow(a, seen)
	case CopyBackup:
		return strings.Join(fates(a.Server, a.SystemID, a.Repository, []string{a.Backup}, seen), ", ")
	case RemoveIncomplete:
		return strings.Join(fates(a.Server, a.SystemID, a.Repository, a.Backups, seen), ", ")
	case Prune:
		return strings.Join(fates(a.Server, a.SystemID, a.Repository, a.Backups, seen), ", ")
	}
	return ""
}

// backupsNow says what became of the backups that only the older of two steps names; empty: nothing that explains it.
func backupsNow(was, is *Step, seen state.Observation) string {
	switch a := was.Action.(type) {
	case Prune:
		b, ok := is.Action.(Prune)
		if !ok {
			return ""
		}
		gone := slices.DeleteFunc(slices.Clone(a.Backups), func(id string) bool { return slices.Contains(b.Backups, id) })
		return strings.Join(fates(a.Server, a.SystemID, a.Repository, gone, seen), ", ")
	case RemoveIncomplete:
		b, ok := is.Action.(RemoveIncomplete)
		if !ok {
			return ""
		}
		gone := slices.DeleteFunc(slices.Clone(a.Backups), func(id string) bool { return slices.Contains(b.Backups, id) })
		return strings.Join(fates(a.Server, a.SystemID, a.Repository, gone, seen), ", ")
	}
	return ""
}

func repositoryNow(label string, seen state.Observation) string {
	r, ok := seen.Repositories[label]
	switch {
	case !ok:
		return ""
	case r.Unknown != nil:
		return r.Unknown.Because
	}
	return fmt.Sprintf("a repository is at %s", r.Location)
}

func slotNow(server, name string, seen state.Observation) string {
	s, ok := seen.Servers[server]
	switch {
	case !ok:
		return ""
	case s.Unknown != nil:
		return s.Unknown.Because
	}
	for _, slot := range s.Slots {
		if slot.Name != name {
			continue
		}
		text := "slot " + name + " is there"
		if slot.WALStatus != "" {
			text += ", " + slot.WALStatus
		}
		if slot.Active {
			text += fmt.Sprintf(", in use by process %d", slot.ActivePID)
		}
		return text
	}
	return "there is no slot " + name
}

func receiverNow(server string, seen state.Observation) string {
	if s, ok := seen.Servers[server]; ok && s.Unknown != nil {
		return s.Unknown.Because
	}
	r, ok := seen.Receivers[server]
	switch {
	case !ok:
		return ""
	case r.Unknown != nil:
		return r.Unknown.Because
	case !r.Running:
		return "no receiver of " + server + " runs"
	}
	return fmt.Sprintf("the receiver of %s runs as process %d", server, r.PID)
}

// newestNow names the newest backup that the older plan did not know.
func newestNow(a TakeBackup, seen state.Observation) string {
	if s, ok := seen.Servers[a.Server]; ok && s.Unknown != nil {
		return s.Unknown.Because
	}
	var newest *state.Backup
	for _, label := range a.Repositories {
		for _, c := range seen.Repositories[label].Clusters[a.Server] {
			for i := range c.Backups {
				if k := &c.Backups[i]; newest == nil || k.Began.After(newest.Began) {
					newest = k
				}
			}
		}
	}
	if newest == nil {
		return ""
	}
	return fmt.Sprintf("the newest backup is %s, %s", newest.ID, newest.State)
}

// fates says of each backup what became of it.
func fates(server, systemID, repository string, ids []string, seen state.Observation) []string {
	r := seen.Repositories[repository]
	if r.Unknown != nil {
		return []string{r.Unknown.Because}
	}
	known := map[string]state.Backup{}
	for _, c := range r.Clusters[server] {
		if c.SystemID != systemID {
			continue
		}
		for _, k := range c.Backups {
			known[k.ID] = k
		}
	}
	var out []string
	for _, id := range ids {
		k, ok := known[id]
		switch {
		case !ok:
			out = append(out, id+" is gone")
		case k.Hold != nil && k.Hold.Reason != "":
			out = append(out, fmt.Sprintf("%s is held: %s", id, k.Hold.Reason))
		case k.Hold != nil:
			out = append(out, id+" is held")
		default:
			out = append(out, fmt.Sprintf("%s is %s", id, k.State))
		}
	}
	return out
}
