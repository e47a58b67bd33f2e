package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// backup plans a base backup of the server when one is needed, or due.
func (b *builder) backup(s *server) {
	var why []Reason
	for _, h := range s.homes {
		if r, needed := b.needed(s, h); needed && h.copying == nil {
			why = append(why, r)
		}
	}
	needed := len(why) > 0
	schedule, scheduled := b.scheduled(s)
	if scheduled != nil {
		why = append(why, *scheduled)
	}
	asked := b.scope.replaces(s, "backup")
	if asked {
		why = append(why, Reason{Code: "replace-asked", Text: "--replace asks for a new one"})
	}
	if len(why) == 0 {
		return
	}
	if running := s.running(); running != nil {
		b.notDone(NotDone{
			What: "take-backup of " + s.Name,
			Why:  because(stillRunning, fmt.Sprintf("%s is being written since %s by %s", running.ID, Moment(running.Began), orUnknown(running.Host)), s.Where.Of("backup")),
		})
		return
	}
	kind := "full" // what is asked for anew, or because what there was is broken, stands on nothing
	if needed && !asked && (schedule == nil || schedule.spec.Backup != "full") {
		kind = "anew" // by no name: it may go on with one that was cut
	}
	if schedule != nil && !needed && !asked {
		kind = schedule.spec.Backup
	}
	action := TakeBackup{Server: s.Name, Fast: s.Backup.Checkpoint == "fast"}
	if schedule != nil {
		action.Schedule, action.Due = schedule.spec.Name, schedule.last
	} else if needed && !asked {
		action.Needed, action.Known = true, s.knownBackups()
	}
	b.takeBackup(s, action, kind, why)
}

func orUnknown(host string) string {
	if host == "" {
		return "an unknown machine"
	}
	return host
}

// takeBackup adds the step, unless no backup can be taken from the server as it is. kind is auto, full, incremental, or anew: full, though nobody asked for
// it by name.
func (b *builder) takeBackup(s *server, action TakeBackup, kind string, why []Reason) {
	from := b.sourceOf(s)
	if bad := from.refused; bad != nil {
		b.notDone(NotDone{What: "take-backup of " + s.Name, Why: because(bad.code, bad.text, s.Where.Of(bad.attr)), Hint: bad.hint})
		return
	}
	action.Standby = from.standby
	if from.why != nil {
		why = append(why, *from.why)
	}
	var chosen *Reason
	if action.Kind, action.Parent, chosen = b.kindOf(s, kind); chosen != nil {
		why = append(why, *chosen)
	}
	host := ""
	for _, h := range s.homes {
		if action.Parent != "" && h.gets(action.Parent) {
			b.notDone(NotDone{
				What: "this backup of " + s.Name + " into " + h.spec.Name, Hint: "the next plan copies it there",
				Why: because("parent-lacks", fmt.Sprintf("%s lacks its parent %s, and gets that from %s first", h.spec.Address, action.Parent, h.copying.from.spec.Address), s.Where.Of("repositories")),
			})
			continue
		}
		action.Repositories = append(action.Repositories, h.spec.Name)
		if host == "" {
			host = h.spec.Host
		}
	}
	if len(s.blocked) > 0 {
		b.notDone(NotDone{
			What: "this backup of " + s.Name + " into " + strings.Join(s.blocked, ", "), Host: b.hostOf(s.blocked), Hint: runOn(b.hostOf(s.blocked)),
			Why: because("repository-unknown", "a repository that was not seen gets nothing", s.Where.Of("repositories")),
		})
	}
	effect := fmt.Sprintf("a restore point in %s once its WAL is archived", strings.Join(action.Repositories, " and "))
	if s.seen.SizeBytes > 0 {
		effect += fmt.Sprintf("; the cluster is %s", Size(s.seen.SizeBytes))
		for _, h := range s.homes {
			if h.seen.Free > 0 && h.create == "" && s.seen.SizeBytes > 4*h.seen.Free {
				b.finding(Finding{
					Severity: Error, Code: state.CodeDiskFull, Subject: h.spec.Address, Range: rangeOf(h.spec.Where.Block),
					Text: fmt.Sprintf("%s has %s free and %s is %s", h.seen.Location, Size(h.seen.Free), s.Name, Size(s.seen.SizeBytes)), Hint: "add space",
				})
			}
		}
	}
	requires := []Condition{{Code: NeedSystem, Value: s.systemID, Text: s.Name + " is system identifier " + s.systemID}}
	switch {
	case action.Schedule != "":
		requires = append(requires, Condition{Code: NeedNoBackupSince, Text: "no backup began at or after " + Moment(action.Due)})
	case action.Needed:
		requires = append(requires, Condition{Code: NeedNoBackupSince, Text: "nobody else took a backup since this plan was made"})
	}
	if action.Kind == "full" {
		if r := b.continues(s, &action, kind == "full" || kind == ""); r != nil {
			why = append(why, *r)
		}
	}
	s.retryIn, s.retryGoesOn = action.Repositories, action.Continues
	s.dropCopies(action)
	action.RepositoryIDs = b.repositoryIDs(action.Repositories)
	s.retry = b.step(Step{
		ID: "server." + s.Name + "/backup", Action: action, Change: Add, Impact: Safe, Host: host,
		Because: why, Effect: effect, After: slices.Clone(s.after), Requires: requires,
	})
}

