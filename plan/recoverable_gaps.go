package plan

import (
	"fmt"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// gapBetween says what is between two stretches that can be recovered.
func (a *archive) gapBetween(x line, before RecoverableStretch, next Interval, rules Retained) RecoverableStretch {
	why := a.whyLost(x, before.ToLSN, next.FromLSN)
	if why == "" {
		why = rules.whyLetGo(a.timelineOn(x, before.ToLSN+1), before.ToLSN)
	}
	if why == "" {
		why = a.whyHole(x, before.ToLSN, next.FromLSN)
	}
	return RecoverableStretch{
		Kind: Unrecoverable, From: before.To, To: next.From, FromLSN: before.ToLSN, ToLSN: next.FromLSN, Timeline: next.Timeline, Why: why,
	}
}

// gapAfter tells of WAL that is archived behind the last stretch and that nothing leads to.
func (a *archive) gapAfter(x line, last RecoverableStretch) (RecoverableStretch, bool) {
	end := a.endOf(x)
	if last.Kind == Unrecoverable || end <= last.ToLSN || a.size.Ceil(last.ToLSN) >= end {
		return RecoverableStretch{}, false
	}
	return RecoverableStretch{
		Kind: Unrecoverable, From: last.To, To: later(last.To, a.timeOn(x, end)), FromLSN: last.ToLSN, ToLSN: end, Timeline: x.timeline,
		Why: a.whyHole(x, last.ToLSN, end) + "; no backup was taken after it",
	}, true
}

// whyHole says why WAL of a line is not there from a position on: what is known of it, or which segment is missing.
func (a *archive) whyHole(x line, from, to wal.LSN) string {
	if why := a.whyLost(x, from, to); why != "" {
		return why
	}
	at := a.timelineOn(x, from+1)
	return fmt.Sprintf("WAL after %s is not archived: segment %s is missing", from, a.size.SegmentAt(at, from).Name(a.size))
}

// whyLost says that WAL of a line is missing for a recorded gap, damage or backups that were deleted; empty: for none of them.
func (a *archive) whyLost(x line, from, to wal.LSN) string {
	for _, g := range a.Gaps {
		if left, on := x.left(g.Timeline); on && g.From < min(left, to) && g.To > from {
			return fmt.Sprintf("WAL from %s to %s is recorded as lost at %s: %s", g.From, g.To, Moment(g.Recorded), g.Reason)
		}
	}
	at := a.timelineOn(x, from+1)
	if v := a.Verified; v != nil {
		for _, r := range v.BadWAL {
			if r.Timeline == at && r.From < to && r.To > from {
				return fmt.Sprintf("segment %s is damaged, as the verification of %s found", a.size.SegmentAt(at, r.From).Name(a.size), Moment(v.Began))
			}
		}
	}
	for i := range a.Backups {
		if b := &a.Backups[i]; b.State == state.BackupDeleted && b.Stop > from && b.Stop <= to {
			return fmt.Sprintf("WAL after %s is not archived any more: backups in between were deleted, %s at %s", from, b.ID, Moment(b.Tombed))
		}
	}
	return ""
}

// newestAt gives the newest usable backup that a position of a line is recovered from.
func (a *archive) newestAt(x line, l wal.LSN) string {
	var best *state.Backup
	for i := range a.Backups {
		b := &a.Backups[i]
		if b.Stop <= l && x.holds(b.Timeline, b.Stop) && a.usability(b) == state.Usable && (best == nil || b.Stop > best.Stop) {
			best = b
		}
	}
	if best == nil {
		return ""
	}
	return best.ID
}

// timelineOn gives the timeline of a line at a position.
func (a *archive) timelineOn(x line, l wal.LSN) wal.Timeline {
	for _, s := range x.stretches() {
		if l <= s.To {
			return s.Timeline
		}
	}
	return x.timeline
}

// timeOn gives the newest moment that is known to be at or before a position of a line.
func (a *archive) timeOn(x line, l wal.LSN) time.Time {
	var at time.Time
	for _, s := range x.stretches() {
		if s.From < l || s.From == 0 {
			at = later(at, a.timeAt(s.Timeline, min(s.To, l)))
		}
	}
	return at
}
