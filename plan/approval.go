package plan

import (
	"fmt"
	"slices"
)

// Approval says which steps of a plan run and which wait for somebody to name them.
type Approval struct {
	Run  []Step
	Wait []Waiting
}

// Waiting is a step that does not run, and why.
type Waiting struct {
	Step   Step
	Why    string // "destructive steps wait for a name", or "it comes after server.orders/slot, which waits"
	Itself bool   // it waits for a name of its own, not only for another step
}

// Approve divides the plan's steps. A step runs when its impact is in auto, or its impact or id is among named; all else
// waits, and so does whatever comes after a step that waits. A nil auto means what the configuration says, in Plan.Auto;
// an empty one, nothing.
func (p *Plan) Approve(auto []Impact, named []string) Approval {
	if auto == nil {
		auto = p.Auto
	}
	if auto == nil {
		auto = []Impact{Safe, Declared}
	}
	var out Approval
	waits := map[string]bool{}
	for _, s := range p.Steps {
		why := ""
		if !slices.Contains(auto, s.Impact) && !slices.Contains(named, string(s.Impact)) && !slices.Contains(named, s.ID) {
			why = fmt.Sprintf("%s steps wait for a name: --auto-approve=%s, or the prompt", s.Impact, s.Impact)
		}
		itself := why != ""
		for _, id := range s.After {
			if why == "" && waits[id] {
				why = "it comes after " + id + ", which waits"
			}
		}
		if why == "" {
			out.Run = append(out.Run, s)
			continue
		}
		waits[s.ID] = true
		out.Wait = append(out.Wait, Waiting{Step: s, Why: why, Itself: itself})
	}
	return out
}

// Count gives how many steps add, change and destroy, for the summary line. Steps that change nothing are not counted.
func (p *Plan) Count() (add, change, destroy int) {
	for _, s := range p.Steps {
		switch s.Change {
		case Add:
			add++
		case Modify:
			change++
		case Destroy:
			destroy++
		case NoChange:
		}
	}
	return add, change, destroy
}

// hindered tells whether something that the configuration asks for now could not be planned: then nothing matches.
func (p *Plan) hindered() bool {
	for _, n := range p.NotDone {
		if n.Why.Code != notYet && n.Why.Code != stillRunning && n.Why.Code != stillOfUse {
			return true
		}
	}
	return false
}

// Unmet tells whether something that the configuration asks of this machine now cannot be planned: what could not be
// looked at, or is refused. What only another machine can do, and what only waits, is not unmet.
func (p *Plan) Unmet() bool {
	for _, n := range p.NotDone {
		if n.Host == "" && n.Why.Code != notYet && n.Why.Code != stillRunning && n.Why.Code != stillOfUse {
			return true
		}
	}
	return false
}

// The codes of reasons for which waiting is all that is needed.
const (
	notYet       = "schedule-not-now"
	stillRunning = "backup-running"
	stillOfUse   = "continuable"
)

// Stuck tells whether nothing can be planned although something is asked for: what hinders it is under NotDone.
func (p *Plan) Stuck() bool { return len(p.Steps) == 0 && p.hindered() }

// Summary gives the line that CI tools parse, in the words that they know. That nothing is to be done is said only when
// everything could be looked at and nothing was left out.
func (p *Plan) Summary() string {
	if len(p.Steps)+len(p.LeftOut) == 0 && !p.hindered() {
		return "No changes. Your infrastructure matches the configuration."
	}
	add, change, destroy := p.Count()
	return fmt.Sprintf("Plan: %d to add, %d to change, %d to destroy.", add, change, destroy)
}