// knownBackups gives the ids of the backups that were seen and could have been of use.
func (s *server) knownBackups() []string {
	var out []string
	for _, k := range s.allBackups() {
		if (k.State == state.BackupCommitted || k.State == state.BackupRunning) && !slices.Contains(out, k.ID) {
			out = append(out, k.ID)
		}
	}
	return out
}

// committed tells whether a repository has the backup whole: where another one is still writing it, it is a copy.
func (s *server) committed(id string) bool {
	return slices.ContainsFunc(s.allBackups(), func(k *state.Backup) bool { return k.ID == id && k.State == state.BackupCommitted })
}

// running gives a backup of the server that is being written now, copies not counted.
func (s *server) running() *state.Backup {
	for _, h := range s.homes {
		if h.archive == nil {
			continue
		}
		for i := range h.archive.Backups {
			if k := &h.archive.Backups[i]; k.State == state.BackupRunning && !s.committed(k.ID) {
				return k
			}
		}
	}
	return nil
}

// needed tells whether a repository lacks a backup from which the server's newest WAL is reached. A backup whose WAL is
// still on its way counts; a damaged one does not.
func (b *builder) needed(s *server, h *home) (Reason, bool) {
	at := s.Where.Of("backup")
	if h.archive == nil {
		return because("no-usable-backup", h.spec.Address+" holds no backup of "+s.Name+s.uncopied(h), at), true
	}
	a, onLine := h.archive, false
	gone := make([]wal.Range, 0, len(a.Gaps)+1)
	held := append(slices.Clone(a.have), s.elsewhere(h)...)
	for _, g := range a.Gaps {
		gone = append(gone, wal.Missing(g.Range, held)...) // somebody had it after all
	}
	if s.lost != nil {
		gone = append(gone, *s.lost)
	}
	var newest *state.Backup
	var hole wal.Range
	for i := len(a.Backups) - 1; i >= 0; i-- {
		k := &a.Backups[i]
		open := k.State == state.BackupRunning
		if k.State != state.BackupCommitted && !open || !a.current.holds(k.Timeline, max(k.Redo, k.Stop)) {
			continue
		}
		onLine = true
		broken, where := b.broken(s, h, k, gone)
		if !broken {
			return Reason{}, false
		}
		if newest == nil {
			newest, hole = k, where
		}
	}
	if !onLine && s.historyElsewhere(h) {
		return Reason{}, false // it is copied, and then it is known what belongs together
	}
	if !onLine {
		text := h.spec.Address + " holds no usable backup of " + s.Name
		if n := len(a.Backups); n > 0 {
			text += fmt.Sprintf(" on timeline %d's line of history (of %s)", a.current.timeline, count(n, "backup"))
		}
		return because("no-usable-backup", text, at), true
	}
	return because("chain-broken", fmt.Sprintf("in %s the WAL after the newest backup %s is broken at %s to %s", h.spec.Address, newest.ID, hole.From, hole.To), at), true
}

