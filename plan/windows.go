package plan

import (
	"fmt"
	"slices"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// windows says from which repository which moments of the server can be recovered.
func (b *builder) windows(s *server) {
	for _, name := range s.blocked {
		w := Window{Server: s.Name, Repository: name, Unknown: "the repository was not seen"}
		if p := b.repositories[name]; p != nil && p.seen.Unknown != nil {
			w.Unknown = p.seen.Unknown.Because
		} else if p != nil && p.unknownCluster(s) != nil {
			w.Unknown = p.unknownCluster(s).Because
		}
		b.plan.Windows = append(b.plan.Windows, w)
	}
	for _, h := range s.homes {
		w := Window{Server: s.Name, Repository: h.spec.Name}
		if h.archive != nil {
			w.Intervals = h.archive.intervals()
			b.caughtUp(s, w.Intervals)
			if k := h.archive.young(b.now); k != nil && len(w.Intervals) == 0 {
				w.Waits = fmt.Sprintf("backup %s waits for WAL up to %s%s", k.ID, k.Stop, b.pushes(s))
			}
		}
		w.Loss = b.loss(s, h)
		if at, broken := h.archive.brokenAfter(w.Intervals); broken {
			w.Loss = "everything since " + Moment(at) + ", because WAL is missing after it"
		}
		b.plan.Windows = append(b.plan.Windows, w)
		for i := range h.others {
			former := newArchive(&h.others[i], 0)
			if spans := former.intervals(); len(spans) > 0 {
				b.plan.Windows = append(b.plan.Windows, Window{Server: s.Name, Repository: h.spec.Name, SystemID: former.SystemID, Intervals: spans})
			}
		}
	}
}

// youngFor is how long it is only natural that a backup waits for the WAL which makes it consistent.
const youngFor = 10 * time.Minute

// young gives the newest backup that was taken just now and waits for its WAL; nil: there is none.
func (a *archive) young(now time.Time) *state.Backup {
	for i := len(a.Backups) - 1; i >= 0; i-- {
		k := &a.Backups[i]
		if a.usability(k) == state.Waiting && now.Sub(k.Ended) <= youngFor {
			return k
		}
	}
	return nil
}

// pushes says how the WAL comes that a backup waits for.
func (b *builder) pushes(s *server) string {
	if r, ok := b.seen.Receivers[s.Name]; ok && r.Unknown == nil && r.Running {
		return ", which the receiver pushes within " + Span(s.Receiver.PushEvery)
	}
	return ", which the receiver pushes once it runs"
}

// intervals joins the usable backups of the current line of history into stretches without a hole.
func (a *archive) intervals() []Interval { return a.intervalsOn(a.current) }

// intervalsOn joins the usable backups of a line of history into stretches without a hole.
func (a *archive) intervalsOn(x line) []Interval {
	var on []*state.Backup
	for i := range a.Backups {
		k := &a.Backups[i]
		if k.State == state.BackupCommitted && x.holds(k.Timeline, k.Stop) && a.usability(k) == state.Usable {
			on = append(on, k)
		}
	}
	slices.SortStableFunc(on, func(x, y *state.Backup) int { return compareLSN(x.Stop, y.Stop) })
	var out []Interval
	for _, k := range on {
		if n := len(out); n > 0 && out[n-1].ToLSN >= k.Stop {
			continue
		}
		i := Interval{From: k.Ended, FromLSN: k.Stop, Backup: k.ID, ToLSN: max(a.reach(x, k), k.Stop)}
		i.To, i.Timeline = a.momentAt(x, i.ToLSN)
		i.To = later(i.To, k.Ended)
		out = append(out, i)
	}
	return out
}

// brokenAfter tells whether WAL of the current line is archived beyond a hole that no backup bridges, and the last moment
// before the hole: nothing of what came after can be restored, however well it is received.
func (a *archive) brokenAfter(spans []Interval) (last time.Time, broken bool) {
	if a == nil || len(spans) == 0 {
		return last, false
	}
	end := spans[len(spans)-1]
	for _, r := range a.WAL {
		if left, on := a.current.left(r.Timeline); on && r.From < left && r.From > end.ToLSN {
			return end.To, true
		}
	}
	return last, false
}

// caughtUp moves the end of the newest interval to the last moment at which the receiver had archived all there was: a
// server that writes nothing is recovered to now.
func (b *builder) caughtUp(s *server, spans []Interval) {
	if len(spans) == 0 {
		return
	}
	i := &spans[len(spans)-1]
	if r, ok := b.reportOf(s); ok && r.Archived != 0 && r.Archived >= r.ServerEnd && i.ToLSN >= r.Archived {
		i.To = later(i.To, r.CaughtUpAt)
	}
}

// momentAt gives the newest commit archived before position l of a line, and the timeline there.
func (a *archive) momentAt(x line, l wal.LSN) (time.Time, wal.Timeline) {
	var at time.Time
	t := x.timeline
	for _, p := range x.stretches() {
		if l > p.From && l <= p.To {
			t = p.Timeline
		}
	}
	for _, r := range a.WAL {
		if left, on := x.left(r.Timeline); on && held(r).To <= l && r.From < left {
			at = later(at, r.LastCommit)
		}
	}
	return at, t
}

// loss says what would be lost if the server were gone now.
func (b *builder) loss(s *server, h *home) string {
	if !s.known {
		return "an unknown amount: " + s.Name + " was not seen"
	}
	if r, ok := b.reportOf(s); ok && r.Running && r.Flushed != 0 && r.Timeline == s.seen.Timeline {
		return b.behind(s, r.Flushed, r.CaughtUpAt)
	}
	t, end, _ := b.durable(s)
	if end == 0 {
		return "everything"
	}
	if t != s.seen.Timeline {
		return fmt.Sprintf("everything since timeline %d began", s.seen.Timeline)
	}
	var at time.Time
	if h.archive != nil {
		at = h.archive.lastCommit(end)
	}
	return b.beyond(s, end, at)
}

// beyond says what the server has past a position when no receiver tells of itself: at is the last commit that is held,
// which may be long ago on a server that writes little, so the positions are said too.
func (b *builder) beyond(s *server, have wal.LSN, at time.Time) string {
	if have >= s.seen.FlushLSN {
		return "nothing"
	}
	after := ""
	if !at.IsZero() && !at.After(b.now) {
		after = fmt.Sprintf("what was committed after %s, %s ago: ", Moment(at), Span(b.now.Sub(at)))
	}
	return fmt.Sprintf("%s%s of WAL, from %s to the server's %s", after, Size(int64(s.seen.FlushLSN-have)), have, s.seen.FlushLSN)
}

// behind says how far a position is behind the server's end.
func (b *builder) behind(s *server, have wal.LSN, at time.Time) string {
	if have >= s.seen.FlushLSN {
		return "nothing"
	}
	amount := Size(int64(s.seen.FlushLSN-have)) + " of WAL"
	if at.IsZero() || at.After(b.now) {
		return amount
	}
	return fmt.Sprintf("%s (%s)", Span(b.now.Sub(at)), amount)
}
