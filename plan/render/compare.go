package render

import (
	"fmt"
	"io"
	"strings"

	"github.com/pgkeep/pgkeep/plan"
)

// Compare writes in which steps two plans differ, by step: what is new, gone or decided otherwise, then what is only
// explained otherwise.
func Compare(w io.Writer, changes []plan.StepChange, o TextOptions) error {
	t := &text{o: o}
	if t.o.Width == 0 {
		t.o.Width = 100
	}
	n := map[string]int{}
	for _, c := range changes {
		kind := c.Kind
		if !c.Decides() {
			kind = "explained"
		}
		n[kind]++
		t.change(c)
	}
	t.blank()
	switch {
	case len(changes) == 0:
		t.line(0, "The plans do the same, for the same reasons.")
	case len(changes) == n["explained"]:
		t.line(0, fmt.Sprintf("The plans do the same; %d steps are explained otherwise.", n["explained"]))
	default:
		t.line(0, fmt.Sprintf("%d steps are new, %d are gone, %d are decided otherwise, %d are only explained otherwise.",
			n[plan.StepAdded], n[plan.StepRemoved], n[plan.StepChanged], n["explained"]))
	}
	_, err := w.Write(t.out.Bytes())
	return err
}

func (t *text) change(c plan.StepChange) {
	mark, color := "~", yellow
	switch {
	case c.Kind == plan.StepAdded:
		mark, color = "+", green
	case c.Kind == plan.StepRemoved:
		mark, color = "-", red
	case !c.Decides():
		mark, color = " ", faint
	}
	t.line(0, t.paint(color, mark)+" "+t.paint(bold, c.Action)+" "+c.Step)
	for _, f := range c.Facts {
		switch c.Kind {
		case plan.StepAdded:
			t.wrap(4, pad(f.Name, 10), f.Is)
		case plan.StepRemoved:
			t.wrap(4, pad(f.Name, 10), f.Was)
		default:
			t.wrap(4, pad(f.Name, 10), "was  "+orNothing(f.Was))
			t.wrap(4, pad("", max(10, visible(f.Name)+1)), "now  "+orNothing(f.Is))
		}
	}
}

func orNothing(s string) string {
	if strings.TrimSpace(s) == "" {
		return "nothing"
	}
	return s
}
