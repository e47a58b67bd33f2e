package recovery

import (
	"fmt"
	"strings"
	"time"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// The ways in which a server stands at its target.
const (
	AtPause    = "paused"
	AtPromote  = "promoted"
	AtShutdown = "shut down"
)

// Reached is where a recovery ended, as PostgreSQL's own log and the archived WAL tell it.
type Reached struct {
	Outcome  string         `json:"outcome"`            // paused | promoted | shut down
	Stopped  string         `json:"stopped,omitempty"`  // PostgreSQL's own sentence; empty: it went to the end of the WAL
	Last     *state.Commit  `json:"last,omitempty"`     // the last transaction it holds; nil: not known which
	LastTime time.Time      `json:"last_time,omitzero"` // when the last transaction ended, by the log; zero: it did not say
	Timeline wal.Timeline   `json:"timeline,omitempty"` // that it writes on; zero: it was not promoted
	Note     string         `json:"note,omitempty"`     // what is not as it was asked for, with the target reached all the same
	Checks   []state.Answer `json:"checks,omitempty"`   // what it answered to the declared checks
}

// Text says in one sentence what the recovered server holds.
func (r Reached) Text() string {
	out := "target reached"
	switch {
	case r.Last != nil:
		out += fmt.Sprintf(": the last transaction it holds is %d, committed at %s", r.Last.XID, r.Last.Time.UTC().Format(time.RFC3339Nano))
	case !r.LastTime.IsZero():
		out += ": the last transaction it holds ended at " + r.LastTime.UTC().Format(time.RFC3339Nano)
	}
	out += "; the server " + map[string]string{
		AtPause: "is paused there and can be read", AtPromote: "was promoted", AtShutdown: "shut down there",
	}[r.Outcome]
	if r.Timeline != 0 {
		out += fmt.Sprintf(" and writes on timeline %d", r.Timeline)
	}
	for _, also := range []string{r.Note, r.held()} {
		if also != "" {
			out += "; " + also
		}
	}
	return out
}

// atRest tells whether the log says that recovery has come to an end, whatever that is; the server answers then, or has
// shut down.
func (l *serverLog) atRest() bool {
	return l.paused && l.readOnly || l.promoted && l.ready || l.stoppedThere
}

// judge tells what a recovery that ended came to. why is not empty when it ended elsewhere than the target.
func (l *serverLog) judge(route *plan.Route) (r Reached, why string) {
	r = Reached{LastTime: l.last, Last: route.Before}
	switch {
	case l.promoted:
		r.Outcome, r.Timeline = AtPromote, l.timeline
	case l.stoppedThere:
		r.Outcome = AtShutdown
	case l.paused:
		r.Outcome = AtPause
	default:
		return r, "recovery did not end"
	}
	toTheEnd := route.AtEnd || route.Target.Latest
	switch {
	case toTheEnd && l.stop != nil:
		return r, "it was to go to the end of the WAL, and PostgreSQL says: " + l.stop.text
	case toTheEnd:
		return r, l.short(route)
	case l.stop == nil:
		return r, "the WAL ended before " + targetText(*route)
	}
	r.Stopped = l.stop.text
	if !l.stop.fits(route) {
		return r, fmt.Sprintf("the target is %s, and PostgreSQL says: %s", targetText(*route), l.stop.text)
	}
	if l.stop.after && l.stop.commit {
		r.Last = &state.Commit{XID: l.stop.xid, Time: l.stop.time, LSN: route.End}
	}
	if want := action(route); r.Outcome != want {
		r.Note = "it was to be " + want + ", which PostgreSQL does only where hot standby is active by then"
	}
	return r, ""
}

// short says that the WAL ended before the last transaction that the archived WAL holds; empty: it did not, or the log does not
// tell. PostgreSQL names the last record that it replayed by its start, and the last transaction by its time.
func (l *serverLog) short(route *plan.Route) string {
	b := route.Before
	if b == nil || l.redo == 0 || len(route.Path) == 0 || b.LSN <= route.Path[0].From || l.redo >= b.LSN || l.last.Equal(b.Time) {
		return ""
	}
	return fmt.Sprintf("the WAL was replayed up to %s, and transaction %d, which is to be in it, ends behind it at %s", l.redo, b.XID, b.LSN)
}

// action gives the outcome that the route asks for.
func action(route *plan.Route) string {
	switch {
	case route.AtEnd || route.Target.Latest || route.Target.Action == "promote":
		return AtPromote
	case route.Target.Action == "shutdown":
		return AtShutdown
	}
	return AtPause
}

// fits tells whether PostgreSQL stopped where the target says, by the rules of recoveryStopsBefore and recoveryStopsAfter.
func (s *stopLine) fits(route *plan.Route) bool {
	t := route.Target
	switch {
	case t.Immediate:
		return s.consistent
	case !t.Time.IsZero():
		to := t.Time.Truncate(time.Microsecond)
		past := s.time.After(to) || !t.Inclusive && s.time.Equal(to)
		return s.xid != 0 && !s.after && past && (route.After == nil || !s.commit || route.After.XID == s.xid)
	case t.XID != 0:
		return s.xid == t.XID && s.after == t.Inclusive
	case t.LSN != 0:
		return s.position >= t.LSN && s.after == t.Inclusive
	}
	return t.Restore != "" && s.point == t.Restore
}

// reasons joins what the log said of trouble, newest last.
func (l *serverLog) reasons() string { return strings.Join(l.trouble, "\n") }
