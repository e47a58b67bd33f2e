package plan

// The kinds of StepChange.
const (
	StepAdded   = "added"
	StepRemoved = "removed"
	StepChanged = "changed"
)

// StepChange is a step in which two plans differ.
type StepChange struct {
	Step   string       `json:"step"`
	Action string       `json:"action"` // of the newer plan, unless the step is gone from it
	Kind   string       `json:"kind"`   // added | removed | changed
	Facts  []FactChange `json:"facts,omitempty"`
}

// FactChange is one particular of a step as it was and as it is; an empty side had none.
type FactChange struct {
	Name string `json:"name"`
	Was  string `json:"was"`
	Is   string `json:"is"`
	// Decides says that the step does something else now. Without it only what is said of the step changed.
	Decides bool `json:"decides"`
}

// Decides tells whether another thing would be done: the step is there in one plan only, or acts otherwise.
func (c StepChange) Decides() bool {
	if c.Kind != StepChanged {
		return true
	}
	for _, f := range c.Facts {
		if f.Decides {
			return true
		}
	}
	return false
}

// Compare tells in which steps two plans differ, in the order of the older plan, then what only the newer one has.
func Compare(was, is *Plan) []StepChange {
	var out []StepChange
	had, has := byID(was), byID(is)
	for i := range was.Steps {
		s := &was.Steps[i]
		now, ok := has[s.ID]
		if !ok {
			out = append(out, StepChange{Step: s.ID, Action: Verb(s.Action), Kind: StepRemoved, Facts: aside(explains(s), true)})
			continue
		}
		facts := append(changed(decides(s), decides(now), true), changed(explains(s), explains(now), false)...)
		if len(facts) > 0 {
			out = append(out, StepChange{Step: s.ID, Action: Verb(now.Action), Kind: StepChanged, Facts: facts})
		}
	}
	for i := range is.Steps {
		s := &is.Steps[i]
		if had[s.ID] == nil {
			out = append(out, StepChange{Step: s.ID, Action: Verb(s.Action), Kind: StepAdded, Facts: aside(explains(s), false)})
		}
	}
	return out
}

func byID(p *Plan) map[string]*Step {
	out := make(map[string]*Step, len(p.Steps))
	for i := range p.Steps {
		out[p.Steps[i].ID] = &p.Steps[i]
	}
	return out
}

// aside gives facts of which only one side exists.
func aside(facts []fact, was bool) []FactChange {
	out := make([]FactChange, 0, len(facts))
	for _, f := range facts {
		c := FactChange{Name: f.name, Is: f.value}
		if was {
			c.Was, c.Is = f.value, ""
		}
		out = append(out, c)
	}
	return out
}

// changed gives the facts that differ, in the order of the older ones, then what only the newer ones have.
func changed(was, is []fact, decides bool) []FactChange {
	var out []FactChange
	has := make(map[string]string, len(is))
	for _, f := range is {
		has[f.name] = f.value
	}
	for _, f := range was {
		if has[f.name] != f.value {
			out = append(out, FactChange{f.name, f.value, has[f.name], decides})
		}
		delete(has, f.name)
	}
	for _, f := range is {
		if _, left := has[f.name]; left {
			out = append(out, FactChange{f.name, "", f.value, decides})
		}
	}
	return out
}
