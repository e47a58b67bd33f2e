package agent

import (
	"context"
	"slices"
	"time"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/steps"
)

// A turn has two parts. What is quick (repositories, slots, receivers, gaps, timelines) is done before the loop goes on.
// What can take hours (backups, and deleting) runs beside the loop, one piece of work for each server, so that a backup
// of one server never keeps the receiver of another, or its own, from being started again.

// isQuick tells whether a step belongs to the first part.
func isQuick(s *plan.Step) bool {
	switch s.Action.(type) {
	case plan.TakeBackup, plan.Prune, plan.PruneWAL, plan.RemoveIncomplete, plan.RecoverTo, plan.Verify, plan.CopyBackup, plan.CopyWAL, plan.Repair, plan.ExtendLock, plan.Drill:
		return false
	}
	return true
}

// slowServer gives the piece of work that a slow step belongs to: its server's, or the reading of what is kept of it.
func slowServer(s *plan.Step) string {
	switch act := s.Action.(type) {
	case plan.TakeBackup:
		return act.Server
	case plan.Prune:
		return act.Server
	case plan.PruneWAL:
		return act.Server
	case plan.RemoveIncomplete:
		return act.Server
	case plan.RecoverTo:
		return act.Route.Server
	case plan.Verify:
		return "verify " + act.Server // beside its other work: a backup that is due does not wait for hours
	case plan.Drill:
		return "drill " + act.Route.Destination.Path // one copy at a time in a scratch directory, beside all other work
	case plan.Repair:
		return act.Server
	case plan.ExtendLock:
		return act.Server
	case plan.CopyBackup:
		return "copy " + act.Server + " " + act.Repository // likewise
	case plan.CopyWAL:
		return "copy " + act.Server + " " + act.Repository
	}
	return ""
}

// key gives the name under which a step's failures are counted. Starts of a receiver and its early ends are one.
func key(s *plan.Step) string {
	if start, ok := s.Action.(plan.StartReceiver); ok {
		return "receiver " + start.Server
	}
	return s.ID
}

// ready gives the ids of the steps of one part that may be tried now: approved, not held back, and not after a step of
// the same part that is not ready.
func (a *agent) ready(p *plan.Plan, part func(*plan.Step) bool, now time.Time) map[string]bool {
	auto := impacts(a.spec)
	ready, left := map[string]bool{}, map[string]bool{}
	for i := range p.Steps {
		s := &p.Steps[i]
		if !part(s) {
			continue
		}
		behind := slices.ContainsFunc(s.After, func(id string) bool { return left[id] })
		if behind || a.tries.waiting(key(s), now) || !slices.Contains(auto, s.Impact) {
			left[s.ID] = true
			continue
		}
		ready[s.ID] = true
	}
	return ready
}

// sub gives the plan with only these steps.
func sub(p *plan.Plan, ids map[string]bool) *plan.Plan {
	out := *p
	out.Steps = slices.DeleteFunc(slices.Clone(p.Steps), func(s plan.Step) bool { return !ids[s.ID] })
	return &out
}

// applyQuick does the first part and gives the steps that are settled.
func (a *agent) applyQuick(ctx context.Context, p *plan.Plan, ids map[string]bool) map[string]bool {
	settled := map[string]bool{}
	if len(ids) == 0 {
		return settled
	}
	ctx, stop := context.WithTimeout(ctx, quickLimit)
	defer stop()
	result, _ := a.world.Apply(ctx, a.spec, sub(p, ids), a.report) // the result says it all, and is noted below
	a.note(result)
	for _, s := range result.Steps {
		settled[s.Step.ID] = s.Outcome == steps.OutcomeDone || s.Outcome == steps.OutcomeAlready
	}
	return settled
}

// slowWork gives, for each server that is not being worked on, the steps of the second part that may begin: nothing of
// the first part, and of another piece of work, that they come after is left.
func (a *agent) slowWork(p *plan.Plan, settled map[string]bool, now time.Time) map[string]map[string]bool {
	ready := a.ready(p, func(s *plan.Step) bool { return !isQuick(s) }, now)
	work := map[string]map[string]bool{}
	begins := map[string]string{} // the piece of work of each step that begins
	for i := range p.Steps {
		s := &p.Steps[i]
		server := slowServer(s)
		if !ready[s.ID] || a.busy[server] {
			continue
		}
		ok := true
		for _, before := range s.After {
			if planned := slices.ContainsFunc(p.Steps, func(x plan.Step) bool { return x.ID == before }); planned {
				ok = ok && (settled[before] || begins[before] == server)
			}
		}
		if !ok {
			continue
		}
		begins[s.ID] = server
		if work[server] == nil {
			work[server] = map[string]bool{}
		}
		work[server][s.ID] = true
	}
	return work
}

// applySlow does one server's slow work beside the loop.
func (a *agent) applySlow(ctx context.Context, server string, p *plan.Plan) {
	a.busy[server] = true
	spec := a.spec
	a.slow.Go(func() {
		result, _ := a.world.Apply(ctx, spec, p, a.report) // as above
		select {
		case a.ended <- finished{server: server, result: result}:
		case <-ctx.Done():
		}
	})
}

// note counts failures, so that the next turn holds them back for a while.
func (a *agent) note(r steps.Result) {
	now := time.Now()
	if r.Journal != nil {
		a.o.Log.Warn("the journal could not be written", "error", r.Journal)
	}
	for _, s := range r.Steps {
		start, isStart := s.Step.Action.(plan.StartReceiver)
		switch s.Outcome {
		case steps.OutcomeFailed, steps.OutcomeLocked, steps.OutcomeStale:
			a.tries.failed(key(s.Step), now)
		case steps.OutcomeDone, steps.OutcomeAlready:
			if isStart { // only a receiver that runs on for a while has worked
				a.started[start.Server] = now
				continue
			}
			a.tries.worked(key(s.Step), now)
		case steps.OutcomeSkipped, steps.OutcomeOtherHost, steps.OutcomeNotApproved, steps.OutcomeCanceled:
		}
	}
}
