package steps

import (
	"context"

	"github.com/pgkeep/pgkeep/plan"
)

// runAll runs the plan's steps, and then those that met a lock, with what comes after them, again: until all have run or
// a whole round gained nothing. In such a last round this apply holds no lock. So of applies that keep each other from
// different steps the one that comes last to its last round finds every lock free, and is not kept from anything.
func (a *applier) runAll(ctx context.Context, p *plan.Plan) {
	round := make([]int, len(p.Steps))
	for i := range round {
		round[i] = i
	}
	a.runLanes(ctx, p, round)
	for left := a.behindLocks(); len(left) > 0 && ctx.Err() == nil; {
		a.again = true
		a.runLanes(ctx, p, left)
		before := len(left)
		if left = a.behindLocks(); len(left) == before {
			break
		}
	}
	for _, i := range a.behindLocks() {
		a.tellEnd(a.results[i])
	}
}

// behindLocks gives the steps that met a lock, and those that only such a step kept from running, in the plan's order.
func (a *applier) behindLocks() []int {
	var out []int
	for i, is := range a.behind {
		if is {
			out = append(out, i)
		}
	}
	return out
}

// isBehindLock tells whether nothing but another pgkeep's lock kept a step from running.
func (a *applier) isBehindLock(r StepResult) bool {
	if r.Outcome != OutcomeSkipped {
		return r.Outcome == OutcomeLocked
	}
	for _, before := range r.Step.After {
		i, planned := a.index[before]
		if planned && i < a.index[r.Step.ID] && !a.results[i].Outcome.settled() && !a.behind[i] {
			return false
		}
	}
	return true
}
