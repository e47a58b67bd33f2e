package steps

import (
	"context"
	"errors"
	"time"

	"github.com/pgkeep/pgkeep/plan"
)

// Options go with one Apply.
type Options struct {
	// Auto are the impacts that run without a name (approval.auto of the HCL).
	Auto []plan.Impact
	// Approved are the impacts and the ids of steps that were named: by the prompt, --auto-approve or a saved plan.
	Approved []string
	// Report is told every event, one at a time; nil: nobody is told.
	Report func(Event)
	// Parallel is how many servers are worked on at once; default 4.
	Parallel int
	// Now reads the clock; nil: time.Now.
	Now func() time.Time
	// Who is user@host for the journal; Version is pgkeep's.
	Who, Version string
	// Host is this machine, as `host` in the HCL means it: steps of another are skipped.
	Host string
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

// StepResult is how one step ended.
type StepResult struct {
	Step    *plan.Step
	Outcome Outcome
	Note    string // one sentence: why not, or what came of it
	Err     error  // of failed, stale, locked
	Began   time.Time
	Elapsed time.Duration
}

// Result is how an apply ended, step by step in the plan's order.
type Result struct {
	Steps   []StepResult
	Journal error // why the journal could not be written; nil: it was, or nothing ran
}

// Apply does what the plan says. The error is nil when every step is done, or was so already; else it says how many
// are not, and Result says which and why.
func Apply(ctx context.Context, p *plan.Plan, w World, o Options) (Result, error) {
	return Result{}, errors.New("not built yet")
}

// Exit gives the exit code that the outcomes mean: 0, 1, 4, 5, 6, 7 or 130, as in docs/exit-codes.
func (r Result) Exit() int { return 1 }
