package plan

import (
	"fmt"

	"github.com/pgkeep/pgkeep/state"
)

// age says whether the newest backup is as young as the schedules ask, or, without any, no older than full_every.
func (c *checker) age(s *server, h *home, newest *state.Backup) {
	late, scheduled := false, 0
	for _, d := range c.schedules[s.Name] {
		if d.err != nil || d.last.IsZero() {
			continue
		}
		scheduled++
		until := d.last.Add(d.spec.StartWithin)
		if len(h.archive.Backups) == 0 || !c.now.After(until) || c.takenSince(h, d) {
			continue
		}
		severity := Error
		if d.spec.IfMissed == "skip" {
			severity = Warning
		}
		late = true
		c.bad(severity, state.CodeOverdue, s.Address, fmt.Sprintf("%s wanted a backup at %s, and its start_within of %s is over: %s has none since then%s",
			d.spec.Address, d.last.Format("2006-01-02 15:04 MST"), Span(d.spec.StartWithin), h.spec.Address, newestText(newest)), "pgkeep backup "+s.Name)
	}
	switch {
	case newest == nil || late:
	case scheduled > 0:
		c.say(s.Address, fmt.Sprintf("age: %s in %s has what its schedules asked for", s.Name, h.spec.Address))
	case c.now.Sub(newest.Ended) > s.Backup.FullEvery:
		c.bad(Warning, state.CodeOverdue, s.Address, fmt.Sprintf("no schedule takes backups of %s, and the newest in %s is %s old: a recovery replays all WAL since then",
			s.Name, h.spec.Address, Span(c.now.Sub(newest.Ended))), "add a schedule block, or: pgkeep backup "+s.Name)
	default:
		c.say(s.Address, fmt.Sprintf("age: no schedule takes backups of %s; the newest in %s is %s old", s.Name, h.spec.Address, Span(c.now.Sub(newest.Ended))))
	}
}

func newestText(k *state.Backup) string {
	if k == nil {
		return ""
	}
	return "; the newest usable one is of " + Moment(k.Ended)
}

// takenSince tells whether a backup was begun at or after the schedule's last tick that counts, or may come to.
func (c *checker) takenSince(h *home, d *due) bool {
	for i := range h.archive.Backups {
		k := &h.archive.Backups[i]
		counts := k.State == state.BackupCommitted || k.State == state.BackupRunning || k.State == state.BackupDeleted
		if counts && !begunAt(k, c.now).Before(d.last) {
			return true
		}
	}
	return false
}

// tries says whether the newest try of a backup failed.
func (c *checker) tries(s *server, h *home) {
	var last *state.Backup
	for i := range h.archive.Backups {
		k := &h.archive.Backups[i]
		if last == nil || !begunAt(k, c.now).Before(begunAt(last, c.now)) {
			last = k
		}
	}
	if last == nil || last.State != state.BackupAborted && last.State != state.BackupAbandoned && last.State != state.BackupCut {
		return
	}
	why := last.Failure
	if why == "" {
		why = "it is " + string(last.State)
	}
	c.bad(Warning, state.CodeOverdue, s.Address, fmt.Sprintf("the newest try of a backup in %s failed: %s, begun %s: %s", h.spec.Address, last.ID, Moment(last.Began), why),
		"pgkeep backups show "+last.ID+"; pgkeep backup "+s.Name)
}

// shrunk is the share of the one before that a backup's data falls below before that is worth a warning.
const shrunk = 0.5

// sizes compares the newest usable backup with the one before: half of it gone is a table dropped or a wrong server, more
// often than not.
func (c *checker) sizes(s *server, h *home) {
	var newest, before *state.Backup
	for i := range h.archive.Backups {
		k := &h.archive.Backups[i]
		if h.archive.usability(k) != state.Usable {
			continue
		}
		if newest == nil || k.Ended.After(newest.Ended) {
			newest, before = k, newest
		} else if before == nil || k.Ended.After(before.Ended) {
			before = k
		}
	}
	switch {
	case newest == nil:
	case newest.DataBytes == 0:
		c.bad(Warning, state.CodeSize, s.Address, fmt.Sprintf("backup %s in %s holds no data", newest.ID, h.spec.Address), "pgkeep backups files "+newest.ID)
	case before != nil && float64(newest.DataBytes) < shrunk*float64(before.DataBytes):
		c.bad(Warning, state.CodeSize, s.Address, fmt.Sprintf("backup %s in %s holds %s, and %s before it %s", newest.ID, h.spec.Address, Size(newest.DataBytes), before.ID, Size(before.DataBytes)),
			"look whether something was dropped: pgkeep backups files "+before.ID)
	default:
		c.say(s.Address, fmt.Sprintf("size: the newest backup in %s holds %s, stored in %s", h.spec.Address, Size(newest.DataBytes), Size(newest.StoredBytes)))
	}
}
