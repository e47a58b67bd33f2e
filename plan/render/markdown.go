package render

import (
	"fmt"
	"io"
	"strings"

	"github.com/pgkeep/pgkeep/plan"
)

// MarkdownLimit is the size in bytes below which pull-request comments are taken by the forges that are known.
const MarkdownLimit = 65_000

// Markdown writes the plan for a pull request: the summary, a table of the steps, what needs approval with the review
// digest, each step folded with its reasons, what is not planned, warnings, and what can be recovered.
//
// It never writes more than limit bytes; 0 means MarkdownLimit. What must go for that is counted where it would stand: first
// particulars of steps that run by themselves, then of those that need approval, then rows of the table.
func Markdown(w io.Writer, p *plan.Plan, limit int) error {
	if limit == 0 {
		limit = MarkdownLimit
	}
	_, err := io.WriteString(w, markdown(p, max(limit, minMarkdown)))
	return err
}

// minMarkdown is the least limit that is obeyed: the summary and the counts of what was left out fit into it.
const minMarkdown = 2_000

func markdown(p *plan.Plan, limit int) string {
	head := "### pgkeep plan\n\n**" + p.Summary() + "**\n"
	if p.Stuck() {
		head += "\nNothing can be planned until what stands under “Not planned” is mended.\n"
	}
	review := approvals(p)
	if len(head)+len(review) > limit/2 {
		review = reviewShort(p)
	}
	room := budget{left: limit - len(head) - len(review) - 600} // for headings and counts
	table := room.rows(p.Steps)
	if p.Drift != nil {
		return head + room.list("What changed without pgkeep", drifted(p.Drift))
	}
	pieces := make([]string, len(p.Steps))
	waits := waitingSteps(p)
	room.particulars(pieces, p.Steps, waits, true)
	after := room.list("Done already", already(p)) + room.list("Left out by the command line", leftOut(p)) + room.list("Errors and warnings", findings(p)) +
		room.list("Not planned", unplanned(p)) + room.list("What can be restored", restorable(p))
	room.particulars(pieces, p.Steps, waits, false)
	return head + table + review + joined(pieces) + after
}

func waitingSteps(p *plan.Plan) map[string]bool {
	waits := map[string]bool{}
	for _, w := range p.Approve(nil, nil).Wait {
		waits[w.Step.ID] = true
	}
	return waits
}

// budget is how many bytes may still be written.
type budget struct{ left int }

// take tells whether a piece still fits, and counts it.
func (b *budget) take(piece string) bool {
	if len(piece) > b.left {
		return false
	}
	b.left -= len(piece)
	return true
}

// rows draws the table of the steps, with at most half of the room.
func (b *budget) rows(steps []plan.Step) string {
	if len(steps) == 0 {
		return ""
	}
	half := budget{left: b.left / 2}
	var out strings.Builder
	out.WriteString("\n| | action | step | impact |\n|---|---|---|---|\n")
	cut := 0
	for i := range steps {
		s := &steps[i]
		mark, _ := sign(s.Change)
		row := fmt.Sprintf("| `%s` | %s | %s | %s |\n", mark, plan.Verb(s.Action), code(s.ID), s.Impact)
		if cut > 0 || !half.take(row) {
			cut++
			continue
		}
		out.WriteString(row)
	}
	if cut > 0 {
		fmt.Fprintf(&out, "\n_%d of %d steps are left out of this table._\n", cut, len(steps))
	}
	b.left -= out.Len()
	return out.String()
}

// approvals names what waits, and gives the digest that approves it.
func approvals(p *plan.Plan) string {
	waits := p.Approve(nil, nil).Wait
	if len(waits) == 0 {
		return ""
	}
	var out strings.Builder
	out.WriteString("\n#### Needs approval\n\n")
	for _, w := range waits {
		fmt.Fprintf(&out, "- %s waits: %s\n", code(w.Step.ID), prose(w.Why))
	}
	return out.String() + digest(p)
}

// reviewShort counts what waits.
func reviewShort(p *plan.Plan) string {
	return fmt.Sprintf("\n#### Needs approval\n\n%d steps wait for a name.\n", len(p.Approve(nil, nil).Wait)) + digest(p)
}

func digest(p *plan.Plan) string {
	d := p.Review().String()
	if d == "" {
		return ""
	}
	return "\nreview digest, for `pgkeep apply --approve=…`:\n\n```\n" + d + "\n```\n"
}

// particulars draws the steps that wait, or those that do not, as far as there is room.
func (b *budget) particulars(pieces []string, steps []plan.Step, waits map[string]bool, wait bool) {
	for i := range steps {
		if waits[steps[i].ID] != wait {
			continue
		}
		if piece := folded(&steps[i]); b.take(piece) {
			pieces[i] = piece
		}
	}
}

