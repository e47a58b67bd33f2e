package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/progress"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/steps"
)

// progressView draws the events of an apply: moving bars on a terminal, a line an event otherwise.
type progressView struct {
	a        *app
	bars     progress.Writer // nil: lines
	trackers map[string]*progress.Tracker
	moved    map[string]int64     // bytes of the steps that move any
	said     map[string]time.Time // when the last progress line of a step was written
}

// amountWidth is how much room "1.2 GiB of 4.0 GiB, 210.0 MiB/s, 14 s left" has beside a step's name, and barWidth what the
// bar and its percentage take.
const (
	amountWidth = 48
	barWidth    = 38
	replayWidth = 72 // of ", replayed up to 1A/5000028, commits up to 2026-11-23 01:04:35 UTC"
)

// lineEvery is how often a running step is mentioned where there is no terminal.
const lineEvery = 30 * time.Second

// progressor is told what steps do: progressView draws it, lines writes it for programs.
type progressor interface {
	tell(steps.Event)
	end(steps.Result)
}

func (a *app) newProgress(p *plan.Plan) progressor {
	if a.lines != nil {
		return a.lines
	}
	v := &progressView{a: a, trackers: map[string]*progress.Tracker{}, moved: map[string]int64{}, said: map[string]time.Time{}}
	fmt.Fprintln(a.out)
	if !a.outTerminal {
		return v
	}
	longest := 20
	for _, s := range p.Steps {
		width := len(plan.Verb(s.Action)) + 1 + len(s.ID)
		if r, ok := s.Action.(plan.RecoverTo); ok && r.Start {
			width += replayWidth
		}
		longest = max(longest, width)
	}
	v.bars = progress.NewWriter()
	v.bars.SetOutputWriter(a.out)
	v.bars.SetMessageLength(min(longest+amountWidth, max(20, a.width-barWidth)))
	v.bars.SetTrackerLength(20)
	v.bars.SetUpdateFrequency(200 * time.Millisecond)
	v.bars.SetTrackerPosition(progress.PositionRight)
	v.bars.Style().Visibility.Percentage = true
	v.bars.Style().Visibility.Value, v.bars.Style().Visibility.Time = false, false // the message says them, of steps that move bytes
	go v.bars.Render()                                                             // end stops it and waits
	v.awaitRender(true)
	return v
}

// awaitRender waits until the drawing has begun or ended: the library tells neither but by this question, and forgets a
// stop that comes before the beginning.
func (v *progressView) awaitRender(drawing bool) {
	for v.bars.IsRenderInProgress() != drawing {
		time.Sleep(time.Millisecond)
	}
}

// tell draws one event. steps.Apply calls it one at a time.
func (v *progressView) tell(e steps.Event) {
	if v.bars != nil {
		v.move(e)
		return
	}
	name := plan.Verb(e.Step.Action) + " " + e.Step.ID
	switch e.Kind {
	case steps.Started:
		v.said[e.Step.ID] = e.At
		fmt.Fprintf(v.a.out, "%s: begins\n", name)
	case steps.Held:
		fmt.Fprintf(v.a.out, "%s: %s\n", name, e.Note)
	case steps.Progress:
		if e.At.Sub(v.said[e.Step.ID]) >= lineEvery {
			v.said[e.Step.ID] = e.At
			fmt.Fprintf(v.a.out, "%s: %s\n", name, amount(e))
		}
	default:
		fmt.Fprintf(v.a.out, "%s: %s\n", name, ending(e))
	}
}

// amount writes "1.2 GiB of 4.0 GiB, 210.0 MiB/s, 14 s left".
func amount(e steps.Event) string {
	s := plan.Size(e.Done)
	if e.Total > 0 {
		s += " of " + plan.Size(e.Total)
	}
	if e.Rate > 0 {
		s += ", " + plan.Size(int64(e.Rate)) + "/s"
	}
	if e.ETA > 0 {
		s += ", " + plan.Span(e.ETA) + " left"
	}
	return s + replayed(e.Replay)
}

// replayed writes ", replayed up to 0/5000028, commits up to 2026-11-23 01:04:35 UTC": the last is left out when it is not known.
func replayed(r *steps.Replay) string {
	if r == nil || r.LSN == 0 {
		return ""
	}
	s := ", replayed up to " + r.LSN.String()
	if !r.Commit.IsZero() {
		s += ", commits up to " + r.Commit.UTC().Format("2006-01-02 15:04:05 MST")
	}
	return s
}

