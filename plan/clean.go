package plan

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// clean plans what the server's repositories no longer need: backups without a decision, backups kept by no rule, and
// WAL that no recovery point needs. What one repository gets from another comes in between.
func (b *builder) clean(s *server) {
	after := make([][]string, len(s.homes))
	for at, h := range s.homes {
		for i := range h.others {
			b.incomplete(s, h, &h.others[i])
		}
		if h.archive != nil {
			after[at] = b.incomplete(s, h, h.archive.Cluster)
		}
	}
	for at, h := range s.homes { // before anything is deleted in the repository that it comes from
		b.copy(s, h, after[at])
	}
	for at, h := range s.homes {
		if h.create == "" {
			b.retain(s, h, after[at])
		}
	}
}

// incomplete removes backups whose writer is dead, and what is left of those decided aborted. Tries that failed since a
// schedule's tick are what its back-off is told by: they go only after a backup that succeeds; but where there is not room enough for
// the next try, before it, unless it goes on with them: else a nearly full disk would never take a backup again.
func (b *builder) incomplete(s *server, h *home, c *state.Cluster) []string {
	if s.retry == "" || !containsString(s.retryIn, h.spec.Name) || !b.short(s, h) {
		return b.removeUnfinished(s, h, c, c.Backups, false)
	}
	var goesOn, others []state.Backup
	for _, k := range c.Backups {
		if containsString(s.retryGoesOn, k.ID) {
			goesOn = append(goesOn, k)
		} else {
			others = append(others, k)
		}
	}
	return append(b.removeUnfinished(s, h, c, others, true), b.removeUnfinished(s, h, c, goesOn, false)...)
}

// removeUnfinished plans the step for some of a cluster's backups. first says that it comes before the next try, and not after it.
func (b *builder) removeUnfinished(s *server, h *home, c *state.Cluster, of []state.Backup, first bool) []string {
	var ids, texts, after []string
	var bytes int64
	for i := range of {
		k := &of[i]
		if !unfinished(c, k) || h.goesOn(k) {
			continue
		}
		if k.State != state.BackupAbandoned && k.LockedUntil.After(b.now) {
			b.plan.NextDue = append(b.plan.NextDue, Due{At: k.LockedUntil, What: "remove-incomplete (" + k.ID + " is locked until then)", Subject: s.Name})
			continue
		}
		stays, then := b.keepsCut(s, h, c, k)
		if stays {
			continue
		}
		if first {
			then = nil
		}
		if then != nil {
			after = then
		}
		if b.tells(s, k) && !first {
			if s.retry == "" {
				continue
			}
			after = []string{s.retry}
		}
		ids = append(ids, k.ID)
		bytes += max(k.StoredBytes, k.Reusable)
		text := k.ID + " has no decision and its writer is dead"
		if k.Evidence != "" {
			text += " (" + k.Evidence + ")"
		}
		if k.State == state.BackupAborted {
			text = k.ID + " was aborted"
		}
		if WasCut(*k) {
			text = k.ID + " was cut, and no backup goes on with it any more"
		}
		if then != nil {
			text = k.ID + " was cut, and is needless once the backup of this plan is there"
		}
		if k.Failure != "" {
			text += ": " + k.Failure
		}
		texts = append(texts, text)
	}
	if len(ids) == 0 {
		return nil
	}
	step := Step{
		ID: b.cleanID(s, "incomplete", h, c), Change: Destroy, Impact: Safe, Host: h.spec.Host, After: after,
		Action:   RemoveIncomplete{Server: s.Name, SystemID: c.SystemID, Repository: h.spec.Name, RepositoryID: h.seen.ID, Backups: ids},
		Effect:   "no restore point is lost: none of them was ever complete",
		Requires: []Condition{{Code: NeedUndecided, Text: "none of them was committed meanwhile"}},
	}
	if bytes > 0 {
		step.Effect += "; frees up to " + Size(bytes)
	}
	for _, t := range texts {
		step.Because = append(step.Because, because("incomplete", t, h.spec.Where.Block))
	}
	if first {
		step.ID = b.cleanID(s, "incomplete-first", h, c)
		step.Because = append(step.Because, because("no-room", "it goes first: "+h.spec.Address+" has "+Size(h.seen.Free)+" free, and the backup may not fit beside it", h.spec.Where.Block))
		b.stepBefore(s.retry, step)
		return []string{step.ID}
	}
	return []string{b.step(step)}
}

// unfinished tells what incomplete may remove: what no writer finishes any more.
func unfinished(c *state.Cluster, k *state.Backup) bool {
	return k.State == state.BackupAbandoned || k.State == state.BackupAborted || k.State == state.BackupCut || cutLeft(c, k)
}

