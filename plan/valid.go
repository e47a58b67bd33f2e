package plan

import (
	"fmt"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
)

// Difference is one decision of a plan that would now be taken otherwise.
type Difference struct {
	Step string `json:"step,omitempty"` // id; empty: it concerns the whole plan
	Was  string `json:"was"`            // the fact that the plan was made of
	Is   string `json:"is"`             // the fact now
	Text string `json:"text"`           // what differs and what it means, as one sentence with both facts
}

// StillValid plans again with the plan's own clock and options and tells whether the same decisions come out. Positions
// in WAL, sizes and texts may have moved on; what is done, where, in which order, to which backups and on which
// conditions may not.
func (p *Plan) StillValid(spec *hclspec.Spec, seen state.Observation) (bool, []Difference) {
	again, diags := Build(spec, seen, p.Now, p.Options)
	var out []Difference
	for _, d := range diags {
		if d.Severity == hcl.DiagError {
			out = append(out, Difference{Is: d.Summary, Text: "what was asked for cannot be planned any more: " + d.Summary + ": " + d.Detail})
		}
	}
	had, has := byID(p), byID(again)
	out = append(out, widened(p, has)...)
	for _, c := range Compare(p, again) {
		if c.Decides() {
			out = append(out, again.difference(c, had[c.Step], has[c.Step], seen))
		}
	}
	return len(out) == 0, out
}

// widened tells which gaps of an older plan are not within those that would be recorded now. A gap may have grown since, as
// the server removes WAL; nothing else may be written down as lost.
func widened(was *Plan, has map[string]*Step) []Difference {
	var out []Difference
	for i := range was.Steps {
		s := &was.Steps[i]
		gap, ok := s.Action.(RecordGap)
		if !ok || has[s.ID] == nil {
			continue
		}
		now, ok := has[s.ID].Action.(RecordGap)
		if !ok || now.Range.Timeline == gap.Range.Timeline && now.Range.From <= gap.Range.From && gap.Range.To <= now.Range.To {
			continue
		}
		out = append(out, Difference{
			Step: s.ID, Was: "gap " + gap.Range.String(), Is: "gap " + now.Range.String(),
			Text: fmt.Sprintf("%s %s would be done otherwise: WAL of %s was taken to be lost, and now it is %s", Verb(gap), s.ID, gap.Range, now.Range),
		})
	}
	return out
}

// difference words a change between an older plan and p, which was made just now of seen. was or is is nil when only one
// plan has the step.
func (p *Plan) difference(c StepChange, was, is *Step, seen state.Observation) Difference {
	d := Difference{Step: c.Step}
	name := c.Action + " " + c.Step
	switch {
	case is == nil:
		d.Was, d.Is = firstReason(was), p.whyGone(was, seen)
		d.Text = fmt.Sprintf("%s is not to be done any more. Then: %s. Now: %s", name, d.Was, d.Is)
	case was == nil:
		d.Was, d.Is = "it was not planned", firstReason(is)
		d.Text = fmt.Sprintf("%s was not planned and would be done now: %s", name, d.Is)
	default:
		var words []string
		for _, f := range c.Facts {
			if !f.Decides {
				continue
			}
			d.Was, d.Is = join(d.Was, f.Name+" "+orNothing(f.Was)), join(d.Is, f.Name+" "+orNothing(f.Is))
			words = append(words, fmt.Sprintf("%s would now be %s, and was %s", f.Name, orNothing(f.Is), orNothing(f.Was)))
		}
		d.Text = fmt.Sprintf("%s would be done otherwise: %s", name, strings.Join(words, "; "))
		if now := backupsNow(was, is, seen); now != "" {
			d.Text += " (" + now + ")"
		}
	}
	return d
}

func join(list, item string) string {
	if list == "" {
		return item
	}
	return list + "; " + item
}

func orNothing(s string) string {
	if s == "" {
		return "nothing"
	}
	return s
}

func firstReason(s *Step) string {
	if len(s.Because) == 0 {
		return "no reason"
	}
	return s.Because[0].Text
}

// whyGone says what is so now that a step of an older plan is no longer asked for: that its repository is not seen, why
// nothing is planned for its owner, or how the world is already.
func (p *Plan) whyGone(s *Step, seen state.Observation) string {
	for _, label := range repositoriesOf(s.Action) {
		if r, ok := seen.Repositories[label]; ok && r.Unknown != nil {
			return r.Unknown.Because
		}
	}
	owner, _, _ := strings.Cut(s.ID, "/")
	for _, a := range p.Already {
		if a.Owner == owner {
			return "it is done already: " + a.Text
		}
	}
	for _, n := range p.NotDone {
		if n.Owner == owner {
			return n.Why.Text
		}
	}
	if text := observed(s.Action, seen); text != "" {
		return text
	}
	return "the world is so already, or no longer asks for it"
}

func repositoriesOf(a Action) []string {
	switch a := a.(type) {
	case CreateRepository:
		return []string{a.Repository}
	case RemoveIncomplete:
		return []string{a.Repository}
	case Prune:
		return []string{a.Repository}
	case PruneWAL:
		return []string{a.Repository}
	case CopyBackup:
		return []string{a.Repository, a.From}
	case CopyWAL:
		return []string{a.Repository, a.From}
	case ExtendLock:
		return []string{a.Repository}
	case Repair:
		return append([]string{a.Repository}, a.From...)
	}
	return nil
}
