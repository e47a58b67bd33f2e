package observe

import (
	"fmt"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// probeFor gives the rule by which PostgreSQL stops, from recoveryStopsBefore and recoveryStopsAfter in xlogrecovery.c.
func probeFor(x hclspec.Target) probe {
	end := func(e *wal.Event) bool { return e.Kind == wal.Commit || e.Kind == wal.Abort }
	switch {
	case !x.Time.IsZero():
		past := func(at time.Time) bool { return at.After(x.Time) || !x.Inclusive && at.Equal(x.Time) }
		return probe{
			maybe: func(s *wal.Summary) bool { return !s.MaxEnd.IsZero() && past(s.MaxEnd) },
			stop:  func(e *wal.Event) bool { return end(e) && past(e.Time) },
		}
	case x.XID != 0:
		return probe{
			maybe: func(s *wal.Summary) bool { return s.MinXID <= x.XID && x.XID <= s.MaxXID },
			stop:  func(e *wal.Event) bool { return end(e) && e.XID == x.XID },
			after: x.Inclusive,
		}
	case x.Restore != "":
		return probe{
			maybe: func(s *wal.Summary) bool { return hasPoint(s.RestorePoints, x.Restore) },
			stop:  func(e *wal.Event) bool { return e.Kind == wal.RestorePointRecord && e.Name == x.Restore },
			after: true,
		}
	}
	return probeAt(x.LSN, x.Inclusive)
}

func probeAt(l wal.LSN, after bool) probe {
	return probe{
		maybe: func(s *wal.Summary) bool { return s.LastStart >= l },
		stop:  func(e *wal.Event) bool { return e.Start >= l },
		after: after,
		every: true,
	}
}

func hasPoint(points []wal.RestorePoint, name string) bool {
	for _, p := range points {
		if p.Name == name {
			return true
		}
	}
	return false
}

// find fills the fact, or refuses.
func (t *targeting) find() error {
	if len(t.backups) == 0 {
		what := "there is no usable backup"
		if t.Backup != "" {
			what = "backup " + t.Backup + " is not there, not usable, or not"
		}
		t.refuse(fmt.Sprintf("%s on the way to timeline %d", what, t.history.Timeline))
		return nil
	}
	switch x := t.Target; {
	case x.Latest:
		return t.latest()
	case x.Immediate:
		return t.immediate()
	}
	p := probeFor(t.Target)
	var later *state.Backup // the oldest backup that is too new
	fast := false           // which only the clock of the machine that took it says
	for i := range t.backups {
		b := &t.backups[i]
		tooNew, byHost, err := t.tooNew(b)
		if err != nil {
			return err
		}
		if tooNew {
			later, fast = b, byHost
			continue
		}
		f, err := t.search(b.Redo, t.reach(b.Redo), p)
		if err != nil {
			return err
		}
		switch {
		case f.hit == nil && t.ends():
			return t.afterLast(b, later, f)
		case f.hit == nil: // a name or a transaction: perhaps older
			continue
		case f.hit.Start >= b.Stop || p.after && f.hit.End >= b.Stop:
			t.reached(b, f)
			return nil
		}
		later, fast = b, false
	}
	if fast {
		if done, err := t.afterAll(later, p); done || err != nil {
			return err
		}
	}
	return t.nowhere(later)
}

// afterAll looks once more at the oldest backup that is too new, when there is none before it and only the clock of the
// machine that took it says so: where that is fast, a target behind the backup seems to lie before it. A transaction in
// the WAL from the backup's redo position on that committed by the target, with none before it that ended later, is the
// server's own word that the backup holds nothing of later.
func (t *targeting) afterAll(b *state.Backup, p probe) (bool, error) {
	f, err := t.search(b.Redo, t.reach(b.Redo), p)
	switch {
	case err != nil || f.before == nil:
		return false, err
	case f.hit == nil:
		return true, t.afterLast(b, nil, f)
	case f.hit.Start < b.Stop:
		return false, nil
	}
	t.reached(b, f)
	return true, nil
}

// tooNew tells whether a backup holds what the target is before. Nothing in the WAL after its start says so of a time:
// PostgreSQL would stop at the first commit behind the backup, with later ones inside. The clock of the machine that took
// the backup is not the server's: the server's own word is asked too. byHost tells that only the former says so.
func (t *targeting) tooNew(b *state.Backup) (tooNew, byHost bool, err error) {
	x := t.Target
	if x.Time.IsZero() {
		return x.LSN != 0 && x.LSN < b.Redo, false, nil
	}
	early := x.Time.Before(b.Ended)
	if early && b != &t.backups[len(t.backups)-1] {
		return true, true, nil // an older one will do
	}
	last, err := t.lastEndBefore(b)
	late := x.Time.Before(last)
	return early || late, early && !late, err
}

// ends tells whether a target that no record of a newer backup's WAL reaches lies after all of it.
func (t *targeting) ends() bool { return !t.Target.Time.IsZero() || t.Target.LSN != 0 }

func (t *targeting) reached(b *state.Backup, f found) {
	t.redo = b.Redo
	t.fact = state.TargetFact{
		Reachable: true, Timeline: t.history.Timeline, From: b.Redo, End: f.hit.End, Before: f.before, After: f.after,
	}
}

// latest goes to the end of what is archived without a hole from the newest backup on.
func (t *targeting) latest() error {
	b := &t.backups[0]
	t.redo = b.Redo
	end := t.reach(b.Redo)
	f, err := t.search(b.Redo, end, never())
	if err != nil {
		return err
	}
	t.fact = state.TargetFact{Reachable: true, Timeline: t.history.Timeline, From: b.Redo, End: end, Before: f.before, AtEnd: true}
	return nil
}

// immediate stops where the newest backup is consistent.
func (t *targeting) immediate() error {
	b := &t.backups[0]
	t.redo = b.Redo
	f, err := t.search(b.Redo, t.reach(b.Redo), probeAt(b.Stop, false))
	if err != nil {
		return err
	}
	t.fact = state.TargetFact{Reachable: true, Timeline: t.history.Timeline, From: b.Redo, End: b.Stop, Before: f.before, After: f.after}
	return nil
}

// afterLast handles a time or position after everything that is archived without a hole from b on.
func (t *targeting) afterLast(b, later *state.Backup, f found) error {
	end := t.reach(b.Redo)
	t.redo = b.Redo
	x := t.Target
	silent := x.LSN != 0 && x.LSN <= end || !x.Time.IsZero() && t.silentUntil(x.Time, f.clock, end)
	if silent {
		t.fact = state.TargetFact{Reachable: true, Timeline: t.history.Timeline, From: b.Redo, End: end, Before: f.before, AtEnd: true}
		return nil
	}
	near := []state.Nearest{lastOf(b, f, end, "the last commit before it")}
	if later != nil {
		near = append(near, consistent(later))
	}
	t.refuse(t.whyNotAfter(end), near...)
	return nil
}

// nowhere refuses a target that lies before every backup, or that no record has.
func (t *targeting) nowhere(later *state.Backup) error {
	oldest, newest := &t.backups[len(t.backups)-1], &t.backups[0]
	if later == oldest {
		text := fmt.Sprintf("it is before the first usable backup, %s, is consistent", later.ID)
		if t.Backup != "" {
			text = "it is before backup " + t.Backup + " is consistent"
		} else if gone := t.whyNotBefore(later); gone != "" {
			text += "; " + gone
		}
		t.refuse(text, consistent(later))
		return nil
	}
	f, err := t.search(newest.Redo, t.reach(newest.Redo), never())
	if err != nil {
		return err
	}
	near := []state.Nearest{consistent(oldest)}
	if last := lastOf(newest, f, t.reach(newest.Redo), "the last archived commit"); last.LSN != oldest.Stop {
		near = append(near, last)
	}
	what := fmt.Sprintf("transaction %d ended nowhere in the archived WAL that can be reached", t.Target.XID)
	if t.Target.Restore != "" {
		what = fmt.Sprintf("no restore point %q is in the archived WAL that can be reached", t.Target.Restore)
	}
	if later != nil {
		what += fmt.Sprintf("; what is before %s needs WAL that is missing", later.Stop)
		near = append(near, consistent(later))
	}
	if holes := t.holes(); holes != "" {
		what += "; it may have been in WAL that is missing: " + holes
	}
	t.refuse(what, near...)
	return nil
}
