package render

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/pgkeep/pgkeep/plan"
)

// TextOptions say how a plan is drawn.
type TextOptions struct {
	Width int            // columns; 0: 100, never less than 40
	Color bool           // ANSI colours; off unless asked
	Zone  *time.Location // shown beside UTC for what the clock brings; nil: only UTC
	// Approved leaves out which steps wait for a name: all were named.
	Approved bool
	// Review adds the review digest, where something waits that it can approve.
	Review bool
	// Diagnosed says that the plan's Diagnostics stand above it: they are referred to, and nothing is told twice.
	Diagnosed bool
}

// Text writes the plan as an operator reads it: the summary table, each step with why, effect and requires, what is not
// planned, findings, what the clock brings next, and what can be recovered now.
func Text(w io.Writer, p *plan.Plan, o TextOptions) error {
	t := &text{o: o}
	if t.o.Width == 0 {
		t.o.Width = 100
	}
	t.o.Width = max(t.o.Width, 40)
	if p.Drift != nil {
		t.drift(p.Drift)
		_, err := w.Write(t.out.Bytes())
		return err
	}
	if len(p.Steps) > 0 {
		t.table(p.Steps)
		for i := range p.Steps {
			t.step(&p.Steps[i])
		}
	}
	t.already(p.Already)
	t.leftOut(p.LeftOut)
	t.notDone(p)
	t.findings(p)
	t.due(p)
	t.windows(p.Windows)
	t.objectives(p.Objectives)
	t.blank()
	t.line(0, t.paint(bold, p.Summary()))
	if p.Stuck() {
		t.line(0, "Nothing can be planned until what stands under \"Not planned\" is mended.")
	}
	if len(p.Steps) > 0 && !o.Approved {
		t.waiting(p)
	}
	_, err := w.Write(t.out.Bytes())
	return err
}

// text gathers what is drawn.
type text struct {
	o   TextOptions
	out bytes.Buffer
}

// The colours, as ANSI parameters.
const (
	bold   = "1"
	red    = "31"
	green  = "32"
	yellow = "33"
	faint  = "2"
)

func (t *text) paint(color, s string) string {
	if !t.o.Color {
		return s
	}
	return "\x1b[" + color + "m" + s + "\x1b[0m"
}

// line writes one line as it is.
func (t *text) line(indent int, s string) {
	t.out.WriteString(strings.Repeat(" ", indent))
	t.out.WriteString(s)
	t.out.WriteByte('\n')
}

// blank sets what follows apart from what is there.
func (t *text) blank() {
	if t.out.Len() > 0 {
		t.line(0, "")
	}
}

// wrap writes label and words, folded at the width, later lines under the first word. Lines of the text itself stay.
func (t *text) wrap(indent int, label, words string) {
	first := strings.Repeat(" ", indent) + label
	rest := strings.Repeat(" ", visible(first))
	lead := first
	for _, line := range strings.Split(words, "\n") {
		room := max(t.o.Width-visible(lead), 20)
		for _, piece := range fold(line, room) {
			t.out.WriteString(strings.TrimRight(lead+piece, " "))
			t.out.WriteByte('\n')
			lead = rest
		}
	}
}

// fold cuts a line at spaces so that no piece is longer than width, where its words allow.
func fold(line string, width int) []string {
	var out []string
	for visible(line) > width {
		cut := -1
		n := 0
		for i, r := range line {
			if r == ' ' && n <= width && i > 0 {
				cut = i
			}
			if n > width && cut > 0 {
				break
			}
			n++
			if r == ' ' && cut < 0 {
				cut = i
			}
		}
		if cut <= 0 {
			break
		}
		out = append(out, line[:cut])
		line = strings.TrimLeft(line[cut:], " ")
	}
	return append(out, line)
}

// visible counts the characters that take room on a terminal.
func visible(s string) int {
	n, escape := 0, false
	for _, r := range s {
		switch {
		case r == '\x1b':
			escape = true
		case escape:
			escape = r != 'm'
		default:
			n++
		}
	}
	return n
}

// sign gives the mark of a change, and its colour.
func sign(c plan.Change) (mark, color string) {
	switch c {
	case plan.Add:
		return "+", green
	case plan.Modify:
		return "~", yellow
	case plan.Destroy:
		return "-", red
	case plan.NoChange:
	}
	return " ", faint
}

