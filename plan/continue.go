package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pgkeep/pgkeep/state"
)

// A backup whose stream was cut leaves volumes. PostgreSQL sends everything again, but what is the same need not be stored again: where the
// next backup would be full, it goes on with what is there. It is an incremental one then, which stands on nothing but what
// the cut one stored; a full one that was asked for by name is the server's own archive, and is taken anew.

const (
	// continueWithin is for how long a cut backup is kept for another one to go on with: a weekend, and the try after it.
	continueWithin = 72 * time.Hour
	// maxContinued is how many of them are kept.
	maxContinued = 3
)

// continuable tells whether, and until when, what a cut backup has stored is kept for another one to go on with.
func (b *builder) continuable(s *server, h *home, c *state.Cluster, k *state.Backup) (until time.Time, ok bool) {
	if b.onlyFull(s) || !b.reusable(s, h, c, k) {
		return until, false
	}
	newer := 0
	for i := range c.Backups {
		o := &c.Backups[i]
		if begunAt(o, b.now).After(begunAt(k, b.now)) && b.reusable(s, h, c, o) {
			newer++
		}
	}
	return begunAt(k, b.now).Add(continueWithin), newer < maxContinued
}

// reusable tells of a backup alone whether another one could go on with it: however many newer ones there are, and whatever is asked for.
func (b *builder) reusable(s *server, h *home, c *state.Cluster, k *state.Backup) bool {
	began := begunAt(k, b.now)
	switch {
	case k.State != state.BackupCut && k.State != state.BackupAbandoned, k.Reusable == 0, c.SystemID != s.systemID, h.goesOn(k):
		return false
	case s.seen.Major() > 0 && k.Version/10000 != s.seen.Major(), !b.now.Before(began.Add(continueWithin)), s.committed(k.ID):
		return false
	}
	return !slices.ContainsFunc(c.Backups, func(o state.Backup) bool { // it is not needed any more
		return o.State == state.BackupCommitted && begunAt(&o, b.now).After(began)
	})
}

// onlyFull tells whether every schedule of the server asks for full backups by name.
func (b *builder) onlyFull(s *server) bool {
	all := b.schedules[s.Name]
	return len(all) > 0 && !slices.ContainsFunc(all, func(d *due) bool { return d.spec.Backup != "full" })
}

// continues gives the cut backups with which a full one goes on, the one that holds most first, and says so; where a full one was asked for by
// name, it says that nothing is gone on with.
func (b *builder) continues(s *server, action *TakeBackup, byName bool) *Reason {
	anew := byName || b.onlyFull(s)
	most := map[string]int64{}
	var texts []string
	for _, h := range s.homes {
		if h.archive == nil || !containsString(action.Repositories, h.spec.Name) {
			continue
		}
		for i := range h.archive.Backups {
			k := &h.archive.Backups[i]
			if _, ok := b.continuable(s, h, h.archive.Cluster, k); !ok && !(anew && b.reusable(s, h, h.archive.Cluster, k)) {
				continue
			}
			if most[k.ID] == 0 {
				action.Continues = append(action.Continues, k.ID)
			}
			most[k.ID] = max(most[k.ID], k.Reusable)
			texts = append(texts, fmt.Sprintf("%s of the cut %s are stored in %s already", Size(k.Reusable), k.ID, h.spec.Address))
		}
	}
	if len(texts) == 0 {
		return nil
	}
	text := strings.Join(texts, ", ")
	if anew {
		action.Continues = nil
		r := because("taken-anew", text+", and nothing of it is gone on with: what is asked for is a full backup, the server's own archive", s.Where.Of("backup"))
		return &r
	}
	slices.SortStableFunc(action.Continues, func(x, y string) int { return int(min(1, max(-1, most[y]-most[x]))) })
	action.Continues = action.Continues[:min(len(action.Continues), maxContinued)]
	r := because("continues", text+": what is the same is not stored again, and the backup is an incremental one that stands on it", s.Where.Of("backup"))
	return &r
}

// WasCut tells a backup that its writer did not finish, also when it is on its way out, from one that was committed.
func WasCut(k state.Backup) bool {
	return k.State == state.BackupCut || k.State == state.BackupDeleted && k.Stop == 0 && k.Reusable > 0
}

// cutLeft tells whether a cut backup is on its way out, and nobody reads what is left of it: the removal was cut short, or its last reader went.
func cutLeft(c *state.Cluster, k *state.Backup) bool {
	return WasCut(*k) && k.State == state.BackupDeleted && !slices.ContainsFunc(c.Backups, func(o state.Backup) bool {
		return o.State != state.BackupAborted && slices.Contains(o.Refs, k.ID)
	})
}

// Kept tells whether it is not done because what it would remove is of use: a cut backup with which the next one goes on.
func (n NotDone) Kept() bool { return n.Why.Code == stillOfUse }

// keepsCut says that a cut backup stays for another one to go on with. It goes after a backup of this same plan, which goes on
// with it or is taken anew.
func (b *builder) keepsCut(s *server, h *home, c *state.Cluster, k *state.Backup) (stays bool, after []string) {
	until, ok := b.continuable(s, h, c, k)
	if !ok {
		return false, nil
	}
	if s.retry != "" && containsString(s.retryIn, h.spec.Name) {
		return false, []string{s.retry}
	}
	text := fmt.Sprintf("%s in %s was cut after it had stored %s, and the next backup that would be full goes on with that until %s", k.ID, h.spec.Address, Size(k.Reusable), Moment(until))
	if k.State == state.BackupCut && k.Failure != "" {
		text += "; it was cut by: " + k.Failure
	}
	b.notDone(NotDone{What: "remove-incomplete of " + k.ID, Why: because(stillOfUse, text, h.spec.Where.Block)})
	b.plan.NextDue = append(b.plan.NextDue, Due{At: until, What: "remove-incomplete (" + k.ID + ", unless a backup goes on with it)", Subject: s.Name})
	return true, nil
}
