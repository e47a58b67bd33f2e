package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// What stays needed for longer than its object lock is locked anew before the lock ends: a backup that keep, redundancy or a hold
// keeps, one that a window begins with for longer than usual, and the WAL of each. Until when the rules want something is asked of
// the rules themselves, at moments of the future as if nothing else happened until then: no rule is written down twice. What
// they let go soon is locked until then, all else as far as a lock is ever extended; later the same is asked again.

// lockMoments is into how many stretches the time is cut for which locks are extended at most.
const lockMoments = 16

// forecast is what the rules keep now and at moments of the future. These lie where they lay when an earlier plan asked, so that a lock
// which ends at one of them is not extended by a little each time.
type forecast struct {
	now     time.Time
	base    time.Time // at or before now
	pace    time.Duration
	stays   [lockMoments + 1]map[string]bool // backups
	needed  [lockMoments + 1][]wal.Range     // that go
	horizon time.Time
}

// clocks are the machine's, the one that retention goes by, and how far behind them locks are planned.
type clocks struct {
	now, retention time.Time
	reach          time.Duration
}

// forecastOf asks the rules. Locks are no reason to stay here.
func forecastOf(c *state.Cluster, rules Rules, live wal.Timeline, t clocks) *forecast {
	now, clock := t.now, t.retention
	pace := (t.reach / lockMoments).Truncate(time.Second)
	f := &forecast{now: now, base: now.Truncate(pace), pace: pace}
	f.horizon = f.moment(lockMoments)
	free := *c
	free.Backups = slices.DeleteFunc(slices.Clone(c.Backups), func(k state.Backup) bool { // what was let go needs no new lock
		return k.State == state.BackupDeleted && !holdLive(&k, clock)
	})
	for i := range free.Backups {
		free.Backups[i].LockedUntil = time.Time{}
	}
	for i := range f.stays {
		at := clock
		if !at.IsZero() && i > 0 {
			at = at.Add(f.moment(i).Sub(now))
		}
		r := Retain(&free, rules, at, live)
		r.later = true
		f.stays[i], f.needed[i] = map[string]bool{}, r.NeedlessWAL()
		for _, fate := range r.Fates {
			f.stays[i][fate.Backup.ID] = !fate.Goes
		}
	}
	return f
}

func (f *forecast) moment(i int) time.Time { return f.base.Add(time.Duration(i) * f.pace) }

// wanted gives until when the rules want what is locked until a moment; zero: no longer than that.
func (f *forecast) wanted(locked time.Time, keeps func(at int) bool) time.Time {
	at := 0
	if locked.After(f.now) {
		at = int(locked.Sub(f.base) / f.pace)
	}
	if at >= lockMoments || !keeps(at) {
		return time.Time{}
	}
	for at++; at < lockMoments && keeps(at); at++ {
	}
	return f.moment(at)
}

func (f *forecast) backup(b *state.Backup) time.Time {
	if b.State != state.BackupCommitted && b.State != state.BackupDamaged {
		return time.Time{}
	}
	return f.wanted(b.LockedUntil, func(at int) bool { return f.stays[at][b.ID] })
}

func (f *forecast) wal(w state.LockedWAL) time.Time {
	return f.wanted(w.Until, func(at int) bool { return len(wal.Missing(w.Range, f.needed[at])) > 0 })
}

// extension gathers what one step locks anew.
type extension struct {
	locks    []LockNeed
	first    time.Time // the first lock that ends; zero where something is not locked at all
	backups  []*state.Backup
	segments int64
	walEnds  time.Time // the first lock of WAL that ends
	opening  bool
}

func (e *extension) need(until time.Time) *LockNeed {
	i := slices.IndexFunc(e.locks, func(n LockNeed) bool { return n.Until.Equal(until) })
	if i < 0 {
		e.locks = append(e.locks, LockNeed{Until: until})
		i = len(e.locks) - 1
	}
	return &e.locks[i]
}