func (t *text) step(s *plan.Step) {
	t.line(0, "")
	mark, color := sign(s.Change)
	head := t.paint(color, mark) + " " + t.paint(bold, plan.Verb(s.Action)) + " " + s.ID
	if s.Impact != plan.Safe {
		head += t.paint(yellow, " ("+string(s.Impact)+")")
	}
	if s.Host != "" {
		head += " on " + s.Host
	}
	t.line(0, head)
	for _, d := range details(s.Action) {
		t.wrap(4, pad(d.name, 10), d.value)
	}
	for i, r := range s.Because {
		label := ""
		if i == 0 {
			label = "why"
		}
		t.wrap(4, pad(label, 10), r.Text+at(r.Range))
	}
	if s.Effect != "" {
		t.wrap(4, pad("effect", 10), s.Effect)
	}
	t.lines("proof", proofs(s))
	t.lines("loses", s.Loses.Sentences())
	t.lines("keeps", s.KeptSentences())
	for i, c := range s.Requires {
		label := ""
		if i == 0 {
			label = "requires"
		}
		t.wrap(4, pad(label, 10), c.Text)
	}
	if len(s.After) > 0 {
		t.wrap(4, pad("after", 10), strings.Join(s.After, ", "))
	}
}

// proofs writes what a recovery rests on.
func proofs(s *plan.Step) []string {
	var out []string
	for _, p := range s.Proof {
		out = append(out, p.What+": "+p.Text)
	}
	return out
}

// lines writes sentences below each other, the first beside the label.
func (t *text) lines(label string, sentences []string) {
	for _, s := range sentences {
		t.wrap(4, pad(label, 10), s)
		label = ""
	}
}

// at writes where in the HCL something is asked for.
func at(r *hcl.Range) string {
	if r == nil {
		return ""
	}
	return fmt.Sprintf(" (%s:%d)", r.Filename, r.Start.Line)
}

func pad(s string, n int) string {
	if visible(s) >= n {
		return s + " "
	}
	return s + strings.Repeat(" ", n-visible(s))
}

// notDone writes what is not planned, each with the code of the finding that is the reason.
func (t *text) notDone(p *plan.Plan) {
	if len(p.NotDone) == 0 {
		return
	}
	codes := make(map[string]string, len(p.Findings))
	for _, f := range p.Findings {
		codes[f.Text] = " [" + string(f.Code) + "]"
	}
	above := t.above(p)
	t.blank()
	t.line(0, t.paint(bold, "Not planned:"))
	for _, n := range p.NotDone {
		if n.Host == "" && above[n.Why.Text] {
			t.wrap(2, "", n.What+": see"+codes[n.Why.Text]+at(n.Why.Range)+" above")
			continue
		}
		t.wrap(2, "", n.What+": "+n.Why.Text+codes[n.Why.Text]+at(n.Why.Range))
		if n.Hint != "" {
			t.wrap(4, "→ ", n.Hint)
		} else if n.Host != "" {
			t.wrap(4, "→ ", "run on "+n.Host)
		}
	}
}

// above gives the texts that were told before the plan.
func (t *text) above(p *plan.Plan) map[string]bool {
	if !t.o.Diagnosed {
		return nil
	}
	out := map[string]bool{}
	for _, d := range p.Diagnostics() {
		out[d.Detail] = true
	}
	return out
}

// findings writes what is not said under "Not planned" already.
func (t *text) findings(p *plan.Plan) {
	said := make(map[string]bool, len(p.NotDone))
	for _, n := range p.NotDone {
		said[n.Why.Text] = true
	}
	for _, severity := range []plan.Severity{plan.Error, plan.Warning} {
		title, color := "Errors:", red
		if severity == plan.Warning {
			title, color = "Warnings:", yellow
		}
		headed := false
		for _, f := range p.Findings {
			if f.Severity != severity || said[f.Text] {
				continue
			}
			if !headed {
				headed = true
				t.blank()
				t.line(0, t.paint(color, title))
			}
			t.wrap(2, "", string(f.Code)+" "+f.Subject+": "+f.Text+at(f.Range))
			if f.Hint != "" {
				t.wrap(4, "→ ", f.Hint)
			}
		}
	}
}

