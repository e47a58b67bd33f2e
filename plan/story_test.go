package plan_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/plan/render"
	"github.com/pgkeep/pgkeep/state"
)

var update = flag.Bool("update", false, "write what the stories give as what they should give")

// baseTime is when the observation of testdata/base.json was made.
var baseTime = time.Date(2026, 2, 10, 9, 0, 0, 0, time.UTC)

// loadHCL evaluates a configuration as pgkeep would.
func loadHCL(tb testing.TB, source []byte) *hclspec.Spec {
	tb.Helper()
	spec, diags := hclspec.Load(fstest.MapFS{"pgkeep.hcl": {Data: source}}, ".", hclspec.LoadOptions{Version: "0.1.0", Hostname: "backup1"})
	if diags.HasErrors() {
		tb.Fatalf("load HCL: %s\n%s", diags.Error(), source)
	}
	return spec
}

// loadObservation reads testdata/base.json with a JSON merge patch (RFC 7396) laid over it.
func loadObservation(tb testing.TB, patch []byte) state.Observation {
	tb.Helper()
	base, err := os.ReadFile("testdata/base.json")
	if err != nil {
		tb.Fatal(err)
	}
	var world, change any
	if err := json.Unmarshal(base, &world); err != nil {
		tb.Fatal(err)
	}
	if len(bytes.TrimSpace(patch)) > 0 {
		if err := json.Unmarshal(patch, &change); err != nil {
			tb.Fatalf("patch: %v", err)
		}
		world = merge(world, change)
	}
	merged, err := json.Marshal(world)
	if err != nil {
		tb.Fatal(err)
	}
	var seen state.Observation
	d := json.NewDecoder(bytes.NewReader(merged))
	d.DisallowUnknownFields()
	if err := d.Decode(&seen); err != nil {
		tb.Fatalf("observation: %v", err)
	}
	return seen
}

func merge(base, change any) any {
	patch, ok := change.(map[string]any)
	if !ok {
		return change
	}
	into, ok := base.(map[string]any)
	if !ok {
		into = map[string]any{}
	}
	for k, v := range patch {
		if v == nil {
			delete(into, k)
			continue
		}
		into[k] = merge(into[k], v)
	}
	return into
}

// story is one file of testdata/stories: what is configured and seen, and the plan as an operator reads it.
type story struct {
	archive *txtar.Archive
	spec    *hclspec.Spec
	seen    state.Observation
	now     time.Time
	opt     plan.Options
}

func readStory(tb testing.TB, path string) story {
	tb.Helper()
	a, err := txtar.ParseFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	base, err := os.ReadFile("testdata/base.hcl")
	if err != nil {
		tb.Fatal(err)
	}
	s := story{archive: a, now: baseTime}
	var patch []byte
	verified := true
	for _, f := range a.Files {
		switch f.Name {
		case "pgkeep.hcl":
			base = f.Data
		case "more.hcl":
			base = append(append([]byte{}, base...), f.Data...)
		case "observed.json":
			patch = f.Data
		case "options.json":
			if err := json.Unmarshal(f.Data, &s.opt); err != nil {
				tb.Fatal(err)
			}
		case "unverified":
			verified = false
		case "now":
			if s.now, err = time.Parse(time.RFC3339, strings.TrimSpace(string(f.Data))); err != nil {
				tb.Fatal(err)
			}
		}
	}
	s.spec, s.seen = loadHCL(tb, base), loadObservation(tb, patch)
	if verified {
		verifyAll(s.seen, s.now)
	}
	return s
}

// verifyAll has all that repositories hold looked at closely an hour ago, where nothing else is seen of it: that it is due is told by the
// stories with a file `unverified`.
func verifyAll(seen state.Observation, now time.Time) {
	at := now.Add(-time.Hour)
	for _, r := range seen.Repositories {
		for _, clusters := range r.Clusters {
			for i := range clusters {
				switch v := clusters[i].Verified; {
				case v == nil:
					clusters[i].Verified = &state.Verification{Quick: state.Look{Began: at}, Full: state.Look{Began: at}, Began: at, Ended: at}
				case v.Quick.Began.IsZero():
					v.Quick.Began = at
				}
			}
		}
	}
}

