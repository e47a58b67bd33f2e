package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pgkeep/pgkeep/state"
)

// Kept is a usable backup that stays when others of its cluster go.
type Kept struct {
	Backup string    `json:"backup"`
	Ended  time.Time `json:"ended"`
	Why    string    `json:"why"` // "weekly 3 of 4, monthly 1 of 12"
	// Alone says that it can be restored as it was at its end, and no moment after that for its sake.
	Alone bool `json:"alone,omitempty"`
}

// mostKept is how many backups that stay a step names.
const mostKept = 60

// kept tells of the usable backups that stay and why, newest first and at most mostKept, and how many more there are.
// Without a keep block the reasons given for those that go say it all, and nothing is told.
func (r Retained) kept() (out []Kept, more int) {
	if len(r.rules.Keep) == 0 {
		return nil, 0
	}
	for _, f := range slices.Backward(r.Fates) {
		switch {
		case f.Goes || f.Usability != state.Usable:
		case len(out) == mostKept:
			more++
		default:
			out = append(out, Kept{Backup: f.Backup.ID, Ended: f.Backup.Ended, Why: r.whyStays(f), Alone: f.Alone})
		}
	}
	return out, more
}

// whyStays says of a usable backup what keeps it: the places of keep that it takes, and any other reason.
func (r Retained) whyStays(f Fate) string {
	why := slices.Clone(f.Counts)
	switch f.Cause {
	case StaysHeld:
		text := "held"
		if !f.Backup.Hold.Expires.IsZero() {
			text += " until " + Moment(f.Backup.Hold.Expires)
		}
		if f.Backup.Hold.Reason != "" {
			text += ": " + f.Backup.Hold.Reason
		}
		why = append(why, text)
	case StaysInWindow, StaysWindowStart:
		why = append(why, r.whyInWindow(f))
	case StaysRedundancy:
		why = append(why, fmt.Sprintf("among the newest %d", r.rules.Redundancy))
	case StaysLocked:
		why = append(why, "locked until "+Moment(f.Backup.LockedUntil))
	case StaysMinimum:
		why = append(why, fmt.Sprintf("minimum_redundancy is %d", r.rules.Minimum))
	case StaysReferred:
		why = append(why, f.By+" reads its volumes")
	case StaysCounted, StaysUnjudged, StaysRunning, StaysUnfinished, StaysDeleted, StaysWaiting, StaysDamaged, StaysCorrupt, GoesByNoRule, GoesLost:
	}
	return strings.Join(why, ", ")
}

// whyInWindow says which moments a backup of the window is kept for. Without a window these are the ones from now on.
func (r Retained) whyInWindow(f Fate) string {
	switch {
	case r.rules.Window == 0:
		return "what is committed now is recovered from it"
	case f.Cause == StaysWindowStart:
		return "the recovery window of " + Span(r.rules.Window) + " begins with it"
	}
	return "in the recovery window of " + Span(r.rules.Window)
}

// KeptSentences says what stays beside what a step deletes, one line for neighbours with one reason.
func (s *Step) KeptSentences() []string {
	var out []string
	for i := 0; i < len(s.Keeps); {
		k := s.Keeps[i]
		n := 1
		for i+n < len(s.Keeps) && s.Keeps[i+n].Why == k.Why {
			n++
		}
		text := fmt.Sprintf("%s of %s: %s", k.Backup, Moment(k.Ended), k.Why)
		if n > 1 {
			last := s.Keeps[i+n-1]
			text = fmt.Sprintf("%d backups from %s of %s to %s of %s: %s", n, last.Backup, Moment(last.Ended), k.Backup, Moment(k.Ended), k.Why)
		}
		out = append(out, text)
		i += n
	}
	if s.KeepsMore > 0 {
		out = append(out, fmt.Sprintf("and %s before them", count(s.KeepsMore, "backup")))
	}
	return out
}

// keepRule writes a keep block's numbers as a reason names them: "4 weekly, 12 monthly".
func (r Rules) keepRule() string {
	var out []string
	for _, k := range r.Keep {
		for _, c := range []struct {
			most int
			name string
		}{{k.Daily, "daily"}, {k.Weekly, "weekly"}, {k.Monthly, "monthly"}, {k.Yearly, "yearly"}} {
			if c.most > 0 {
				out = append(out, fmt.Sprintf("%d %s", c.most, c.name))
			}
		}
	}
	return strings.Join(out, ", ")
}
