package plan

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
)

// Difference is one decision of a plan that would now be taken otherwise.
type Difference struct {
	Step string // id
	Text string // what changed and what it means, as a sentence
}

// StillValid plans again with the plan's own clock and options and tells whether the same decisions come out. Positions
// in WAL, sizes and texts may have moved on; what is done, where and to which backups may not.
func (p *Plan) StillValid(spec *hclspec.Spec, seen state.Observation) (bool, []Difference) {
	again, diags := Build(spec, seen, p.Now, p.Options)
	var out []Difference
	if diags.HasErrors() {
		out = append(out, Difference{Text: "what was asked for cannot be planned any more: " + diags.Error()})
	}
	had := byID(p)
	has := byID(again)
	for _, s := range p.Steps {
		now, ok := has[s.ID]
		switch {
		case !ok:
			out = append(out, Difference{s.ID, s.ID + " is not planned any more: " + again.whyNot(s)})
		case decision(s) != decision(now):
			out = append(out, Difference{s.ID, fmt.Sprintf("%s would now be %s instead of %s", s.ID, decision(now), decision(s))})
		case !slices.Equal(s.After, now.After):
			out = append(out, Difference{s.ID, s.ID + " would now run in another order"})
		}
	}
	for _, s := range again.Steps {
		if _, ok := had[s.ID]; !ok {
			text := s.ID + " is planned now and was not"
			if len(s.Because) > 0 {
				text += ": " + s.Because[0].Text
			}
			out = append(out, Difference{s.ID, text})
		}
	}
	return len(out) == 0, out
}

func byID(p *Plan) map[string]Step {
	out := make(map[string]Step, len(p.Steps))
	for _, s := range p.Steps {
		out[s.ID] = s
	}
	return out
}

// whyNot looks for the reason that a step of an older plan is gone.
func (p *Plan) whyNot(s Step) string {
	_, subject, _ := strings.Cut(s.ID, ".")
	subject, _, _ = strings.Cut(subject, "/")
	for _, n := range p.NotDone {
		if strings.Contains(n.What, subject) {
			return n.Why.Text
		}
	}
	return "the world is already so, or no longer asks for it"
}

// decision writes what makes a step the same step: its action without positions and sizes, its impact and its place.
func decision(s Step) string {
	action := s.Action
	switch a := action.(type) {
	case RecordGap:
		a.Range.From, a.Range.To, a.Reason = 0, 0, ""
		action = a
	case Prune:
		a.Clock = time.Time{}
		action = a
	case PruneWAL:
		a.Clock = time.Time{}
		action = a
	case TakeBackup:
		a.Known = nil
		action = a
	case RecoverTo:
		a.Route.Path, a.Route.End, a.Route.WALBytes, a.Route.DataBytes = nil, 0, 0, 0
		if a.Route.Target.Latest {
			a.Route.Before, a.Route.After = nil, nil
		}
		action = a
	}
	text, err := json.Marshal(action)
	if err != nil {
		text = []byte(fmt.Sprintf("%+v", action))
	}
	out := Verb(s.Action) + " " + string(text) + ", " + string(s.Impact)
	if s.Host != "" {
		out += " on " + s.Host
	}
	return out
}
