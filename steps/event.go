package steps

import (
	"time"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state/wal"
)

// EventKind says what an Event tells.
type EventKind string

// The kinds of events. A step has one Started or none, any number of Held, then of Progress, and ends with exactly one of
// the others.
const (
	Started  EventKind = "started"
	Held     EventKind = "held" // waits for a lock; Note says who has it since when
	Progress EventKind = "progress"
	Done     EventKind = "done"     // ran and verified
	Already  EventKind = "already"  // the world was so before
	Skipped  EventKind = "skipped"  // did not run; Note says because of what
	Failed   EventKind = "failed"   // Err says why
	Waiting  EventKind = "waiting"  // needs approval and has none
	Canceled EventKind = "canceled" // the operator interrupted
)

// Event is told as it happens. Step points into the plan and is not to be changed.
type Event struct {
	Kind    EventKind
	Step    *plan.Step
	Outcome Outcome // of the kinds that end a step
	At      time.Time
	Elapsed time.Duration // since the step started
	Note    string        // one sentence
	Err     error         // of Failed, and of Skipped when a condition no longer holds
	// Of Progress; Total and ETA are 0 when they are not known.
	Done, Total int64   // bytes
	Rate        float64 // bytes a second since the step started; of WAL since its replay began, while that goes on
	ETA         time.Duration
	Replay      *Replay // nil: no server is replaying WAL
}

// Replay is how far a server that a recovery started is with its WAL.
type Replay struct {
	LSN    wal.LSN       // WAL is replayed up to here; zero: it is not known yet
	Commit time.Time     // when the last transaction that was replayed ended; zero: it is not known
	Rate   float64       // bytes of WAL a second, the mean since replay was first seen; zero: it is not known
	Left   time.Duration // to the target at that rate; zero: it is not known
}

// Outcome is how a step ended.
type Outcome string

// The outcomes.
const (
	OutcomeDone        Outcome = "done"
	OutcomeAlready     Outcome = "already"
	OutcomeFailed      Outcome = "failed"
	OutcomeSkipped     Outcome = "skipped"      // because of a step before it
	OutcomeOtherHost   Outcome = "other host"   // must run elsewhere
	OutcomeStale       Outcome = "stale"        // a condition no longer holds
	OutcomeLocked      Outcome = "locked"       // another pgkeep is at it
	OutcomeNotApproved Outcome = "not approved" // waits for a name
	OutcomeCanceled    Outcome = "canceled"     // the operator interrupted
)

// kind gives the event that ends a step of this outcome.
func (o Outcome) kind() EventKind {
	switch o {
	case OutcomeDone:
		return Done
	case OutcomeAlready:
		return Already
	case OutcomeFailed, OutcomeLocked:
		return Failed
	case OutcomeNotApproved:
		return Waiting
	case OutcomeCanceled:
		return Canceled
	case OutcomeSkipped, OutcomeOtherHost, OutcomeStale:
		return Skipped
	}
	return Skipped
}

// settled tells whether the world is as the step would have it, so that later steps can build on it.
func (o Outcome) settled() bool { return o == OutcomeDone || o == OutcomeAlready }

// meter turns a running step's bytes into Progress events, at most ten a second.
type meter struct {
	step  *plan.Step
	now   func() time.Time
	began time.Time
	last  time.Time
	tell  func(Event)
	// replay gives how far a server is that the step has started; nil: it starts none.
	replay func() *Replay
}

func (m *meter) report(done, total int64) {
	at := m.now()
	if at.Sub(m.last) < 100*time.Millisecond && done != total {
		return
	}
	m.last = at
	e := Event{Kind: Progress, Step: m.step, At: at, Elapsed: at.Sub(m.began), Done: done, Total: total}
	if e.Elapsed > 0 {
		e.Rate = float64(done) / e.Elapsed.Seconds()
	}
	if e.Rate > 0 && total > done {
		e.ETA = time.Duration(float64(total-done) / e.Rate * float64(time.Second))
	}
	if m.replay != nil {
		if e.Replay = m.replay(); e.Replay != nil { // what the restore took says nothing of the replay
			e.Rate, e.ETA = e.Replay.Rate, e.Replay.Left
		}
	}
	m.tell(e)
}
