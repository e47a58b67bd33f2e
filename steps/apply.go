package steps

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state/host"
)

// Options go with one Apply.
type Options struct {
	// Auto are the impacts that run without a name (approval.auto of the HCL).
	Auto []plan.Impact
	// Approved are the impacts and the ids of steps that were named: by the prompt, --auto-approve or a saved plan.
	Approved []string
	// Report is told every event, one at a time; nil: nobody is told.
	Report func(Event)
	// Parallel is how many steps run at once; default 4.
	Parallel int
	// LockTimeout is how long a step waits for a lock that another pgkeep holds; zero: not at all. A step that waits keeps
	// one of the Parallel places. One that meets a lock is tried again, without a wait, when nothing else is left to do.
	LockTimeout time.Duration
	// Now reads the clock; nil: time.Now.
	Now func() time.Time
	// Who is user@host for the journal; Version is pgkeep's.
	Who, Version string
	// Host is this machine, as `host` in the HCL means it: steps of another are skipped.
	Host string
}

// Allows tells whether a step runs without asking anybody again.
func (o Options) Allows(s *plan.Step) bool {
	return slices.Contains(o.Auto, s.Impact) || slices.Contains(o.Approved, string(s.Impact)) || slices.Contains(o.Approved, s.ID)
}

// Apply does what the plan says. The error is nil when every step is done, or was so already; else it is *Incomplete,
// and Result says which are not and why. When ctx ends, no further step begins and those that run are told to stop; what
// they left is found by the next look.
func Apply(ctx context.Context, p *plan.Plan, w World, o Options) (Result, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Parallel <= 0 {
		o.Parallel = 4
	}
	a := &applier{world: w, o: o, results: make([]StepResult, len(p.Steps)), behind: make([]bool, len(p.Steps)), index: map[string]int{}}
	for i := range p.Steps {
		a.index[p.Steps[i].ID] = i
	}
	began := o.Now()
	a.runAll(ctx, p)
	result := Result{Steps: a.results}
	result.Journal = a.journal(ctx, p, began, result)
	return result, result.err()
}

// applier is one run of Apply. results[i] and behind[i] are written by the one goroutine that runs step i, before
// ended[id] is closed; others read them only after that.
type applier struct {
	world   World
	o       Options
	results []StepResult
	behind  []bool // only another pgkeep's lock kept the step from running
	again   bool   // a round after the first
	index   map[string]int
	ended   map[string]chan struct{} // of the steps of this round
	telling sync.Mutex
}

// runLanes runs those steps of the plan that round names, by index in its order. It gives each server, and each repository
// that steps touch without a server, a lane of its own. A lane runs its steps in the plan's order, and After names only
// earlier ones: so waiting for them cannot end in a circle.
func (a *applier) runLanes(ctx context.Context, p *plan.Plan, round []int) {
	lanes := map[string][]int{}
	a.ended = map[string]chan struct{}{}
	for _, i := range round {
		a.ended[p.Steps[i].ID] = make(chan struct{})
		key := lane(p.Steps[i].Action)
		lanes[key] = append(lanes[key], i)
	}
	slots := make(chan struct{}, a.o.Parallel)
	var all sync.WaitGroup
	for _, steps := range lanes {
		all.Go(func() {
			for _, i := range steps {
				a.runInTurn(ctx, &p.Steps[i], slots)
			}
		})
	}
	all.Wait()
}

func (a *applier) runInTurn(ctx context.Context, s *plan.Step, slots chan struct{}) {
	defer close(a.ended[s.ID])
	for _, before := range s.After {
		if ended, planned := a.ended[before]; planned && a.index[before] < a.index[s.ID] {
			<-ended
		}
	}
	slots <- struct{}{}
	defer func() { <-slots }()
	i := a.index[s.ID]
	a.results[i] = a.runOne(ctx, s, a.results[i])
	if a.behind[i] = a.isBehindLock(a.results[i]); !a.behind[i] {
		a.tellEnd(a.results[i])
	}
}

// runOne decides whether the step may begin, and runs it. earlier is how it ended in the round before; empty in the first.
func (a *applier) runOne(ctx context.Context, s *plan.Step, earlier StepResult) StepResult {
	r := StepResult{Step: s, Began: a.o.Now()}
	met := earlier.Outcome == OutcomeLocked // it began already
	if met {
		r.Began = earlier.Began
	}
	switch {
	case ctx.Err() != nil:
		r.Outcome, r.Note = OutcomeCanceled, "not begun: interrupted"
	case !host.IsHere(s.Host, a.o.Host):
		r.Outcome, r.Note = OutcomeOtherHost, fmt.Sprintf("blocked: run on %s", s.Host)
	case a.unsettled(s) != "":
		r.Outcome, r.Note = OutcomeSkipped, a.unsettled(s)
	case !a.o.Allows(s):
		r.Outcome, r.Note = OutcomeNotApproved, fmt.Sprintf("%s: waits for approval by name", s.Impact)
	default:
		if !met {
			a.tell(Event{Kind: Started, Step: s, At: r.Began})
		}
		r.Outcome, r.Note, r.Err = a.carryOut(ctx, s)
	}
	r.Elapsed = a.o.Now().Sub(r.Began)
	if r.Outcome == OutcomeLocked && !a.again && len(a.results) > 1 {
		a.tell(Event{Kind: Held, Step: s, At: r.Began.Add(r.Elapsed), Note: "is tried again when the rest is done: " + r.Note})
	}
	return r
}

// tellEnd tells the one event that ends a step.
func (a *applier) tellEnd(r StepResult) {
	a.tell(Event{Kind: r.Outcome.kind(), Step: r.Step, Outcome: r.Outcome, At: r.Began.Add(r.Elapsed), Elapsed: r.Elapsed, Note: r.Note, Err: r.Err})
}

// unsettled says which step before this one is not done; empty: all are.
func (a *applier) unsettled(s *plan.Step) string {
	for _, before := range s.After {
		i, planned := a.index[before]
		if !planned || i >= a.index[s.ID] || a.results[i].Outcome.settled() {
			continue
		}
		return fmt.Sprintf("comes after %s, which is %s", before, a.results[i].Outcome)
	}
	return ""
}

func (a *applier) tell(e Event) {
	if a.o.Report == nil {
		return
	}
	a.telling.Lock()
	defer a.telling.Unlock()
	a.o.Report(e)
}
