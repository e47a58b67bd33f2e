package plan

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// candidate is one way to recover: a backup of one repository and a line of history.
type candidate struct {
	home   *home
	backup *state.Backup
	line   line
	end    wal.LSN
}

// before tells whether a candidate is better than another: where the latest moment is asked for, by how far it goes.
func (c *candidate) before(o *candidate, latest bool) bool {
	if latest {
		if order := cmp.Or(cmp.Compare(c.line.timeline, o.line.timeline), cmp.Compare(c.end, o.end)); order != 0 {
			return order > 0
		}
	}
	return c.backup.Stop > o.backup.Stop
}

// candidate finds the newest backup of one repository from which the target is reached with all WAL present.
func (b *builder) candidate(rec hclspec.Recovery, h *home, fact state.TargetFact) (*candidate, string) {
	a := h.archive
	x, not := a.lineFor(rec.Target, fact)
	if not != "" {
		return nil, not
	}
	var usable []*state.Backup
	for i := range a.Backups {
		k := &a.Backups[i]
		named := b.opt.Backup == k.ID
		if b.opt.Backup != "" && !named {
			continue
		}
		if a.recoverable(k, b.now, named) && x.holds(k.Timeline, k.Stop) {
			usable = append(usable, k)
		}
	}
	if len(usable) == 0 {
		if b.opt.Backup != "" {
			return nil, fmt.Sprintf("backup %s is not there, not usable, or not on the way to timeline %d", b.opt.Backup, x.timeline)
		}
		return nil, fmt.Sprintf("no usable backup on the way to timeline %d", x.timeline)
	}
	slices.SortStableFunc(usable, func(i, j *state.Backup) int { return compareLSN(j.Stop, i.Stop) })
	not = ""
	for young, i := true, 0; i < len(usable); i++ { // the newest backup before the target tells why, if there is one
		c := &candidate{home: h, backup: usable[i], line: x}
		why := b.reaches(rec, c, fact)
		if why == "" {
			return c, ""
		}
		if not == "" || young {
			not = why
		}
		young = young && c.end < c.backup.Stop
	}
	return nil, not
}

// recoverable tells whether a recovery may start from a backup: usable, or deleted, held and asked for by id.
func (a *archive) recoverable(k *state.Backup, now time.Time, named bool) bool {
	if k.State == state.BackupDeleted && named && holdLive(k, now) {
		as := *k
		as.State = state.BackupCommitted
		return a.usability(&as) == state.Usable
	}
	return a.usability(k) == state.Usable
}

// lineFor gives the line of history that a target lies on.
func (a *archive) lineFor(t hclspec.Target, fact state.TargetFact) (line, string) {
	want := t.Timeline
	if want == 0 {
		want = fact.Timeline
	}
	if want == 0 {
		if n := len(a.lines); n > 0 {
			want = a.lines[n-1].timeline
		}
	}
	if slices.Contains(a.orphans, want) {
		return line{}, fmt.Sprintf("the history file of timeline %d is not archived", want)
	}
	for _, x := range a.lines {
		if x.timeline == want {
			return x, ""
		}
	}
	return line{}, fmt.Sprintf("nothing of timeline %d is archived; the newest that is, is %d", want, a.current.timeline)
}

// reaches computes where the recovery of c ends, and says why it cannot get there; empty: it can.
func (b *builder) reaches(rec hclspec.Recovery, c *candidate, fact state.TargetFact) string {
	a, t := c.home.archive, rec.Target
	reach := a.reach(c.line, c.backup)
	first := c.backup.Stop // nothing before it is consistent
	switch {
	case t.Immediate:
		c.end = c.backup.Stop
	case t.Latest:
		c.end = reach
		if end := a.endOf(c.line); reach < end {
			return fmt.Sprintf("WAL after %s is missing, of which the archive ends at %s: nothing after %s can be recovered from %s",
				reach, end, Moment(a.lastCommit(reach)), c.backup.ID)
		}
	case t.LSN != 0 && fact.End == 0: // it was not searched for
		c.end = t.LSN
		if t.LSN < first {
			return fmt.Sprintf("backup %s is consistent only from %s on, after %s", c.backup.ID, first, t.LSN)
		}
	default:
		c.end = fact.End // of the record at which PostgreSQL stops, which must not be before it is consistent
		if c.end < first || c.end == first && !fact.AtEnd && !stopsAfter(t) {
			return fmt.Sprintf("backup %s is consistent only from %s on (%s), after the target", c.backup.ID, first, Moment(c.backup.Ended))
		}
		if c.backup.Redo < fact.From && t.LSN == 0 {
			return fmt.Sprintf("what recovery stops at from backup %s on, which is older than the one from which the target was found, was not searched for", c.backup.ID)
		}
	}
	if c.end > reach {
		return fmt.Sprintf("WAL is needed up to %s and is contiguous from backup %s only up to %s (%s)", c.end, c.backup.ID, reach, Moment(a.lastCommit(reach)))
	}
	if t.Latest {
		b.takeSpool(rec, c)
	}
	return ""
}

// stopsAfter tells whether PostgreSQL stops behind the record that is the target, and not before it.
func stopsAfter(t hclspec.Target) bool { return t.Restore != "" || t.Time.IsZero() && t.Inclusive }

// endOf gives the end of the newest archived WAL of a line's own timeline.
func (a *archive) endOf(x line) wal.LSN {
	var end wal.LSN
	for _, r := range a.have {
		if r.Timeline == x.timeline {
			end = max(end, r.To)
		}
	}
	return end
}