// joined puts the particulars together in the plan's order, and counts those for which there was no room.
func joined(pieces []string) string {
	cut := 0
	for _, piece := range pieces {
		if piece == "" {
			cut++
		}
	}
	out := strings.Join(pieces, "")
	if cut > 0 {
		out += fmt.Sprintf("\n_The particulars of %d of %d steps are left out; `pgkeep show` has them all._\n", cut, len(pieces))
	}
	return out
}

// folded draws one step as a part that the reader opens.
func folded(s *plan.Step) string {
	var out strings.Builder
	mark, _ := sign(s.Change)
	on := ""
	if s.Host != "" {
		on = " on " + prose(s.Host)
	}
	fmt.Fprintf(&out, "\n<details><summary><code>%s</code> %s <code>%s</code> (%s)%s</summary>\n\n", mark, plan.Verb(s.Action), html(s.ID), s.Impact, on)
	for _, d := range details(s.Action) {
		fmt.Fprintf(&out, "- %s: %s\n", d.name, prose(d.value))
	}
	for _, r := range s.Because {
		fmt.Fprintf(&out, "- why: %s\n", prose(r.Text+at(r.Range)))
	}
	if s.Effect != "" {
		fmt.Fprintf(&out, "- effect: %s\n", prose(s.Effect))
	}
	for _, p := range proofs(s) {
		fmt.Fprintf(&out, "- proof: %s\n", prose(p))
	}
	for _, text := range s.Loses.Sentences() {
		fmt.Fprintf(&out, "- loses: %s\n", prose(text))
	}
	for _, text := range s.KeptSentences() {
		fmt.Fprintf(&out, "- keeps: %s\n", prose(text))
	}
	for _, c := range s.Requires {
		fmt.Fprintf(&out, "- requires: %s\n", prose(c.Text))
	}
	if len(s.After) > 0 {
		fmt.Fprintf(&out, "- after: %s\n", prose(strings.Join(s.After, ", ")))
	}
	out.WriteString("\n</details>\n")
	return out.String()
}

// list draws a heading and as many of its lines as fit.
func (b *budget) list(title string, lines []string) string {
	if len(lines) == 0 {
		return ""
	}
	var out strings.Builder
	out.WriteString("\n#### " + title + "\n\n")
	cut := 0
	for _, line := range lines {
		if cut > 0 || !b.take("- "+line+"\n") {
			cut++
			continue
		}
		out.WriteString("- " + line + "\n")
	}
	if cut > 0 {
		fmt.Fprintf(&out, "- _and %d more_\n", cut)
	}
	return out.String()
}

func findings(p *plan.Plan) []string {
	said := make(map[string]bool, len(p.NotDone))
	for _, n := range p.NotDone {
		said[n.Why.Text] = true
	}
	var out []string
	for _, severity := range []plan.Severity{plan.Error, plan.Warning} {
		for _, f := range p.Findings {
			if f.Severity == severity && !said[f.Text] {
				out = append(out, fmt.Sprintf("%s: %s %s: %s%s", severity, f.Code, code(f.Subject), prose(f.Text+at(f.Range)), hint(f.Hint)))
			}
		}
	}
	return out
}

func unplanned(p *plan.Plan) []string {
	var out []string
	for _, n := range p.NotDone {
		h := n.Hint
		if h == "" && n.Host != "" {
			h = "run on " + n.Host
		}
		out = append(out, prose(n.What)+": "+prose(n.Why.Text+at(n.Why.Range))+hint(h))
	}
	return out
}

func already(p *plan.Plan) []string {
	var out []string
	for _, a := range p.Already {
		out = append(out, prose(a.What)+": "+prose(a.Text)+hint(a.Hint))
	}
	return out
}

func leftOut(p *plan.Plan) []string {
	var out []string
	for _, l := range p.LeftOut {
		out = append(out, l.Verb+" "+code(l.ID)+": "+prose(l.Why))
	}
	return out
}

func drifted(d *plan.Drift) []string {
	var out []string
	for _, s := range d.Sentences() {
		out = append(out, prose(strings.TrimSpace(s)))
	}
	return out
}

func hint(s string) string {
	if s == "" {
		return ""
	}
	return " → " + prose(s)
}

func restorable(p *plan.Plan) []string {
	repositories := map[string]int{}
	for _, w := range p.Windows {
		if w.SystemID == "" {
			repositories[w.Server]++
		}
	}
	var out []string
	for _, w := range p.Windows {
		for _, s := range WindowSentences(w, repositories[w.Server] > 1) {
			out = append(out, prose(s))
		}
	}
	for _, o := range p.Objectives {
		for _, s := range o.Sentences() {
			out = append(out, prose(s))
		}
	}
	return out
}
