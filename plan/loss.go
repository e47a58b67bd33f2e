package plan

import (
	"fmt"
	"slices"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// Loss is what can no longer be recovered once a step that deletes has run. A step that loses nothing has none.
type Loss struct {
	Moments     []LostMoments `json:"moments"`                // oldest first, at most five
	MoreMoments int           `json:"more_moments,omitempty"` // how many stretches there are beside those
	// Points are the named restore points inside the moments, newest first and at most five.
	Points     []LostPoint `json:"restore_points,omitempty"`
	MorePoints int         `json:"more_restore_points,omitempty"` // how many there are beside those
	AtLeast    bool        `json:"at_least,omitempty"`            // of restore points there may be others that were not counted
	Unknown    string      `json:"unknown,omitempty"`             // why it is not known which restore points are lost; empty: it is
}

// LostMoments is a stretch of time, and of WAL on one timeline, in which no moment can be recovered any more.
type LostMoments struct {
	From    time.Time `json:"from"`
	To      time.Time `json:"to"` // the first moment that stays, or the last that is lost where none follows
	FromLSN wal.LSN   `json:"from_lsn"`
	ToLSN   wal.LSN   `json:"to_lsn"`

	Timeline wal.Timeline `json:"timeline"`
}

// LostPoint is a named restore point that can no longer be recovered to.
type LostPoint struct {
	wal.RestorePoint
	Timeline wal.Timeline `json:"timeline"`
}

// mostLost is how many stretches of moments, and how many restore points, a step names.
const mostLost = 5

// Sentences says what is lost, the moments first. A name is quoted: others gave it.
func (l *Loss) Sentences() []string {
	if l == nil {
		return nil
	}
	var out []string
	for _, m := range l.Moments {
		on := ""
		if m.Timeline > 1 {
			on = fmt.Sprintf(", timeline %d", m.Timeline)
		}
		out = append(out, fmt.Sprintf("every moment from %s to %s (%s to %s%s)", Moment(m.From), Moment(m.To), m.FromLSN, m.ToLSN, on))
	}
	if l.MoreMoments > 0 {
		out = append(out, fmt.Sprintf("and %s more", count(l.MoreMoments, "stretch of time")))
	}
	for _, p := range l.Points {
		on := ""
		if p.Timeline > 1 {
			on = fmt.Sprintf(" on timeline %d", p.Timeline)
		}
		out = append(out, fmt.Sprintf("restore point %q of %s, at %s%s", p.Name, Moment(p.Time), p.LSN, on))
	}
	return append(out, l.others()...)
}

// others says how many restore points are lost that are not named.
func (l *Loss) others() []string {
	switch {
	case l.Unknown != "":
		return []string{"which named restore points, is not known: " + l.Unknown}
	case l.MorePoints > 0 && l.AtLeast:
		return []string{"and at least " + count(l.MorePoints, "more restore point")}
	case l.MorePoints > 0:
		return []string{"and " + count(l.MorePoints, "more restore point")}
	case l.AtLeast && len(l.Points) > 0:
		return []string{"and perhaps more restore points: not all of its WAL is indexed by name"}
	case l.AtLeast:
		return []string{"perhaps named restore points: not all of its WAL is indexed by name"}
	case len(l.Points) == 0:
		return []string{"no named restore point"}
	}
	return nil
}

// reachable gives the positions to which a recovery can go from the usable backups that stay, by timeline. A range
// ends one past its last position.
func (a *archive) reachable(stays func(*state.Backup) bool) []wal.Range {
	var out []wal.Range
	for _, x := range a.lines {
		var on []*state.Backup
		for i := range a.Backups {
			k := &a.Backups[i]
			if x.holds(k.Timeline, k.Stop) && stays(k) && a.usability(k) == state.Usable {
				on = append(on, k)
			}
		}
		slices.SortStableFunc(on, func(x, y *state.Backup) int { return compareLSN(x.Stop, y.Stop) })
		var end wal.LSN
		for _, k := range on {
			if end >= k.Stop {
				continue
			}
			end = max(a.reach(x, k), k.Stop)
			for _, s := range x.stretches() {
				if from, to := max(s.From, k.Stop), min(s.To, end); from <= to {
					out = append(out, wal.Range{Timeline: s.Timeline, From: from, To: to + 1})
				}
			}
		}
	}
	return wal.Merge(out)
}

// without gives the archive as it is once the WAL of the ranges is gone.
func (a *archive) without(gone []wal.Range) *archive {
	out := *a
	out.have = nil
	for _, h := range a.have {
		out.have = append(out.have, wal.Missing(h, gone)...)
	}
	return &out
}

// losses tells what is lost with the WAL that nobody needs now, and then with the backups that go: at once with them, and a
// day later with the WAL that only they needed. nil: nothing.
func (r Retained) losses(free []wal.Range) (ofWAL, ofBackups *Loss) {
	a := r.archive
	everything := func(*state.Backup) bool { return true }
	before := a.reachable(everything)
	between := before
	if len(free) > 0 {
		between = a.without(free).reachable(everything)
		ofWAL = a.loss(before, between)
	}
	going := map[*state.Backup]bool{}
	for _, k := range r.Going() {
		going[k] = true
	}
	if len(going) > 0 {
		r.later = true
		ofBackups = a.loss(between, a.without(append(r.NeedlessWAL(), free...)).reachable(func(k *state.Backup) bool { return !going[k] }))
	}
	return ofWAL, ofBackups
}

// lossOfBackups tells what is lost at once when backups go that somebody names; nil: nothing.
func (a *archive) lossOfBackups(going func(*state.Backup) bool) *Loss {
	before := a.reachable(func(*state.Backup) bool { return true })
	return a.loss(before, a.reachable(func(k *state.Backup) bool { return !going(k) }))
}

func (a *archive) loss(before, after []wal.Range) *Loss {
	var lost []wal.Range
	for _, r := range before {
		lost = append(lost, wal.Missing(r, after)...)
	}
	if len(lost) == 0 {
		return nil
	}
	out := &Loss{}
	for _, r := range lost {
		if len(out.Moments) == mostLost {
			out.MoreMoments++
			continue
		}
		m := LostMoments{Timeline: r.Timeline, FromLSN: r.From, ToLSN: r.To - 1, From: a.timeAt(r.Timeline, r.From)}
		if a.endsAt(r.Timeline, r.From) == nil {
			m.FromLSN-- // the last position that stays
		}
		if k := a.endsAt(r.Timeline, r.To); k != nil {
			m.ToLSN = k.Stop
		}
		m.To = later(m.From, a.timeAt(r.Timeline, m.ToLSN))
		out.Moments = append(out.Moments, m)
	}
	a.lostPoints(out, lost)
	return out
}

// endsAt gives a backup that is consistent exactly at a position.
func (a *archive) endsAt(t wal.Timeline, l wal.LSN) *state.Backup {
	for i := range a.Backups {
		if k := &a.Backups[i]; k.Timeline == t && k.Stop == l {
			return k
		}
	}
	return nil
}

// timeAt gives the newest time that is known of timeline t at or before position l: exactly, where a backup ends there.
func (a *archive) timeAt(t wal.Timeline, l wal.LSN) time.Time {
	if k := a.endsAt(t, l); k != nil {
		return k.Ended
	}
	var at time.Time
	for _, r := range a.WAL {
		if r.Timeline == t && held(r).To <= l {
			at = later(at, r.LastCommit)
		}
	}
	for i := range a.Backups {
		if k := &a.Backups[i]; k.Timeline == t && k.Stop <= l {
			at = later(at, k.Ended)
		}
	}
	return at
}

// lostPoints names the restore points inside the lost ranges, and counts those that were not told of by name.
func (a *archive) lostPoints(out *Loss, lost []wal.Range) {
	if a.RestorePoints == nil {
		out.Unknown = "the repository was looked at by an older pgkeep"
		return
	}
	out.AtLeast = a.RestorePoints.Unread > 0
	for _, s := range a.RestorePoints.Stretches {
		inside, named := 0, 0
		for _, r := range lost {
			if r.Timeline != s.Timeline || s.From+1 >= r.To || s.To <= r.From {
				continue
			}
			if r.From <= s.From && s.To <= r.To {
				inside = s.Count
				out.AtLeast = out.AtLeast || s.AtLeast
			} else if len(s.Newest) < s.Count || s.AtLeast {
				out.AtLeast = true
			}
			for _, p := range s.Newest {
				if r.From < p.LSN && p.LSN < r.To {
					named++
					out.Points = append(out.Points, LostPoint{p, s.Timeline})
				}
			}
		}
		out.MorePoints += max(0, inside-named)
	}
	slices.SortStableFunc(out.Points, func(p, q LostPoint) int { return q.Time.Compare(p.Time) })
	if n := len(out.Points); n > mostLost {
		out.Points, out.MorePoints = out.Points[:mostLost:mostLost], out.MorePoints+n-mostLost
	}
}