// short tells whether the next backup may not fit. Before any full backup it may need as much as the cluster has.
func (b *builder) short(s *server, h *home) bool {
	need, _, known := b.nextBackup(s, h)
	if !known {
		need = s.seen.SizeBytes
	}
	return h.seen.Free >= 0 && h.seen.Free+h.seen.Total > 0 && need > h.seen.Free
}

// stepBefore adds a step just before another one. Steps of one server run in the plan's order, and when it fails the other is tried all the same.
func (b *builder) stepBefore(id string, s Step) {
	at := slices.IndexFunc(b.plan.Steps, func(o Step) bool { return o.ID == id })
	b.plan.Steps = slices.Insert(b.plan.Steps, max(0, at), s)
}

// tells tells whether a failed try is one that a schedule without a backup since its tick is told by.
func (b *builder) tells(s *server, k *state.Backup) bool {
	for _, d := range b.schedules[s.Name] {
		if d.last.IsZero() || begunAt(k, b.now).Before(d.last) {
			continue
		}
		served := false
		for _, o := range s.allBackups() {
			failed := o.State == state.BackupAborted || o.State == state.BackupAbandoned || WasCut(*o)
			served = served || !failed && !begunAt(o, b.now).Before(d.last)
		}
		if !served {
			return true
		}
	}
	return false
}

// cleanID names a step on one cluster of one repository; only clusters of former system identifiers are told apart.
func (b *builder) cleanID(s *server, verb string, h *home, c *state.Cluster) string {
	id := "server." + s.Name + "/" + verb + "/" + h.spec.Name
	if c.SystemID != s.systemID {
		id += "@" + c.SystemID
	}
	return id
}

// retain applies the retention blocks to what one repository holds.
func (b *builder) retain(s *server, h *home, after []string) {
	blocks := b.retentionsOf(s.Name, h)
	if len(blocks) == 0 {
		b.finding(Finding{
			Severity: Warning, Code: state.CodeNoRetention, Subject: s.Address, Range: rangeOf(s.Where.Block),
			Text: fmt.Sprintf("no retention block covers %s in %s: nothing is ever deleted there", s.Name, h.spec.Address),
			Hint: "add a retention block with recovery_window or redundancy",
		})
		if h.archive != nil {
			b.health(s, h, Retain(h.archive.Cluster, Rules{}, time.Time{}, s.seen.Timeline))
		}
		return
	}
	if h.archive == nil {
		return
	}
	rules := Join(blocks)
	clock := b.deletionClock(s, h)
	r := Retain(h.archive.Cluster, rules, clock, s.seen.Timeline)
	b.redundancy(s, h, r, rules)
	b.health(s, h, r)
	free := r.NeedlessWAL()
	free = r.unlockedWAL(free, b.spec.WALLockTime(h.spec.Name, s.Name))
	r.withWAL, r.withBackups = r.losses(free)
	b.extendLocks(s, h, r)
	b.prune(s, h, r, rules)
	b.locked(s, r)
	b.sweep(s, h, r)
	if len(free) > 0 {
		b.pruneWAL(s, h, r, free, after)
	} else if r.Stopped == "" && r.Usable > 0 && h.archive.StalePartialBytes >= staleSegments*int64(h.archive.size) {
		b.pruneParts(s, h, r, after)
	}
}

// retentionsOf gives the retention blocks that cover a server in a repository.
func (b *builder) retentionsOf(server string, h *home) (blocks []*hclspec.Retention) {
	for _, r := range b.retentions[server] {
		if len(r.Repositories) == 0 || containsString(r.Repositories, h.spec.Name) {
			blocks = append(blocks, r)
		}
	}
	return blocks
}

func containsString(in []string, s string) bool {
	for _, x := range in {
		if x == s {
			return true
		}
	}
	return false
}

// deletionClock gathers the three clocks. PostgreSQL's newest time is the server's own, or what its WAL and backups
// tell. When now is a supposition, the other clocks move with it.
func (b *builder) deletionClock(s *server, h *home) time.Time {
	postgres, store := s.seen.Now, h.seen.Now
	if h.archive != nil {
		for _, w := range h.archive.WAL {
			postgres = later(postgres, w.LastCommit)
		}
		for i := range h.archive.Backups {
			postgres = later(postgres, h.archive.Backups[i].Ended)
		}
	}
	if b.opt.Suppose && !postgres.IsZero() && !store.IsZero() {
		moved := b.now.Sub(b.seen.At)
		postgres, store = postgres.Add(moved), store.Add(moved)
	}
	return DeletionClock(b.now, postgres, store)
}

