package plan

import (
	"fmt"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// unlockedWAL takes from needless WAL what is locked still: what was put since the last moment of which a lock has ended, told by
// the backups that ended before it.
func (r Retained) unlockedWAL(free []wal.Range, lock time.Duration) []wal.Range {
	if lock == 0 {
		return free
	}
	var out []wal.Range
	for _, w := range free {
		to := wal.LSN(0)
		for _, f := range r.Fates {
			b := f.Backup
			switch {
			case b.Ended.IsZero() || b.Ended.Add(lock).After(r.clock):
			case b.Timeline == w.Timeline:
				to = max(to, b.Redo)
			case b.Timeline > w.Timeline:
				to = w.To
			}
		}
		if w.To = min(w.To, r.archive.size.Floor(to)); !w.Empty() {
			out = append(out, w)
		}
	}
	return r.knownUnlocked(out)
}

// knownUnlocked leaves out the stretches whose locks were looked at and have not ended.
func (r Retained) knownUnlocked(free []wal.Range) []wal.Range {
	if r.archive.Locks == nil {
		return free
	}
	var locked, out []wal.Range
	for _, w := range r.archive.Locks.WAL {
		if w.Until.After(r.clock) {
			locked = append(locked, w.Range)
		}
	}
	for _, w := range free {
		out = append(out, wal.Missing(w, locked)...)
	}
	return out
}

// locked says which backups go when their locks end, and when that is.
func (b *builder) locked(s *server, r Retained) {
	var first *state.Backup
	n := 0
	for _, f := range r.Fates {
		if f.Cause != StaysLocked {
			continue
		}
		if n++; first == nil || f.Backup.LockedUntil.Before(first.LockedUntil) {
			first = f.Backup
		}
	}
	if first == nil {
		return
	}
	what := "prune (" + first.ID + " is locked until then"
	if n > 1 {
		what += fmt.Sprintf(", %s more until later", count(n-1, "backup"))
	}
	b.plan.NextDue = append(b.plan.NextDue, Due{At: first.LockedUntil, What: what + ")", Subject: s.Name})
}
