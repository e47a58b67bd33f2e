package plan

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
)

// buildAlone plans only what the options ask for by hand; the rest of the configuration is left as it is.
func (b *builder) buildAlone() {
	for i := range b.spec.Repositories {
		if p := b.repositories[b.spec.Repositories[i].Name]; !p.known && p.seen.Unknown != nil {
			b.notDone(NotDone{
				What: "everything that needs " + p.spec.Address, Host: b.elsewhere(p.spec.Host), Hint: p.seen.Unknown.Hint,
				Why: because("repository-unknown", p.seen.Unknown.Because, p.spec.Where.Block),
			})
		}
	}
	if now := b.opt.BackupNow; now != nil {
		for _, name := range now.Servers {
			b.backupNow(name, *now)
		}
	}
	for _, name := range b.opt.Switch {
		b.switchWAL(name)
	}
	if b.opt.Delete != nil {
		b.deleteBackups(*b.opt.Delete)
	}
	if b.opt.Repair != nil {
		b.repair(*b.opt.Repair)
	}
	if b.opt.Drill != nil {
		b.drillNow(*b.opt.Drill)
	}
	if b.opt.Recover != "" {
		b.recoverBlock(b.opt.Recover)
	}
	if b.opt.RecoverTo != nil {
		b.recover(*b.opt.RecoverTo)
	}
	b.finish()
}

// refuseAsked reports a request that cannot be planned at all.
func (b *builder) refuseAsked(summary, detail string, at *hcl.Range) {
	b.diags = append(b.diags, &hcl.Diagnostic{Severity: hcl.DiagError, Summary: summary, Detail: detail, Subject: at})
}

// serverNamed finds a server by its stored name.
func (b *builder) serverNamed(name string) *hclspec.Server {
	i, ok := slices.BinarySearchFunc(b.spec.Servers, name, func(s hclspec.Server, n string) int { return strings.Compare(s.Name, n) })
	if ok {
		return &b.spec.Servers[i]
	}
	for i := range b.spec.Servers { // sorted by address, which is not always the order of stored names
		if b.spec.Servers[i].Name == name {
			return &b.spec.Servers[i]
		}
	}
	return nil
}

func (b *builder) asked(name string) *server {
	spec := b.serverNamed(name)
	if spec == nil {
		var known []string
		for _, s := range b.spec.Servers {
			known = append(known, s.Name)
		}
		b.refuseAsked("No such server", fmt.Sprintf("The configuration has no server %q. It has %s.", name, names(known)), nil)
		return nil
	}
	return b.gather(spec)
}

// names lists up to twenty names, or says that there are none.
func names(list []string) string {
	const most = 20
	switch {
	case len(list) == 0:
		return "none"
	case len(list) > most:
		return strings.Join(list[:most], ", ") + fmt.Sprintf(" and %d more", len(list)-most)
	}
	return strings.Join(list, ", ")
}

func (b *builder) backupNow(name string, now BackupNow) {
	s := b.asked(name)
	if s == nil || !s.known || !b.identity(s) || !b.ready(s) {
		return
	}
	if len(s.homes) == 0 {
		b.notDone(NotDone{
			What: "take-backup of " + s.Name, Host: b.hostOf(s.blocked), Hint: runOn(b.hostOf(s.blocked)),
			Why: because("no-repository-seen", "none of its repositories was seen", s.Where.Of("repositories")),
		})
		return
	}
	if running := s.running(); running != nil {
		b.notDone(NotDone{What: "take-backup of " + s.Name, Why: because("backup-running",
			fmt.Sprintf("%s is being written since %s by %s", running.ID, Moment(running.Began), orUnknown(running.Host)), s.Where.Of("backup"))})
		return
	}
	if slot := findSlot(s.seen, s.Slot.Name); slot == nil || !slot.Active {
		b.finding(Finding{
			Severity: Warning, Code: state.CodeGap, Subject: s.Address, Range: rangeOf(s.Where.Of("receiver")),
			Text: "no receiver streams from " + s.Name + ": the backup is usable only once its WAL is archived", Hint: "pgkeep apply",
		})
	}
	b.takeBackup(s, TakeBackup{Server: name, Fast: now.Fast, Label: now.Label}, now.Kind,
		[]Reason{{Code: "asked", Text: "asked for by hand"}})
}

func (b *builder) switchWAL(name string) {
	s := b.asked(name)
	if s == nil || !s.known || !b.identity(s) {
		return
	}
	what := "switch-wal on " + name
	if s.seen.InRecovery {
		b.notDone(NotDone{What: what, Why: because("standby", name+" answers as a standby, which writes no WAL", s.Where.Of("conninfo"))})
		return
	}
	if r := s.seen.Role; !r.SwitchWAL && !r.Superuser {
		text, at := fmt.Sprintf("the role %s may not run pg_switch_wal() on %s", r.Name, name), s.Where.Of("conninfo")
		hint := "GRANT EXECUTE ON FUNCTION pg_switch_wal() TO " + quoteIdent(r.Name) + ";"
		b.notDone(NotDone{What: what, Why: because("privilege", text, at), Hint: hint})
		b.finding(Finding{Severity: Error, Code: state.CodePrivilege, Subject: s.Address, Text: text, Hint: hint, Range: rangeOf(at)})
		return
	}
	b.step(Step{
		ID: "server." + name + "/switch", Action: SwitchWAL{Server: name}, Change: Modify, Impact: Safe,
		Because: []Reason{{Code: "asked", Text: "asked for by hand"}}, Effect: "the current segment ends and is archived whole",
		Requires: []Condition{{Code: NeedSystem, Value: s.systemID, Text: name + " is system identifier " + s.systemID}},
	})
}