func stories(tb testing.TB) []string {
	tb.Helper()
	paths, err := filepath.Glob("testdata/stories/*.txtar")
	if err != nil || len(paths) == 0 {
		tb.Fatalf("no stories: %v", err)
	}
	return paths
}

// TestStories plans every story and compares the text with what the story says.
func TestStories(t *testing.T) {
	for _, path := range stories(t) {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			s := readStory(t, path)
			p, diags := plan.Build(s.spec, s.seen, s.now, s.opt)
			var got bytes.Buffer
			for _, d := range diags {
				if d.Severity == 1 { // hcl.DiagError; warnings are findings too
					got.WriteString("error: " + d.Summary + ": " + d.Detail + "\n")
				}
			}
			if err := render.Text(&got, p, render.TextOptions{Width: 110}); err != nil {
				t.Fatal(err)
			}
			checkPlan(t, p)
			want := -1
			for i, f := range s.archive.Files {
				switch f.Name {
				case "want":
					want = i
				case "checked":
					compareChecked(t, &s, &s.archive.Files[i], p)
				}
			}
			if *update {
				if want < 0 {
					s.archive.Files = append(s.archive.Files, txtar.File{Name: "want"})
					want = len(s.archive.Files) - 1
				}
				s.archive.Files[want].Data = got.Bytes()
				if err := os.WriteFile(path, txtar.Format(s.archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if want < 0 {
				t.Fatalf("the story wants nothing; run with -update. It gives:\n%s", got.String())
			}
			if diff := cmp.Diff(string(s.archive.Files[want].Data), got.String()); diff != "" {
				t.Errorf("plan differs (-want +got):\n%s", diff)
			}
		})
	}
}

// compareChecked compares what check says beyond the plan, of all that is not in order, as it prints it.
func compareChecked(t *testing.T, s *story, f *txtar.File, p *plan.Plan) {
	t.Helper()
	var got strings.Builder
	for _, x := range p.Checked(s.spec, s.seen) {
		if x.Severity != plan.OK {
			got.WriteString(strings.ToUpper(string(x.Severity)) + " [" + string(x.Code) + "] " + x.Subject + " " + x.Text + "\n  → " + x.Hint + "\n")
		}
	}
	if *update {
		f.Data = []byte(got.String())
		return
	}
	if diff := cmp.Diff(string(f.Data), got.String()); diff != "" {
		t.Errorf("what check says differs (-want +got):\n%s", diff)
	}
}

// checkPlan asserts what holds of every plan: ids are unique, After points backwards, everything has reasons, and the
// plan survives JSON.
func checkPlan(tb testing.TB, p *plan.Plan) {
	tb.Helper()
	seen := map[string]bool{}
	for _, s := range p.Steps {
		if seen[s.ID] {
			tb.Errorf("two steps are %s", s.ID)
		}
		for _, id := range s.After {
			if !seen[id] {
				tb.Errorf("%s comes after %s, which does not come before it", s.ID, id)
			}
		}
		if len(s.Because) == 0 || s.Effect == "" || s.Impact == "" || s.Change == "" {
			tb.Errorf("%s lacks why, effect, impact or change", s.ID)
		}
		seen[s.ID] = true
	}
	data, err := json.Marshal(p)
	if err != nil {
		tb.Fatal(err)
	}
	var back plan.Plan
	if err := json.Unmarshal(data, &back); err != nil {
		tb.Fatal(err)
	}
	again, err := json.Marshal(&back)
	if err != nil || !bytes.Equal(data, again) {
		tb.Errorf("the plan does not survive JSON (%v):\n%s\n%s", err, data, again)
	}
}