// redundancy says when fewer usable backups exist than the configuration wants at least.
func (b *builder) redundancy(s *server, h *home, r Retained, rules Rules) {
	if r.Usable >= rules.Minimum || r.Usable+1 >= rules.Minimum && h.archive.young(b.now) != nil {
		return
	}
	b.finding(Finding{
		Severity: Error, Code: state.CodeTarget, Subject: s.Address, Range: rangeOf(rules.Blocks[0].Where.Of("minimum_redundancy")),
		Text: fmt.Sprintf("%s holds %s of %s, and minimum_redundancy is %d", h.spec.Address, count(r.Usable, "usable backup"), s.Name, rules.Minimum),
		Hint: "pgkeep backup " + s.Name,
	})
}

// prune deletes the backups that no rule keeps.
func (b *builder) prune(s *server, h *home, r Retained, rules Rules) {
	going := r.Going()
	if len(going) == 0 {
		return
	}
	at := rules.Blocks[0].Where
	step := Step{
		ID: b.cleanID(s, "prune", h, h.archive.Cluster), Change: Destroy, Impact: Declared, Host: h.spec.Host,
		Requires: []Condition{
			{Code: NeedStillNeedless, Text: "none of them is held, referred to or needed meanwhile"},
			{Code: NeedUsableLeft, Value: strconv.Itoa(min(rules.Minimum, r.Usable)), Text: "usable backups that stay: at least " + strconv.Itoa(min(rules.Minimum, r.Usable))},
		},
	}
	action := Prune{Server: s.Name, SystemID: s.systemID, Repository: h.spec.Name, RepositoryID: h.seen.ID, Clock: r.clock, Backups: make([]string, 0, len(going))}
	step.Because = make([]Reason, 0, len(going)+1)
	var bytes int64
	unkept, block := unkeptBy(r, rules), rangeOf(at.Block)
	for _, f := range r.Fates {
		if !f.Goes {
			continue
		}
		action.Backups = append(action.Backups, f.Backup.ID)
		bytes += f.Backup.StoredBytes
		step.Because = append(step.Because, Reason{Code: string(f.Cause), Text: whyGoes(f, unkept), Range: block})
	}
	step.Action = action
	switch {
	case rules.MaxDelete > 0 && len(going) > rules.MaxDelete:
		step.Impact = Destructive
		step.Because = append(step.Because, because("max-delete", fmt.Sprintf("%d at once is more than max_delete = %d, so this waits for a name", len(going), rules.MaxDelete), at.Of("max_delete")))
	case rules.Approve:
		step.Impact = Destructive
		step.Because = append(step.Because, because("enforce", "enforce = \"approve\", so this waits for a name", at.Of("enforce")))
	}
	step.Effect = b.pruneEffect(s, r, bytes)
	step.Loses = r.withBackups
	step.Keeps, step.KeepsMore = r.kept()
	b.step(step)
}

// unkeptBy says which rules do not keep the backups that go: the same of all of them.
func unkeptBy(r Retained, rules Rules) string {
	var not []string
	if rules.Window > 0 {
		not = append(not, fmt.Sprintf("no moment since %s needs it (recovery_window %s)", Moment(r.Start), Span(rules.Window)))
	}
	if n := max(rules.Redundancy, rules.Minimum); n > 0 {
		not = append(not, fmt.Sprintf("it is not among the newest %d", n))
	}
	if k := rules.keepRule(); k != "" {
		not = append(not, "newer ones take the places of keep ("+k+")")
	}
	return strings.Join(not, ", ")
}

// whyGoes says of one backup why no rule keeps it.
func whyGoes(f Fate, unkept string) string {
	k := f.Backup
	text := k.ID + " of " + Moment(k.Ended) + ": "
	switch {
	case f.Cause == GoesLost:
		return text + "a recorded gap cuts its WAL, so it can never be made consistent"
	case k.State == state.BackupDamaged && unkept == "":
		return text + "it is damaged"
	case k.State == state.BackupDamaged:
		return text + unkept + ", it is damaged"
	}
	return text + unkept
}

// pruneEffect says which restore points are lost.
func (b *builder) pruneEffect(s *server, r Retained, bytes int64) string {
	var before, after time.Time
	for _, f := range r.Fates {
		if f.Usability != state.Usable {
			continue
		}
		if before.IsZero() || f.Backup.Ended.Before(before) {
			before = f.Backup.Ended
		}
		if !f.Goes && (after.IsZero() || f.Backup.Ended.Before(after)) {
			after = f.Backup.Ended
		}
	}
	text := "the earliest moment stays " + Moment(before)
	if !before.Equal(after) {
		text = fmt.Sprintf("moments of %s before %s can no longer be recovered (now they can from %s on)", s.Name, Moment(after), Moment(before))
	}
	return fmt.Sprintf("%s; %s freed after a day", text, Size(bytes))
}