// deleteBackups plans deletions by id, and refuses those that would leave too few, or something unreadable.
func (b *builder) deleteBackups(d DeleteBackups) {
	s := b.asked(d.Server)
	if s == nil {
		return
	}
	found := map[string]bool{}
	for _, h := range s.homes {
		if d.Repository != "" && d.Repository != h.spec.Name {
			continue
		}
		clusters := append(slices.Clone(h.others), state.Cluster{})[:len(h.others)]
		if h.archive != nil {
			clusters = append(clusters, *h.archive.Cluster)
		}
		for i := range clusters {
			b.deleteFrom(s, h, &clusters[i], d, found)
		}
	}
	for _, id := range d.Backups {
		if !found[id] {
			b.refuseAsked("No such backup", fmt.Sprintf("No repository of %s that was seen holds a backup %q. List them with: pgkeep backups list %s", d.Server, id, d.Server), nil)
		}
	}
}

func (b *builder) deleteFrom(s *server, h *home, c *state.Cluster, d DeleteBackups, found map[string]bool) {
	a := newArchive(c, s.seen.Timeline)
	action := Prune{Server: s.Name, SystemID: c.SystemID, Repository: h.spec.Name, RepositoryID: h.seen.ID, Clock: b.deletionClock(s, h)}
	step := Step{ID: b.cleanID(s, "delete", h, c), Change: Destroy, Impact: Destructive, Host: h.spec.Host}
	staying := 0
	for i := range c.Backups {
		k := &c.Backups[i]
		asked := slices.Contains(d.Backups, k.ID)
		if !asked && a.usability(k) == state.Usable {
			staying++
		}
		if !asked || k.State == state.BackupDeleted {
			found[k.ID] = found[k.ID] || asked
			continue
		}
		found[k.ID] = true
		if why := b.undeletable(k, c, action.Clock, d.Backups); why != "" {
			b.notDone(NotDone{What: "delete " + k.ID + " in " + h.spec.Name, Why: Reason{Code: "needed", Text: why}})
			continue
		}
		action.Backups = append(action.Backups, k.ID)
		step.Because = append(step.Because, Reason{Code: "asked", Text: fmt.Sprintf("%s of %s: asked for by hand", k.ID, Moment(k.Ended))})
	}
	if len(action.Backups) == 0 {
		return
	}
	var blocks []*hclspec.Retention
	for _, r := range b.retentions[s.Name] {
		if len(r.Repositories) == 0 || containsString(r.Repositories, h.spec.Name) {
			blocks = append(blocks, r)
		}
	}
	least := Join(blocks).Minimum
	if c.SystemID != s.systemID {
		least = 0
	}
	if staying < least {
		b.notDone(NotDone{
			What: "delete " + strings.Join(action.Backups, ", ") + " in " + h.spec.Name,
			Why:  Reason{Code: "minimum-redundancy", Text: fmt.Sprintf("%s would be left, and minimum_redundancy is %d", count(staying, "usable backup"), least)},
			Hint: "take another backup first: pgkeep backup " + s.Name,
		})
		return
	}
	step.Action = action
	step.Loses = a.lossOfBackups(func(k *state.Backup) bool { return slices.Contains(action.Backups, k.ID) })
	step.Effect = fmt.Sprintf("what only %s could recover is lost after a day", strings.Join(action.Backups, " or "))
	step.Requires = []Condition{{Code: NeedStillNeedless, Text: "none of them is held, referred to or needed meanwhile"}}
	if least > 0 { // somebody may delete others while this one waits for an answer
		step.Requires = append(step.Requires, Condition{Code: NeedUsableLeft, Value: strconv.Itoa(least), Text: fmt.Sprintf("usable backups that stay: at least %d", least)})
	}
	b.step(step)
}

// undeletable says what needs a backup; empty: nothing.
func (b *builder) undeletable(k *state.Backup, c *state.Cluster, clock time.Time, going []string) string {
	if holdLive(k, clock) {
		return "it is held: " + k.Hold.Reason
	}
	if k.State == state.BackupRunning {
		return "it is being written"
	}
	for i := range c.Backups {
		o := &c.Backups[i]
		live := o.State == state.BackupCommitted || o.State == state.BackupRunning || o.State == state.BackupDamaged
		if live && !slices.Contains(going, o.ID) && (o.Parent == k.ID || slices.Contains(o.Refs, k.ID)) {
			return o.ID + " refers to its volumes"
		}
	}
	return ""
}
