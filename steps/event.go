package steps

import (
	"time"

	"github.com/pgkeep/pgkeep/plan"
)

// EventKind says what an Event tells.
type EventKind string

// The kinds of events. A step has one Started or none, any number of Progress, and ends with exactly one of the others.
const (
	Started  EventKind = "started"
	Progress EventKind = "progress"
	Done     EventKind = "done"     // ran and verified
	Already  EventKind = "already"  // the world was so before
	Skipped  EventKind = "skipped"  // not run; Note says because of what
	Failed   EventKind = "failed"   // Err
	Waiting  EventKind = "waiting"  // needs approval and has none
	Canceled EventKind = "canceled" // cut short by the operator
)

// Event is told as it happens. Step points into the plan and is not to be changed.
type Event struct {
	Kind    EventKind
	Step    *plan.Step
	At      time.Time
	Elapsed time.Duration // since the step started
	Note    string        // one sentence
	Err     error         // of Failed
	// Of Progress; Total and ETA are 0 when not known.
	Done, Total int64   // bytes
	Rate        float64 // bytes a second since the step started
	ETA         time.Duration
}