// due writes what the clock brings next, the soonest for each kind of thing and at most ten.
func (t *text) due(p *plan.Plan) {
	const most = 10
	if len(p.NextDue) == 0 {
		return
	}
	t.blank()
	for i, d := range p.NextDue {
		if i == most {
			t.line(0, fmt.Sprintf("          and %d more", len(p.NextDue)-most))
			break
		}
		label := "          "
		if i == 0 {
			label = "Next due: "
		}
		when := plan.Moment(d.At)
		if zone := d.At.Location(); zone != time.UTC {
			when += d.At.Format(" (15:04 MST)")
		} else if t.o.Zone != nil {
			when += d.At.In(t.o.Zone).Format(" (15:04 MST)")
		}
		t.wrap(0, label, fmt.Sprintf("%s of %s at %s, in %s", d.What, d.Subject, when, plan.Span(d.At.Sub(p.Now))))
	}
}

func (t *text) windows(list []plan.Window) {
	if len(list) == 0 {
		return
	}
	t.blank()
	repositories := map[string]int{}
	for _, w := range list {
		if w.SystemID == "" {
			repositories[w.Server]++
		}
	}
	for _, w := range list {
		for _, s := range WindowSentences(w, repositories[w.Server] > 1) {
			t.wrap(0, "", s)
		}
	}
}

// objectives says which promises are kept; warnings tell of the others.
func (t *text) objectives(list []plan.Objective) {
	var all []string
	for _, o := range list {
		all = append(all, o.Sentences()...)
	}
	if len(all) > 0 {
		t.blank()
	}
	for _, s := range all {
		t.wrap(0, "", s)
	}
}

// mostIntervals is how many stretches a sentence names. More are single backups that a retention keeps, which lists show.
const mostIntervals = 3

// WindowSentences says what can be recovered of a server, and what would be lost now: "You can restore orders.eu to any
// moment from X to Y; now you would lose Z." With named, the repository is said too.
func WindowSentences(w plan.Window, named bool) []string {
	from := ""
	if named {
		from = " from repository " + w.Repository
	}
	if w.SystemID != "" {
		from = " (system identifier " + w.SystemID + ")" + from
	}
	if w.Unknown != "" {
		return []string{fmt.Sprintf("What can be restored of %s%s is unknown: %s.", w.Server, from, w.Unknown)}
	}
	if len(w.Intervals) == 0 && w.Waits != "" {
		return []string{fmt.Sprintf("You cannot restore %s%s yet: %s.", w.Server, from, w.Waits)}
	}
	if len(w.Intervals) == 0 {
		return []string{fmt.Sprintf("You cannot restore %s%s yet; now you would lose everything.", w.Server, from)}
	}
	shown, singles := w.Intervals, ""
	if n := len(shown); n > mostIntervals {
		singles = fmt.Sprintf(", and to %d stretches or single backups before that, back to %s", n-1, plan.Moment(shown[0].From))
		shown = shown[n-1:]
	}
	var spans []string
	for _, i := range shown {
		spans = append(spans, "from "+plan.Moment(i.From)+" to "+plan.Moment(i.To))
	}
	if w.SystemID != "" {
		return []string{fmt.Sprintf("You can restore %s%s, as it was before, to any moment %s%s.", w.Server, from, strings.Join(spans, " and "), singles)}
	}
	reach := "to any moment " + strings.Join(spans, " and ")
	if i := shown[0]; len(shown) == 1 && plan.Moment(i.From) == plan.Moment(i.To) {
		reach = "as it was at " + plan.Moment(i.To)
	}
	reach += singles
	return []string{fmt.Sprintf("You can restore %s%s %s; now you would lose %s.", w.Server, from, reach, w.Loss)}
}

// waiting names the steps that will not run by themselves.
func (t *text) waiting(p *plan.Plan) {
	waits := p.Approve(nil, nil).Wait
	for _, w := range waits {
		t.wrap(0, "", w.Step.ID+" waits: "+w.Why+".")
	}
	if digest := p.Review().String(); t.o.Review && digest != "" {
		t.line(0, "review digest "+digest)
	}
}