// sweep removes what backups left that have their TOMB for a day.
func (b *builder) sweep(s *server, h *home, r Retained) {
	step := Step{
		ID: b.cleanID(s, "sweep", h, h.archive.Cluster), Change: Destroy, Impact: Safe, Host: h.spec.Host,
		Effect: "no restore point is lost: these are deleted already", Requires: []Condition{{Code: NeedTombed, Text: "each has its TOMB for a day and no unexpired hold"}},
	}
	action := Prune{Server: s.Name, SystemID: s.systemID, Repository: h.spec.Name, RepositoryID: h.seen.ID, Sweep: true, Clock: r.clock}
	for _, f := range r.Fates {
		if f.Cause != StaysDeleted && f.Cause != StaysUnjudged || f.Backup.State != state.BackupDeleted || WasCut(*f.Backup) || r.clock.IsZero() || liveAfterTomb(f.Backup, r.clock) || f.Backup.LockedUntil.After(r.clock) {
			continue
		}
		if by := r.referrer(f.Backup); by != "" {
			continue
		}
		action.Backups = append(action.Backups, f.Backup.ID)
		step.Because = append(step.Because, because("tombed", fmt.Sprintf("%s was deleted at %s", f.Backup.ID, Moment(f.Backup.Tombed)), h.spec.Where.Block))
	}
	if len(action.Backups) > 0 {
		step.Action = action
		b.step(step)
	}
}

// referrer gives a backup that still reads the volumes of k.
func (r Retained) referrer(k *state.Backup) string {
	for _, f := range r.Fates {
		live := f.Backup.State != state.BackupAborted && (f.Backup.State != state.BackupDeleted || liveAfterTomb(f.Backup, r.clock))
		if f.Backup != k && live && (f.Backup.Parent == k.ID || containsString(f.Backup.Refs, k.ID)) {
			return f.Backup.ID
		}
	}
	return ""
}

// staleSegments is how many segments' worth of stale parts are a reason to prune. Every segment leaves some when it is
// archived whole: below this, a server that writes would never be in order.
const staleSegments = 16

// pruneParts removes pushed parts of segments that are archived whole, which no range of needless WAL takes along.
func (b *builder) pruneParts(s *server, h *home, r Retained, after []string) {
	stale := h.archive.StalePartialBytes
	b.step(Step{
		ID: b.cleanID(s, "wal", h, h.archive.Cluster), Change: Destroy, Impact: Safe, Host: h.spec.Host, After: after,
		Action: PruneWAL{Server: s.Name, SystemID: s.systemID, Repository: h.spec.Name, RepositoryID: h.seen.ID, StaleParts: true, Clock: r.clock},
		Because: []Reason{because("stale-parts", fmt.Sprintf("%s in %s are pushed parts of segments that are archived whole", Size(stale), h.spec.Address),
			r.rules.Blocks[0].Where.Block)},
		Effect:   fmt.Sprintf("no restore point is lost; frees %s", Size(stale)),
		Requires: []Condition{{Code: NeedStillNeedless, Text: "the segment of each is archived whole"}},
	})
}

// pruneWAL deletes the WAL of the ranges.
func (b *builder) pruneWAL(s *server, h *home, r Retained, free []wal.Range, after []string) {
	var total int64
	for _, f := range free {
		total += f.Bytes()
	}
	effect, why := "no restore point is lost", "no backup that counts stands before it on a line of history that stays"
	if slices.ContainsFunc(r.Fates, func(f Fate) bool { return f.Alone }) {
		why = "no moment in it is asked for, and the backups before it are kept alone, each with the WAL that makes it consistent"
	}
	if r.rules.WAL > 0 {
		why = fmt.Sprintf("no moment since %s needs it (wal_window %s); backups before that stay with the WAL that makes them consistent", Moment(r.walStart()), Span(r.rules.WAL))
	}
	if r.withWAL != nil {
		effect = "the moments that nothing asks for any more can no longer be recovered"
	}
	b.step(Step{
		ID: b.cleanID(s, "wal", h, h.archive.Cluster), Change: Destroy, Impact: Safe, Host: h.spec.Host, After: append(slices.Clip(after), h.gifts(free)...),
		Action:  PruneWAL{Server: s.Name, SystemID: s.systemID, Repository: h.spec.Name, RepositoryID: h.seen.ID, Ranges: free, Clock: r.clock},
		Because: []Reason{because("needless-wal", why, r.rules.Blocks[0].Where.Block)},
		Effect:  fmt.Sprintf("%s; frees %s of WAL (before compression)", effect, Size(total)), Loses: r.withWAL,
		Requires: []Condition{{Code: NeedStillNeedless, Text: "no backup that counts begins at or before it meanwhile"}},
	})
}