// elsewhere gives the WAL that the other repositories of the server hold and that can be read: it is copied.
func (s *server) elsewhere(h *home) []wal.Range {
	var out []wal.Range
	for _, o := range s.sources(h) {
		out = append(out, o.archive.have...)
	}
	return out
}

// historyElsewhere tells whether another repository has a history file without which it is not known what h holds.
func (s *server) historyElsewhere(h *home) bool {
	return slices.ContainsFunc(s.sources(h), func(o *home) bool { return len(lackedHistories(h, o, nil)) > 0 })
}

// broken tells whether WAL between a backup and the end of the archive is gone for good: recorded as a gap, or archived
// on both sides, in no spool and in no other repository.
func (b *builder) broken(s *server, h *home, k *state.Backup, gone []wal.Range) (bool, wal.Range) {
	a := h.archive
	path := a.current.path(k.Redo, ^wal.LSN(0), a.size)
	for _, want := range path {
		for _, g := range gone {
			if g.Timeline == want.Timeline && g.From < want.To && want.From < g.To {
				return true, g
			}
		}
	}
	sp, ok := b.spoolOf(s)
	if !ok {
		return false, wal.Range{} // what is missing may be on its way
	}
	end := k.Redo
	for _, r := range a.have {
		if r.Timeline == a.current.timeline {
			end = max(end, r.To)
		}
	}
	for _, hole := range a.missing(a.current.path(k.Redo, end, a.size)) {
		if left := missingFrom(hole, append(s.elsewhere(h), sp.Pending...)); len(left) > 0 && left[0].From < sp.Durable {
			return true, left[0]
		}
	}
	return false, wal.Range{}
}

func missingFrom(want wal.Range, have []wal.Range) []wal.Range { return wal.Missing(want, have) }

// scheduled gives the first schedule of the server that is due, and its reason.
func (b *builder) scheduled(s *server) (*due, *Reason) {
	for _, d := range b.schedules[s.Name] {
		at := d.spec.Where.Of("cron")
		if d.err != nil {
			b.finding(Finding{Severity: Error, Code: state.CodeSchedule, Subject: d.spec.Address, Text: d.err.Error(), Range: rangeOf(at)})
			continue
		}
		if b.opt.IgnoreDue {
			continue
		}
		isDue, why, again := d.verdict(s.allBackups(), b.now)
		if isDue {
			r := because("schedule-due", d.spec.Address+": "+why, at)
			return d, &r
		}
		if why != "" {
			b.notDone(NotDone{What: "take-backup of " + s.Name, Why: because(notYet, why, at)})
		}
		if !again.IsZero() {
			b.plan.NextDue = append(b.plan.NextDue, Due{At: again, What: "take-backup (again)", Subject: s.Name})
		}
	}
	return nil, nil
}

// allBackups gives what every repository of the server that was seen holds.
func (s *server) allBackups() []*state.Backup {
	var out []*state.Backup
	for _, h := range s.homes {
		if h.archive == nil {
			continue
		}
		for i := range h.archive.Backups {
			out = append(out, &h.archive.Backups[i])
		}
	}
	return out
}

// nextTicks tells when the clock will ask for the next backup.
func (b *builder) nextTicks(s *server) {
	for _, d := range b.schedules[s.Name] {
		if !d.next.IsZero() {
			b.plan.NextDue = append(b.plan.NextDue, Due{At: d.next, What: "take-backup", Subject: s.Name})
		}
	}
}
