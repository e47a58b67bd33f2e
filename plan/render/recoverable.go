package render

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/pgkeep/pgkeep/plan"
)

// RecoverableText draws to which moments a server can be recovered: for each line of history a bar along time, and below
// it each stretch with its evidence, each gap with its cause.
func RecoverableText(w io.Writer, all []plan.Recoverability, o TextOptions) error {
	t := &text{o: o}
	if t.o.Width == 0 {
		t.o.Width = 100
	}
	t.o.Width = max(t.o.Width, 40)
	for i := range all {
		t.blank()
		t.recoverable(&all[i])
	}
	if t.out.Len() > 0 {
		t.blank()
		t.line(0, "# provable: backup and WAL were read and proved   = present: all is there   . cannot be recovered")
	}
	_, err := w.Write(t.out.Bytes())
	return err
}

func (t *text) recoverable(r *plan.Recoverability) {
	head := r.Server + " in repository " + r.Repository
	switch {
	case r.Unknown != "":
		t.wrap(0, "", head+": what can be recovered is unknown: "+r.Unknown)
		return
	case len(r.Lines) == 0 && r.Waits != "":
		t.wrap(0, "", head+": nothing can be recovered yet: "+r.Waits)
		return
	case len(r.Lines) == 0:
		t.wrap(0, "", head+": nothing can be recovered")
		return
	}
	for i := range r.Lines {
		x := &r.Lines[i]
		if i > 0 {
			t.blank()
		}
		t.wrap(0, "", t.paint(bold, head)+", "+lineText(x))
		t.bar(x.Stretches)
		for _, s := range x.Stretches {
			t.wrap(2, pad(string(s.Kind), 10), stretchText(&s))
			t.wrap(12, "", s.Why)
		}
	}
	if r.Loss != "" {
		t.wrap(0, "", "now you would lose "+r.Loss)
	}
}

// lineText names a line of history and how it came about.
func lineText(x *plan.RecoverableLine) string {
	out := fmt.Sprintf("timeline %d", x.Timeline)
	for i := len(x.Parents) - 1; i >= 0; i-- {
		out += fmt.Sprintf(", from %d at %s", x.Parents[i].Timeline, x.Parents[i].Switch)
	}
	if !x.Current {
		out += fmt.Sprintf("; it was left: --timeline %d", x.Timeline)
	}
	return out
}

func stretchText(s *plan.RecoverableStretch) string {
	out := momentOrNot(s.From) + " to " + momentOrNot(s.To) + "   " + s.FromLSN.String() + " to " + s.ToLSN.String()
	if s.Backup != "" {
		out += "   from backup " + s.Backup
	}
	return out
}

func momentOrNot(at time.Time) string {
	if at.IsZero() {
		return "?"
	}
	return plan.Moment(at)
}

// bar draws stretches along time, each at least a column wide.
func (t *text) bar(all []plan.RecoverableStretch) {
	begin, end := all[0].From, all[0].To
	for _, s := range all {
		if s.To.After(end) {
			end = s.To
		}
	}
	width := t.o.Width - 8
	column := func(at time.Time) int {
		if at.IsZero() || !end.After(begin) {
			return 0
		}
		return int(float64(at.Sub(begin)) / float64(end.Sub(begin)) * float64(width))
	}
	var out strings.Builder
	for i, s := range all {
		until := max(column(s.To), out.Len()+1)
		if i == len(all)-1 {
			until = max(width, out.Len()+1)
		}
		until = min(until, max(width-(len(all)-1-i), out.Len()+1)) // room for those that follow
		out.WriteString(strings.Repeat(mark(s.Kind), until-out.Len()))
	}
	t.line(2, "|"+out.String()+"|")
}

func mark(kind plan.Provability) string {
	switch kind {
	case plan.Provable:
		return "#"
	case plan.Present:
		return "="
	case plan.Unrecoverable:
	}
	return "."
}
