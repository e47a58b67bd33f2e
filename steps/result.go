package steps

import (
	"fmt"
	"time"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
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

// Exit gives the exit code of the whole: 0 everything is done · 130 interrupted · 1 a single step that failed was all
// there was · 4 nothing ran and the world is not what the plan saw · 5 incomplete · 6 another pgkeep is at it · 7 what
// is left waits for approval · 8 the backup that was taken is damaged, or a recovery missed its target.
func (r Result) Exit() int {
	n := r.Counts()
	switch ran := n[OutcomeDone] + n[OutcomeFailed]; {
	case n[OutcomeCanceled] > 0:
		return 130
	case n[OutcomeFailed] > 0 && n[OutcomeFailed] == r.damagedBackups()+r.missedTargets():
		return 8
	case n[OutcomeFailed] > 0 && len(r.Steps) == 1:
		return 1
	case n[OutcomeFailed] > 0:
		return 5
	case n[OutcomeStale] > 0 && ran == 0:
		return 4
	case n[OutcomeStale] > 0:
		return 5
	case n[OutcomeLocked] > 0:
		return 6
	case n[OutcomeNotApproved] > 0:
		return 7
	case n[OutcomeOtherHost]+n[OutcomeSkipped] > 0:
		return 5
	}
	return 0
}

// Counts gives the number of steps by outcome.
func (r Result) Counts() map[Outcome]int {
	counts := map[Outcome]int{}
	for _, s := range r.Steps {
		counts[s.Outcome]++
	}
	return counts
}

func (r Result) damagedBackups() int {
	n := 0
	for _, s := range r.Steps {
		if _, backup := s.Step.Action.(plan.TakeBackup); backup && s.Outcome == OutcomeFailed && state.CodeOf(s.Err) == state.CodeCorrupt {
			n++
		}
	}
	return n
}

func (r Result) missedTargets() int {
	n := 0
	for _, s := range r.Steps {
		if code := state.CodeOf(s.Err); s.Outcome == OutcomeFailed && (code == state.CodeMissed || code == state.CodeDrill || code == state.CodeCheck) {
			n++
		}
	}
	return n
}

// Incomplete is the error of an Apply that left steps undone; Result says which and why.
type Incomplete struct {
	Undone, Total int
	First         error // of the first step that failed; nil: none failed
}

// Error says how many steps are not done.
func (e *Incomplete) Error() string {
	text := fmt.Sprintf("%d of %d steps are not done", e.Undone, e.Total)
	if e.First != nil {
		text += "; the first failure: " + e.First.Error()
	}
	return text
}

// Unwrap gives the first failure.
func (e *Incomplete) Unwrap() error { return e.First }

func (r Result) err() error {
	e := &Incomplete{Total: len(r.Steps)}
	for _, s := range r.Steps {
		if s.Outcome.settled() {
			continue
		}
		e.Undone++
		if e.First == nil {
			e.First = s.Err
		}
	}
	if e.Undone == 0 {
		return nil
	}
	return e
}
