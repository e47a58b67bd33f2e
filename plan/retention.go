package plan

import (
	"slices"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// Rules are what all retention blocks that cover one server and one repository ask for together: a backup goes only
// when every block lets it go.
type Rules struct {
	Window     time.Duration  // every moment of the last Window stays reachable; 0: no such rule
	WAL        time.Duration  // every moment of only so long stays reachable, whatever backups stay; 0: as the backups say
	Redundancy int            // the newest so many usable backups stay
	Minimum    int            // never fewer usable backups than this; at least 1
	MaxDelete  int            // more than this at once waits for a name; 0: no bound
	Approve    bool           // every deletion waits for a name
	Keep       []hclspec.Keep // days, weeks, months and years that keep a backup each; every one counts for itself
	Blocks     []*hclspec.Retention
}

// Join puts the blocks together.
func Join(blocks []*hclspec.Retention) Rules {
	r, forEver := Rules{Minimum: 1, Blocks: blocks}, false
	for _, b := range blocks {
		r.Window = max(r.Window, b.RecoveryWindow)
		r.Redundancy = max(r.Redundancy, b.Redundancy)
		r.Minimum = max(r.Minimum, b.MinimumRedundancy)
		if b.WALWindow == 0 {
			forEver = true
		}
		r.WAL = max(r.WAL, b.WALWindow)
		if b.MaxDelete > 0 && (r.MaxDelete == 0 || b.MaxDelete < r.MaxDelete) {
			r.MaxDelete = b.MaxDelete
		}
		r.Approve = r.Approve || b.Enforce == "approve"
		if b.Keep.Any() {
			r.Keep = append(r.Keep, b.Keep)
		}
	}
	if forEver {
		r.WAL = 0
	}
	return r
}

// Cause says in a word why a backup stays or goes.
type Cause string

// The causes. The last two are of backups that go.
const (
	StaysUnjudged    Cause = "unjudged"     // nothing is deleted at all: Retained.Stopped says why
	StaysRunning     Cause = "running"      // being written
	StaysUnfinished  Cause = "unfinished"   // aborted, or its writer is dead: remove-incomplete's, never prune's
	StaysDeleted     Cause = "deleted"      // has its TOMB already
	StaysHeld        Cause = "held"         // an unexpired hold
	StaysWaiting     Cause = "waiting"      // its WAL is not archived yet
	StaysDamaged     Cause = "damaged"      // damaged, and still inside the window or without a usable one after it
	StaysCorrupt     Cause = "corrupt"      // its records cannot be read: it may be whole, and is for somebody to look at
	StaysInWindow    Cause = "in-window"    // moments of the window are recovered from it
	StaysWindowStart Cause = "window-start" // the newest one from which the window's first moment is recovered
	StaysRedundancy  Cause = "redundancy"
	StaysCounted     Cause = "counted" // the newest of a day, week, month or year that keep counts: Fate.Counts
	StaysMinimum     Cause = "minimum"
	StaysLocked      Cause = "locked"   // its objects cannot be deleted yet: Backup.LockedUntil
	StaysReferred    Cause = "referred" // a backup that stays reads its volumes
	GoesByNoRule     Cause = "no-rule"
	GoesLost         Cause = "lost" // a recorded gap cuts the WAL that would make it consistent
)

// Fate is what becomes of one backup.
type Fate struct {
	Backup    *state.Backup
	Usability state.Usability
	Goes      bool
	Cause     Cause
	By        string // of StaysReferred: the backup that needs it
	// Counts says which places of a keep block it takes, "weekly 3 of 4", whatever else keeps it.
	Counts []string
	// Alone says that only the WAL which makes it consistent stays for its sake, and not what was written after it.
	Alone bool
}

// Retained is the answer of Retain, one Fate for each backup in the cluster's order.
type Retained struct {
	Start   time.Time // of the recovery window
	Usable  int       // how many backups are usable now
	Stopped string    // why nothing may be deleted; empty: it may
	Fates   []Fate

	archive *archive
	rules   Rules
	clock   time.Time
	later   bool // a day later, as it were: what goes no longer counts
	// what is lost with the backups that go and with the WAL that nobody needs; set where both are planned
	withBackups, withWAL *Loss
}

// Going gives the backups that go, oldest first.
func (r Retained) Going() []*state.Backup {
	var out []*state.Backup
	for _, f := range r.Fates {
		if f.Goes {
			out = append(out, f.Backup)
		}
	}
	return out
}

// DeletionClock gives the only clock by which things are deleted: the earliest of this machine's time, the newest time
// seen of PostgreSQL and the newest time seen in the store. A clock that jumps ahead alone deletes nothing, and without
// any one of the three nothing is deleted: the result is zero.
func DeletionClock(host, postgres, store time.Time) time.Time { return earliest(host, postgres, store) }

// Retain says of each backup of a cluster whether it stays, and why. It is a pure function of what the repository
// holds; clock is DeletionClock's, live the timeline that the server is on (zero: not known).
//
// The order of a line of history is told by positions in WAL, never by times; times only tell where the window begins,
// and a backup whose times contradict its position or the clock is never taken as the window's start.
func Retain(c *state.Cluster, rules Rules, clock time.Time, live wal.Timeline) Retained {
	a := newArchive(c, live)
	r := Retained{Start: clock.Add(-rules.Window), Fates: make([]Fate, len(c.Backups)), archive: a, rules: rules, clock: clock}
	for i := range c.Backups {
		r.Fates[i] = Fate{Backup: &c.Backups[i], Usability: a.usability(&c.Backups[i])}
		if r.Fates[i].Usability == state.Usable {
			r.Usable++
		}
	}
	switch {
	case clock.IsZero():
		r.Stopped = "no time of PostgreSQL or of the store was seen, so that a wrong clock here could not be told"
	case r.Usable == 0:
		r.Stopped = "no backup is usable"
	case len(a.orphans) > 0:
		r.Stopped = "the history file of timeline " + a.orphans[0].HistoryName()[:8] + " is not archived, so that what belongs to which line of history is not known"
	}
	for _, k := range rules.Keep {
		if _, err := calendars(k); err != nil && r.Stopped == "" {
			r.Stopped = err.Error()
		}
	}
	if r.Stopped != "" {
		for i := range r.Fates {
			r.Fates[i].Cause = StaysUnjudged
		}
		return r
	}
	r.keepUnjudged()
	r.keepWindow()
	newest := r.newestFirst()
	for _, i := range newest[:min(max(rules.Redundancy, 0), len(newest))] {
		r.keep(i, StaysRedundancy)
	}
	r.keepCalendars()
	r.keepLocked()
	r.keepReferred()
	r.keepMinimum(newest)
	r.shortenWAL()
	for i := range r.Fates {
		f := &r.Fates[i]
		if f.Cause == "" {
			f.Goes, f.Cause = true, GoesByNoRule
			if f.Usability == state.LostWAL {
				f.Cause = GoesLost
			}
		}
	}
	return r
}

// keep gives a backup that has no cause yet its cause to stay.
func (r *Retained) keep(i int, why Cause) {
	if r.Fates[i].Cause == "" {
		r.Fates[i].Cause = why
	}
}

// keepUnjudged sets aside what no rule of the configuration decides.
func (r *Retained) keepUnjudged() {
	for i := range r.Fates {
		f := &r.Fates[i]
		switch b := f.Backup; b.State {
		case state.BackupRunning:
			f.Cause = StaysRunning
		case state.BackupAbandoned, state.BackupAborted, state.BackupCut:
			f.Cause = StaysUnfinished
		case state.BackupDeleted:
			f.Cause = StaysDeleted
		case state.BackupCorrupt:
			f.Cause = StaysCorrupt
		case state.BackupDamaged:
			if b.Ended.After(r.Start) || !r.usableAfter(b) {
				f.Cause = StaysDamaged
			}
		case state.BackupCommitted:
			if f.Usability == state.Waiting {
				f.Cause = StaysWaiting
			}
		}
		if f.Cause == "" && holdLive(f.Backup, r.clock) {
			f.Cause = StaysHeld
		}
	}
}

// keepLocked leaves what nobody can delete yet: a locked backup gets no TOMB, because that would hide it and free nothing. Only
// the WAL that makes it consistent stays for its sake.
func (r *Retained) keepLocked() {
	for i := range r.Fates {
		f := &r.Fates[i]
		if f.Cause == "" && f.Backup.LockedUntil.After(r.clock) {
			f.Cause, f.Alone = StaysLocked, true
		}
	}
}

func (r *Retained) usableAfter(b *state.Backup) bool {
	return slices.ContainsFunc(r.Fates, func(f Fate) bool {
		return f.Usability == state.Usable && f.Backup.Stop > b.Stop && r.archive.current.holds(f.Backup.Timeline, f.Backup.Stop)
	})
}

func holdLive(b *state.Backup, clock time.Time) bool {
	return b.Hold != nil && (b.Hold.Expires.IsZero() || b.Hold.Expires.After(clock))
}

// keepWindow keeps, on every line of history that has moments inside the window, the newest usable backup that was
// complete when the window began, and all after it.
func (r *Retained) keepWindow() {
	r.inWindow(r.Start, r.keep)
}

// inWindow gives the backups from which moments since start are recovered, with why they stay then.
func (r *Retained) inWindow(start time.Time, keep func(i int, why Cause)) {
	a := r.archive
	for _, x := range a.lines {
		if x.timeline != a.current.timeline && a.branchEnd(x).Before(start) {
			continue
		}
		on := make([]int, 0, len(r.Fates))
		for i, f := range r.Fates {
			if !f.Backup.Ended.IsZero() && x.holds(f.Backup.Timeline, f.Backup.Stop) {
				on = append(on, i)
			}
		}
		slices.SortStableFunc(on, func(i, j int) int { return compareLSN(r.Fates[i].Backup.Stop, r.Fates[j].Backup.Stop) })
		anchor := r.windowStart(on, start)
		if anchor >= 0 {
			keep(on[anchor], StaysWindowStart)
		}
		for _, i := range on[anchor+1:] {
			if r.Fates[i].Usability == state.Usable {
				keep(i, StaysInWindow)
			}
		}
	}
}

// windowStart gives the index in on, which is sorted by position, of the last usable backup that was complete when the
// window began; -1: none was, or none that can be trusted to have been. Backups that are not usable bear witness too.
func (r *Retained) windowStart(on []int, start time.Time) int {
	anchor, newest := -1, time.Time{}
	for k, i := range on {
		b := r.Fates[i].Backup
		trusted := !b.Ended.After(r.clock) && !b.Ended.Before(newest) && !b.Ended.Before(b.Began)
		if !b.Ended.After(r.clock) {
			newest = later(newest, b.Ended)
		}
		if trusted && r.Fates[i].Usability == state.Usable && !completedAt(b).After(start) {
			anchor = k
		}
	}
	return anchor
}

// completedAt gives the later of what two clocks say of when a backup was complete: PostgreSQL's, and that of the
// machine which named the backup as it began.
func completedAt(b *state.Backup) time.Time {
	named, ok := namedAt(b.ID)
	if !ok {
		return b.Ended
	}
	return later(b.Ended, named.Add(b.Ended.Sub(b.Began)))
}

// namedAt reads the time with which a backup's id begins.
func namedAt(id string) (time.Time, bool) {
	const layout = "20060102T150405Z"
	if len(id) < len(layout) {
		return time.Time{}, false
	}
	t, err := time.Parse(layout, id[:len(layout)])
	return t, err == nil
}

// newestFirst gives the usable backups, those of the server's line of history first, the newest first.
func (r *Retained) newestFirst() []int {
	var out []int
	for i, f := range r.Fates {
		if f.Usability == state.Usable {
			out = append(out, i)
		}
	}
	current := func(i int) bool {
		return r.archive.current.holds(r.Fates[i].Backup.Timeline, r.Fates[i].Backup.Stop)
	}
	slices.SortStableFunc(out, func(i, j int) int {
		switch a, b := r.Fates[i].Backup, r.Fates[j].Backup; {
		case current(i) != current(j):
			if current(i) {
				return -1
			}
			return 1
		case current(i):
			return compareLSN(b.Stop, a.Stop)
		default:
			return b.Ended.Compare(a.Ended)
		}
	})
	return out
}

// keepReferred keeps what the backups that stay read volumes of, through any number of steps. What only backups refer to
// that are kept alone is kept alone too.
func (r *Retained) keepReferred() {
	byID := make(map[string]int, len(r.Fates))
	for i, f := range r.Fates {
		byID[f.Backup.ID] = i
	}
	for _, alone := range []bool{false, true} {
		var queue []int
		for i, f := range r.Fates {
			if f.Cause != "" && f.Alone == alone && f.Cause != StaysUnfinished && (f.Cause != StaysDeleted || liveAfterTomb(f.Backup, r.clock)) {
				queue = append(queue, i)
			}
		}
		for len(queue) > 0 {
			b := r.Fates[queue[0]].Backup
			queue = queue[1:]
			for _, id := range append(slices.Clone(b.Refs), b.Parent) {
				if i, ok := byID[id]; ok && r.Fates[i].refer(b.ID, alone) {
					queue = append(queue, i)
				}
			}
		}
	}
}

// refer notes that another backup reads this one's volumes, and tells whether that changed its fate.
func (f *Fate) refer(by string, alone bool) bool {
	if f.Cause == "" || f.Cause == StaysReferred && f.Alone && !alone {
		f.Cause, f.By, f.Alone = StaysReferred, by, alone
		return true
	}
	return false
}

// liveAfterTomb tells whether a deleted backup still counts for volumes and WAL.
func liveAfterTomb(b *state.Backup, clock time.Time) bool {
	return b.Tombed.IsZero() || clock.Before(b.Tombed.Add(dayAfterTomb)) || holdLive(b, clock)
}

// keepMinimum keeps the newest of those that would go until enough usable ones stay.
func (r *Retained) keepMinimum(newest []int) {
	for _, i := range newest {
		stay := 0
		for _, f := range r.Fates {
			if f.Usability == state.Usable && f.Cause != "" {
				stay++
			}
		}
		if stay >= max(r.rules.Minimum, 1) {
			return
		}
		if r.Fates[i].Cause == "" {
			r.keep(i, StaysMinimum)
			r.keepReferred()
		}
	}
}

func compareLSN(a, b wal.LSN) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}