// gatherLocks gives what is locked anew when all is that ends before a moment, and the end of the first lock that ends after it
// and too early; zero: there is none.
func (f *forecast) gatherLocks(c *state.Cluster, size wal.SegmentSize, before time.Time) (e extension, next time.Time) {
	take := func(ends, until time.Time) bool {
		if until.IsZero() {
			return false
		}
		if !ends.Before(before) {
			if next.IsZero() || ends.Before(next) {
				next = ends
			}
			return false
		}
		return true
	}
	for _, w := range c.Locks.WAL {
		until := f.wal(w)
		if !take(w.Until, until) {
			continue
		}
		if e.segments == 0 || w.Until.Before(e.walEnds) {
			e.walEnds = w.Until
		}
		n := e.need(until)
		n.WAL = append(n.WAL, w.Range)
		e.segments += w.Bytes() / size.Bytes()
	}
	for i := range c.Backups {
		k := &c.Backups[i]
		if until := f.backup(k); take(k.LockedUntil, until) {
			n := e.need(until)
			n.Backups = append(n.Backups, k.ID)
			e.backups = append(e.backups, k)
		}
	}
	opens := len(c.Backups) > 0 && slices.ContainsFunc(c.Backups, func(k state.Backup) bool { return f.stays[lockMoments][k.ID] })
	if opens && c.Locks.Opening.Before(f.horizon) && take(c.Locks.Opening, f.horizon) {
		e.need(f.horizon).Opening, e.opening = true, true
	}
	slices.SortFunc(e.locks, func(a, b LockNeed) int { return a.Until.Compare(b.Until) })
	return e, next
}

// extendLocks plans to lock anew what stays needed beyond its lock. A lock is extended a margin before it ends; with it go those
// that would be soon after, so that not each has a step of its own.
func (b *builder) extendLocks(s *server, h *home, r Retained) {
	margin, reach := b.spec.LockMargin(h.spec.Name), b.spec.LockReach(h.spec.Name, s.Name)
	c := h.archive.Cluster
	if margin == 0 || c.Locks == nil {
		return
	}
	f := forecastOf(c, r.rules, s.seen.Timeline, clocks{now: b.now, retention: r.clock, reach: reach})
	due, next := f.gatherLocks(c, h.archive.size, b.now.Add(margin))
	if len(due.locks) == 0 {
		if !next.IsZero() {
			b.plan.NextDue = append(b.plan.NextDue, Due{At: next.Add(-margin), What: "extend-lock (what stays is locked until " + Moment(next) + " only)", Subject: s.Name})
		}
		return
	}
	e, _ := f.gatherLocks(c, h.archive.size, b.now.Add(margin+margin/2))
	last := e.locks[len(e.locks)-1].Until
	b.step(Step{
		ID: b.cleanID(s, "lock", h, c), Change: Modify, Impact: Safe, Host: h.spec.Host, Because: b.whyExtended(h, r, &e),
		Action:   ExtendLock{Server: s.Name, SystemID: s.systemID, Repository: h.spec.Name, RepositoryID: h.seen.ID, Locks: e.locks},
		Effect:   fmt.Sprintf("no restore point is lost; %s: nobody can delete them, the last until %s", e.words(), Moment(last)),
		Requires: []Condition{{Code: NeedBackup, Text: "each backup is still there"}},
	})
}

// words counts what is locked anew.
func (e *extension) words() string {
	var out []string
	if n := len(e.backups); n > 0 {
		out = append(out, count(n, "backup")+" and what they read of others")
	}
	if e.segments > 0 {
		out = append(out, count(int(e.segments), "segment")+" of WAL")
	}
	if e.opening {
		out = append(out, "what opens the repository")
	}
	return strings.Join(out, ", ")
}

// mostExtended is how many backups a step names with why they stay.
const mostExtended = 10

func (b *builder) whyExtended(h *home, r Retained, e *extension) []Reason {
	at := h.spec.Where.Block
	var out []Reason
	for i, k := range e.backups {
		if i == mostExtended {
			out = append(out, because("lock-ends", fmt.Sprintf("and %s more", count(len(e.backups)-i, "backup")), at))
			break
		}
		why := "nothing is deleted now: " + r.Stopped
		for _, f := range r.Fates {
			if f.Backup.ID == k.ID && r.Stopped == "" {
				why = r.whyLocked(f)
			}
		}
		out = append(out, because("lock-ends", fmt.Sprintf("%s of %s is %s, and stays for longer: %s", k.ID, Moment(k.Ended), lockedUntil(k.LockedUntil), why), at))
	}
	if e.segments > 0 {
		out = append(out, because("wal-lock-ends", fmt.Sprintf("%s of WAL that backups which stay need: the first is %s", count(int(e.segments), "segment"), lockedUntil(e.walEnds)), at))
	}
	if e.opening {
		out = append(out, because("opening-lock-ends", "what opens the repository and the cluster is "+lockedUntil(h.archive.Locks.Opening), at))
	}
	return out
}

// whyLocked is whyStays, also of backups that are not usable.
func (r Retained) whyLocked(f Fate) string {
	if why := r.whyStays(f); why != "" {
		return why
	}
	return "it is " + string(f.Cause)
}

func lockedUntil(t time.Time) string {
	if t.IsZero() {
		return "not locked"
	}
	return "locked until " + Moment(t)
}
