package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"sync"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/steps"
)

// linesVersion is the number that every line of apply --json carries. It changes when a reader of the old form would
// misread the new one; fields and types are added without a change. docs/machine-output.md describes them.
const linesVersion = 1

// lines writes what an apply does as one JSON object a line. It is safe for several goroutines.
type lines struct {
	mu     sync.Mutex
	w      io.Writer
	failed error // the first failure to write
	counts map[steps.Outcome]int
}

// The types of lines.
type (
	planLine struct {
		Summary    string           `json:"summary"`
		Now        time.Time        `json:"now"`
		Host       string           `json:"host,omitempty"`
		Add        int              `json:"add"`
		Change     int              `json:"change"`
		Destroy    int              `json:"destroy"`
		Steps      []stepOfPlan     `json:"steps"`
		LeftOut    []plan.LeftOut   `json:"left_out,omitempty"`
		NotPlanned []notPlannedLine `json:"not_planned,omitempty"`
	}
	stepOfPlan struct {
		ID     string       `json:"id"`
		Action string       `json:"action"`
		Change plan.Change  `json:"change"`
		Impact plan.Impact  `json:"impact"`
		Host   string       `json:"host,omitempty"`
		Effect string       `json:"effect,omitempty"`
		Proof  []plan.Proof `json:"proof,omitempty"` // of a recovery
		After  []string     `json:"after,omitempty"`
	}
	notPlannedLine struct {
		What string `json:"what"`
		Why  string `json:"why"`
		Hint string `json:"hint,omitempty"`
		Host string `json:"host,omitempty"`
	}
	stepLine struct {
		Event   steps.EventKind `json:"event"`
		At      time.Time       `json:"at"`
		ID      string          `json:"id"`
		Action  string          `json:"action"`
		Outcome steps.Outcome   `json:"outcome,omitempty"`
		Elapsed float64         `json:"elapsed_seconds"`
		Note    string          `json:"note,omitempty"`
		Code    state.Code      `json:"code,omitempty"`
		Error   string          `json:"error,omitempty"`
		Hint    string          `json:"hint,omitempty"`
		Done    *int64          `json:"bytes_done,omitempty"`
		Total   int64           `json:"bytes_total,omitempty"`
		Rate    float64         `json:"bytes_per_second,omitempty"`
		Left    float64         `json:"seconds_left,omitempty"`
		LSN     string          `json:"replayed_lsn,omitempty"`
		Commit  time.Time       `json:"replayed_commit_at,omitzero"`
	}
	diagnosticLine struct {
		Severity string     `json:"severity"` // error | warning
		Code     state.Code `json:"code,omitempty"`
		Summary  string     `json:"summary"`
		Hint     string     `json:"hint,omitempty"`
	}
	messageLine struct {
		Text string `json:"text"`
	}
	endLine struct {
		ExitCode int                   `json:"exit_code"`
		Outcomes map[steps.Outcome]int `json:"outcomes"` // steps by how they ended
	}
)

// put writes one line: v and type first, then the fields of what is told.
func (l *lines) put(kind string, what any) {
	body, err := json.Marshal(what)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		head := fmt.Sprintf(`{"v":%d,"type":%q`, linesVersion, kind)
		if len(body) > 2 {
			head += ","
		}
		_, err = io.WriteString(l.w, head+string(body[1:])+"\n")
	}
	if l.failed == nil {
		l.failed = err
	}
}

// plan tells what will be done, and what not.
func (l *lines) plan(p *plan.Plan) {
	out := planLine{Summary: p.Summary(), Now: p.Now, Host: p.Host, Steps: []stepOfPlan{}, LeftOut: p.LeftOut}
	out.Add, out.Change, out.Destroy = p.Count()
	for _, s := range p.Steps {
		out.Steps = append(out.Steps, stepOfPlan{s.ID, plan.Verb(s.Action), s.Change, s.Impact, s.Host, s.Effect, s.Proof, s.After})
	}
	for _, n := range p.NotDone {
		out.NotPlanned = append(out.NotPlanned, notPlannedLine{n.What, n.Why.Text, n.Hint, n.Host})
	}
	l.put("plan", out)
}

// tell tells one event of a step.
func (l *lines) tell(e steps.Event) {
	out := stepLine{
		Event: e.Kind, At: e.At.UTC(), ID: e.Step.ID, Action: plan.Verb(e.Step.Action), Outcome: e.Outcome, Elapsed: e.Elapsed.Seconds(), Note: e.Note,
	}
	if e.Err != nil {
		out.Code, out.Error, out.Hint = state.CodeOf(e.Err), e.Err.Error(), state.HintOf(e.Err)
	}
	if e.Kind == steps.Progress {
		out.Done, out.Total, out.Rate, out.Left = &e.Done, e.Total, e.Rate, e.ETA.Seconds()
		if r := e.Replay; r != nil && r.LSN != 0 {
			out.LSN, out.Commit = r.LSN.String(), r.Commit.UTC()
		}
	}
	l.put("step", out)
}

// end counts how the steps of one apply ended.
func (l *lines) end(r steps.Result) {
	for outcome, n := range r.Counts() {
		l.counts[outcome] += n
	}
	if r.Journal != nil {
		l.put("diagnostic", diagnosticLine{"warning", state.CodeOf(r.Journal), "the journal could not be written: " + r.Journal.Error(), state.HintOf(r.Journal)})
	}
}

// diagnostics tells what is wrong with the configuration, each with its place in it.
func (l *lines) diagnostics(files map[string]*hcl.File, diags hcl.Diagnostics) error {
	body, err := hclspec.DiagnosticsJSON(files, diags)
	if err != nil {
		return err
	}
	var all struct {
		Diagnostics []map[string]any `json:"diagnostics"`
	}
	if err := json.Unmarshal(body, &all); err != nil {
		return fmt.Errorf("read diagnostics: %w", err)
	}
	for _, d := range all.Diagnostics {
		l.put("diagnostic", d)
	}
	return nil
}

// fail tells of the error that the command ends with.
func (l *lines) fail(err error) {
	l.put("diagnostic", diagnosticLine{"error", state.CodeOf(err), err.Error(), state.HintOf(err)})
}

// say tells what people are told beside the steps.
func (l *lines) say(text string) { l.put("message", messageLine{text}) }

// exit is the last line.
func (l *lines) exit(code int) { l.put("end", endLine{ExitCode: code, Outcomes: maps.Clone(l.counts)}) }

// newLines begins the lines of one command. Nothing else may be written to the same place.
func newLines(w io.Writer) *lines { return &lines{w: w, counts: map[steps.Outcome]int{}} }

// jsonLines lets the command tell in lines what it would have drawn. Nobody is asked then.
func (a *app) jsonLines() {
	a.lines = newLines(a.out)
	a.inTerminal, a.outTerminal = false, false
}
