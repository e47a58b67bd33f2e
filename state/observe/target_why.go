package observe

import (
	"fmt"
	"strings"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// whyNotAfter says what is behind the end of contiguous WAL.
func (t *targeting) whyNotAfter(end wal.LSN) string {
	if why, known := t.whyHole(end); known || end < t.archiveEnd() {
		return why
	}
	x, r := t.Target, t.Receiver
	behind := ""
	if r != nil && r.Unknown == nil && r.Timeline == t.history.Timeline && max(r.ServerEnd, r.Flushed) > end {
		behind = fmt.Sprintf("; the server had written up to %s, and what is after %s is not archived yet", max(r.ServerEnd, r.Flushed), end)
	}
	if x.LSN != 0 {
		return fmt.Sprintf("the archived WAL ends at %s", end) + behind
	}
	if !t.Now.IsZero() && x.Time.After(t.Now) {
		return "it is in the future"
	}
	text := "it is after the last archived commit, and nothing proves that the server committed nothing in between" + behind
	if behind == "" && r != nil && r.Unknown == nil && !r.CaughtUpAt.IsZero() {
		text += "; the receiver last had all that the server wrote at " + r.CaughtUpAt.UTC().Format(time.RFC3339)
	}
	return text
}

// whyHole says why there is no WAL at a position; known: something tells, a recorded gap or damage that was found.
func (t *targeting) whyHole(at wal.LSN) (why string, known bool) {
	timeline := t.history.TimelineAt(at)
	for _, g := range t.Cluster.Gaps {
		if g.From <= at && at < g.To && t.readsFrom(g.Timeline, at) {
			return fmt.Sprintf("WAL from %s to %s is recorded as lost: %s", g.From, g.To, g.Reason), true
		}
	}
	if damaged, ok := t.damagedAt(timeline, at); ok {
		return t.damagedText(damaged), true
	}
	return fmt.Sprintf("WAL is missing after %s: segment %s is not archived", at, t.size.SegmentAt(timeline, at).Name(t.size)), false
}

func (t *targeting) damagedText(r wal.Range) string {
	v := t.Cluster.Verified
	name := t.size.SegmentAt(r.Timeline, r.From).Name(t.size)
	return fmt.Sprintf("WAL from %s to %s is damaged: segment %s, as the verification of %s found", r.From, r.To, name, v.Began.UTC().Format("2006-01-02 15:04:05 UTC"))
}

// whyNotBefore says what became of backups that would have reached a target before the first usable one; empty: nothing is
// known of any.
func (t *targeting) whyNotBefore(first *state.Backup) string {
	var gone []string
	for i := range t.Cluster.Backups {
		b := &t.Cluster.Backups[i]
		if b.Stop == 0 || b.Stop >= first.Stop || t.usable(b) {
			continue
		}
		text := "backup " + b.ID
		switch {
		case !b.Tombed.IsZero():
			text += " was deleted at " + b.Tombed.UTC().Format("2006-01-02 15:04:05 UTC")
		case b.State == state.BackupCommitted:
			why, _ := t.whyHole(t.reach(b.Redo))
			text += " lacks WAL: " + why
		default:
			text += " is " + string(b.State)
		}
		gone = append(gone, text)
	}
	const most = 3
	if len(gone) > most {
		gone = append(gone[len(gone)-most:], fmt.Sprintf("and %d older ones", len(gone)-most))
	}
	return strings.Join(gone, ", ")
}

// holes names what is missing on the line of history, where what is not found may have been; empty: nothing is missing
// from the oldest usable backup on.
func (t *targeting) holes() string {
	var out []string
	oldest := &t.backups[len(t.backups)-1]
	for _, r := range t.segments(oldest.Redo, t.archiveEnd()) {
		for _, m := range wal.Missing(r, t.held) {
			if m.From < t.archiveEnd() {
				out = append(out, wal.Range{Timeline: m.Timeline, From: m.From, To: min(m.To, t.archiveEnd())}.String())
			}
		}
	}
	const most = 3
	if len(out) > most {
		out = append(out[:most], fmt.Sprintf("and %d more stretches", len(out)-most))
	}
	return strings.Join(out, "; ")
}

// silentUntil tells whether it is proven that nothing was committed after the archived WAL that ends at end and up to at.
func (t *targeting) silentUntil(at, clock time.Time, end wal.LSN) bool {
	if !clock.Before(at) {
		return true
	}
	r := t.Receiver
	if r == nil || r.Unknown != nil || end < t.archiveEnd() {
		return false
	}
	return r.Timeline == t.history.Timeline && !r.CaughtUpAt.Before(at) && r.Flushed > 0 && r.Archived >= r.Flushed && end >= r.Archived
}

// readsFrom tells whether the line of history reads position l from a timeline, or from a copy of it.
func (t *targeting) readsFrom(timeline wal.Timeline, l wal.LSN) bool {
	for _, p := range t.history.Parents {
		if p.Timeline == timeline {
			return l < p.Switch
		}
	}
	return timeline == t.history.Timeline
}
