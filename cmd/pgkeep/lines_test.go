package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/steps"
)

// lineFields reads the schema out of docs/machine-output.md: the fields of each type of line, those that are always
// there with a trailing "!".
func lineFields(tb testing.TB) map[string]map[string]bool {
	tb.Helper()
	text, err := os.ReadFile("../../docs/machine-output.md")
	if err != nil {
		tb.Fatal(err)
	}
	out := map[string]map[string]bool{}
	kind := ""
	for _, line := range strings.Split(string(text), "\n") {
		if name, ok := strings.CutPrefix(line, "### "); ok {
			kind = strings.Trim(name, "`")
			out[kind] = map[string]bool{}
		}
		cells := strings.Split(line, "|")
		if kind == "" || len(cells) < 5 || !strings.HasPrefix(strings.TrimSpace(cells[1]), "`") {
			continue
		}
		out[kind][strings.Trim(strings.TrimSpace(cells[1]), "`")] = strings.TrimSpace(cells[2]) == "always"
	}
	return out
}

// problems says what is wrong with lines that a program would read: each is one JSON object of a documented type with
// documented fields, the first tells the version, and the last is the end.
func problems(schema map[string]map[string]bool, output string) []string {
	var out []string
	kinds := []string{}
	for _, line := range strings.Split(strings.TrimSuffix(output, "\n"), "\n") {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			out = append(out, "no JSON object: "+line)
			continue
		}
		kind, _ := fields["type"].(string)
		kinds = append(kinds, kind)
		known, ok := schema[kind]
		if !ok || fields["v"] != float64(linesVersion) {
			out = append(out, "unknown type or version: "+line)
			continue
		}
		delete(fields, "v")
		delete(fields, "type")
		for name := range fields {
			if _, ok := known[name]; !ok {
				out = append(out, "undocumented field "+name+": "+line)
			}
		}
		for name, always := range known {
			if _, ok := fields[name]; always && !ok {
				out = append(out, "no field "+name+": "+line)
			}
		}
	}
	if i := slices.Index(kinds, "end"); i != len(kinds)-1 {
		out = append(out, "the last line, and only that, must be the end: "+strings.Join(kinds, " "))
	}
	return out
}

// checkLines is the command jsonlines FILE: everything in it must be as docs/machine-output.md says.
func checkLines(ts *testscript.TestScript, _ bool, args []string) {
	for _, file := range args {
		text := ts.ReadFile(file)
		for _, p := range problems(lineFields(&failer{}), text) {
			ts.Fatalf("%s", p)
		}
	}
}

// failer lets a helper for tests be used in a script.
type failer struct{ testing.TB }

func (*failer) Helper()           {}
func (*failer) Fatal(args ...any) { panic(args) }

// TestLinesAreAsDocumented tells one of everything.
func TestLinesAreAsDocumented(t *testing.T) {
	var out bytes.Buffer
	l := newLines(&out)
	p := &plan.Plan{
		Now: time.Date(2026, 11, 22, 1, 0, 0, 0, time.UTC), Host: "backup1",
		Steps: []plan.Step{
			{ID: "server.orders/slot", Action: plan.CreateSlot{}, Change: plan.Add, Impact: plan.Safe, Effect: "x"},
			{ID: "server.orders/backup", Action: plan.TakeBackup{}, Change: plan.Add, Impact: plan.Safe, Host: "backup1", After: []string{"server.orders/slot"}, Proof: []plan.Proof{{What: "w", Text: "t"}}},
		},
		LeftOut: []plan.LeftOut{{ID: "a", Verb: "b", Why: "c"}},
		NotDone: []plan.NotDone{{What: "w", Why: plan.Reason{Text: "y"}, Hint: "h", Host: "o"}},
	}
	l.plan(p)
	s := &p.Steps[1]
	at := p.Now
	l.tell(steps.Event{Kind: steps.Started, Step: s, At: at})
	l.tell(steps.Event{Kind: steps.Progress, Step: s, At: at, Elapsed: time.Second, Done: 0, Total: 10, Rate: 2, ETA: 5 * time.Second})
	replay := &steps.Replay{LSN: 0x5000028, Commit: at.Add(-time.Hour)}
	l.tell(steps.Event{Kind: steps.Progress, Step: s, At: at, Elapsed: time.Second, Done: 1, Total: 10, Rate: 2, ETA: 4 * time.Second, Replay: replay})
	failed := &state.Error{Code: state.CodeDiskFull, Text: "no <space> left", Hint: "make room"}
	l.tell(steps.Event{Kind: steps.Failed, Step: s, Outcome: steps.OutcomeFailed, At: at, Elapsed: 2 * time.Second, Note: "n", Err: failed})
	l.say("text")
	l.end(steps.Result{Steps: []steps.StepResult{{Step: s, Outcome: steps.OutcomeFailed}}, Journal: errors.New("read-only")})
	l.fail(failed)
	l.exit(5)
	if l.failed != nil {
		t.Fatal(l.failed)
	}
	for _, p := range problems(lineFields(t), out.String()) {
		t.Error(p)
	}
	if want := `{"v":1,"type":"end","exit_code":5,"outcomes":{"failed":1}}`; !strings.HasSuffix(out.String(), "\n"+want+"\n") {
		t.Errorf("the last line is not %s:\n%s", want, out.String())
	}
	if !strings.Contains(out.String(), `"event":"progress","at":"2026-11-22T01:00:00Z","id":"server.orders/backup","action":"take-backup","elapsed_seconds":1,"bytes_done":0,"bytes_total":10,"bytes_per_second":2,"seconds_left":5}`) {
		t.Errorf("progress cannot be drawn from:\n%s", out.String())
	}
	if !strings.Contains(out.String(), `"bytes_per_second":2,"seconds_left":4,"replayed_lsn":"0/5000028","replayed_commit_at":"2026-11-22T00:00:00Z"}`) {
		t.Errorf("where replay is cannot be read from:\n%s", out.String())
	}
}

// TestProblemsSeesThem: what is not as documented is seen.
func TestProblemsSeesThem(t *testing.T) {
	schema := map[string]map[string]bool{"end": {"exit_code": true}, "message": {"text": true}}
	for _, c := range []struct {
		output string
		want   int
	}{
		{`{"v":1,"type":"end","exit_code":0}`, 0},
		{"{\"v\":1,\"type\":\"message\",\"text\":\"x\"}\n{\"v\":1,\"type\":\"end\",\"exit_code\":0}\n", 0},
		{"Apply: done\n{\"v\":1,\"type\":\"end\",\"exit_code\":0}\n", 1},
		{`{"v":2,"type":"end","exit_code":0}`, 1},
		{`{"v":1,"type":"end"}`, 1},
		{`{"v":1,"type":"end","exit_code":0,"more":1}`, 1},
		{`{"v":1,"type":"message","text":"x"}`, 1},
		{"{\"v\":1,\"type\":\"end\",\"exit_code\":0}\n{\"v\":1,\"type\":\"message\",\"text\":\"x\"}\n", 1},
	} {
		if got := problems(schema, c.output); len(got) != c.want {
			t.Errorf("%s: %d problems, want %d:\n%s", c.output, len(got), c.want, cmp.Diff([]string(nil), got))
		}
	}
}
