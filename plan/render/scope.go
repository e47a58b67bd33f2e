package render

import (
	"fmt"

	"github.com/pgkeep/pgkeep/plan"
)

// mostLeftOut is how many steps are named that the command line keeps out.
const mostLeftOut = 10

// leftOut writes which steps the command line keeps out of the plan, and why.
func (t *text) leftOut(list []plan.LeftOut) {
	if len(list) == 0 {
		return
	}
	t.blank()
	t.line(0, t.paint(yellow, "Left out:"))
	for i, l := range list {
		if i == mostLeftOut {
			t.line(2, fmt.Sprintf("and %d more", len(list)-mostLeftOut))
			break
		}
		t.wrap(2, "", l.Verb+" "+l.ID+": "+l.Why)
	}
}

// already writes what was asked for and is done.
func (t *text) already(list []plan.Already) {
	if len(list) == 0 {
		return
	}
	t.blank()
	t.line(0, t.paint(bold, "Done already:"))
	for _, a := range list {
		t.wrap(2, "", a.What+": "+a.Text)
		if a.Hint != "" {
			t.wrap(4, "→ ", a.Hint)
		}
	}
}

// drift writes what changed without pgkeep.
func (t *text) drift(d *plan.Drift) {
	for _, s := range d.Sentences() {
		indent := 0
		for len(s) > 0 && s[0] == ' ' {
			indent, s = indent+1, s[1:]
		}
		t.wrap(indent, "", s)
	}
	t.blank()
	if d.Drifted() {
		t.line(0, t.paint(bold, "Not all is as pgkeep left it. pgkeep plan says what would be done about it."))
		return
	}
	t.line(0, t.paint(bold, "All that could be compared is as pgkeep left it."))
}