func ending(e steps.Event) string {
	s := string(e.Outcome)
	if e.Elapsed >= time.Second {
		s += " after " + plan.Span(e.Elapsed)
	}
	if why := explained(e.Outcome, e.Note, e.Err); why != "" {
		s += ": " + why
	}
	return s
}

// explained says once why a step ended as it did. What was interrupted has no other cause, whatever broke off then.
func explained(o steps.Outcome, note string, err error) string {
	switch {
	case err == nil || o == steps.OutcomeCanceled || strings.Contains(note, err.Error()):
		return note
	case note == "":
		return err.Error()
	}
	return note + ": " + err.Error()
}

func (v *progressView) move(e steps.Event) {
	name := plan.Verb(e.Step.Action) + " " + e.Step.ID
	t := v.trackers[e.Step.ID]
	if t == nil && (e.Kind == steps.Started || e.Kind == steps.Progress) {
		t = &progress.Tracker{Message: name, Total: e.Total}
		v.trackers[e.Step.ID] = t
		v.bars.AppendTracker(t)
	}
	switch e.Kind {
	case steps.Started:
	case steps.Held:
		v.bars.Log("%s: %s", name, e.Note)
	case steps.Progress:
		if e.Total > 0 {
			t.UpdateTotal(e.Total)
		}
		if e.Done > 0 {
			v.moved[e.Step.ID] = e.Done
			t.UpdateMessage(name + ": " + amount(e))
		}
		t.SetValue(e.Done)
	case steps.Done, steps.Already:
		if t != nil {
			t.UpdateMessage(name + v.took(e))
			t.MarkAsDone()
		}
	default:
		if t != nil {
			t.MarkAsErrored()
		}
		v.bars.Log("%s: %s", name, ending(e))
	}
}

// took says what a step that is done moved, and how long it took where that is worth a word.
func (v *progressView) took(e steps.Event) string {
	switch moved := v.moved[e.Step.ID]; {
	case moved > 0:
		return fmt.Sprintf(": %s in %s", plan.Size(moved), plan.Span(e.Elapsed))
	case e.Elapsed >= time.Second:
		return ": " + plan.Span(e.Elapsed)
	}
	return ""
}

// end draws the final table: every step and how it ended, failures and what was skipped too.
func (v *progressView) end(r steps.Result) {
	if v.bars != nil {
		v.bars.Stop()
		v.awaitRender(false)
	}
	t := v.a.newTable()
	t.AppendHeader(table.Row{"step", "outcome", "took", ""})
	hint := ""
	for _, s := range r.Steps {
		note := explained(s.Outcome, s.Note, s.Err)
		if s.Err != nil && s.Outcome != steps.OutcomeCanceled {
			if c := state.CodeOf(s.Err); c != "" {
				note = "[" + string(c) + "] " + note
			}
			hint = state.HintOf(s.Err)
		}
		t.AppendRow(table.Row{plan.Verb(s.Step.Action) + " " + s.Step.ID, s.Outcome, plan.Span(s.Elapsed), note})
	}
	fmt.Fprintf(v.a.out, "\n%s\n", t.Render())
	n := r.Counts()
	fmt.Fprintf(v.a.out, "\nApply: %d done, %d already so, %d failed, %d not done.\n", n[steps.OutcomeDone], n[steps.OutcomeAlready],
		n[steps.OutcomeFailed], len(r.Steps)-n[steps.OutcomeDone]-n[steps.OutcomeAlready]-n[steps.OutcomeFailed])
	if r.Journal != nil {
		fmt.Fprintf(v.a.err, "The journal could not be written: %s\n", r.Journal)
	}
	if hint != "" {
		fmt.Fprintf(v.a.err, "→ %s\n", hint)
	}
}

// newTable gives a table in the one style of this program: no frames, two blanks between columns.
func (a *app) newTable() table.Writer {
	t := table.NewWriter()
	s := table.StyleDefault
	s.Options = table.OptionsNoBordersAndSeparators
	s.Box.PaddingLeft, s.Box.PaddingRight = "", "  "
	s.Format.Header = text.FormatUpper
	t.SetStyle(s)
	var columns []table.ColumnConfig
	for n := range 12 {
		columns = append(columns, table.ColumnConfig{Number: n + 1, WidthMax: max(40, a.width/3), WidthMaxEnforcer: text.WrapSoft})
	}
	t.SetColumnConfigs(columns)
	t.SuppressTrailingSpaces()
	return t
}
