package plan_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/plan/render"
	"github.com/pgkeep/pgkeep/state"
)

var made = plan.Made{Version: "0.1.0", Who: "ci@runner", Host: "backup1", At: baseTime}

// saved plans a story and saves the plan.
func saved(tb testing.TB, path string) (*plan.Saved, []byte, story) {
	tb.Helper()
	s := readStory(tb, path)
	p, _ := plan.Build(s.spec, s.seen, s.now, s.opt)
	out, err := plan.Save(p, s.spec, s.seen, made, 24*time.Hour)
	if err != nil {
		tb.Fatal(err)
	}
	data, err := out.Encode()
	if err != nil {
		tb.Fatal(err)
	}
	return out, data, s
}

// TestSavedSurvives: what is written is read back, writes the same bytes again, also when indented, and is still valid.
func TestSavedSurvives(t *testing.T) {
	for _, path := range stories(t) {
		_, data, s := saved(t, path)
		if _, diags := plan.Build(s.spec, s.seen, s.now, s.opt); diags.HasErrors() {
			continue // no command gives such a plan
		}
		var pretty bytes.Buffer
		if err := json.Indent(&pretty, data, "", "  "); err != nil {
			t.Fatal(err)
		}
		back, err := plan.ReadSaved(pretty.Bytes())
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		again, err := back.Encode()
		if err != nil || !bytes.Equal(data, again) {
			t.Errorf("%s: the plan does not survive (%v):\n%s\n%s", path, err, data, again)
		}
		if ok, why := back.StillValid(s.spec, s.seen); !ok {
			t.Errorf("%s: nothing changed, and the plan is stale: %v", path, why)
		}
	}
}

// resealed changes the text of a saved plan and gives it a digest that fits, as somebody would who knows how.
func resealed(t *testing.T, data []byte, was, is string) []byte {
	t.Helper()
	text := strings.TrimSpace(string(data))
	body := text[:strings.LastIndex(text, `,"digest":`)]
	if !strings.Contains(body, was) {
		t.Fatalf("the plan holds no %s", was)
	}
	body = strings.Replace(body, was, is, 1)
	return []byte(body + `,"digest":"` + plan.DigestOf([]byte(body)) + `"}`)
}

// TestReadSavedRefuses: whatever is not as it was written is refused, with the code and the cause.
func TestReadSavedRefuses(t *testing.T) {
	_, data, _ := saved(t, "testdata/stories/prune.txtar")
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"empty":          {nil, "cut short after 0 bytes"},
		"cut":            {data[:len(data)/2], "cut short"},
		"cut by one":     {bytes.TrimSpace(data)[:len(data)-2], "cut short"},
		"no JSON":        {[]byte("repository \"main\" {}"), "no JSON from byte 1 on"},
		"other JSON":     {[]byte(`{"version": 1, "at": "x"}`), "no plan that pgkeep plan --out wrote"},
		"a list":         {[]byte(`[1]`), "no plan that pgkeep"},
		"edited":         {bytes.Replace(data, []byte("-F-0002"), []byte("-F-0003"), 1), "edited"},
		"edited digest":  {bytes.Replace(data, []byte(`"digest":"sha256:`), []byte(`"digest":"sha256:00`), 1), "edited"},
		"one more":       {append(bytes.TrimSuffix(bytes.TrimSpace(data), []byte("}")), `,"x":1}`...), "edited"},
		"two documents":  {append(append([]byte{}, data...), data...), "no JSON"},
		"newer":          {resealed(t, data, `"format":1`, `"format":2`), `format 2, written by pgkeep "0.1.0"; this pgkeep reads up to 1`},
		"format 0":       {resealed(t, data, `"format":1`, `"format":0`), "never was"},
		"unknown field":  {resealed(t, data, `"expires":`, `"colour":1,"expires":`), `unknown field "colour"`},
		"unknown action": {resealed(t, data, `"action":"prune"`, `"action":"drop-database"`), `knows no action "drop-database"`},
		"twice":          {resealed(t, data, `"summary":`, `"summary":"No changes.","summary":`), `"summary" is in one object twice`},
		"twice, escaped": {resealed(t, data, `"summary":`, `"summ\u0061ry":"No changes.","summary":`), `"summary" is in one object twice`},
		"deep":           {resealed(t, data, `"steps":`, `"x":`+strings.Repeat("[", 100)+strings.Repeat("]", 100)+`,"steps":`), "deeper"},
		"big":            {bytes.Repeat([]byte(" "), plan.MaxSaved+1), "bigger than 256.0 MiB"},
		"wrong type":     {resealed(t, data, `"summary":"`, `"summary":["x"],"sum":"`), "cannot"},
	} {
		if c.want == "" {
			continue
		}
		got, err := plan.ReadSaved(c.data)
		var e *state.Error
		if got != nil || !errors.As(err, &e) || e.Code != state.CodePlan || !strings.Contains(e.Text, c.want) || e.Hint == "" {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// TestTooBigToSave: what could not be read again is not written, and the error says what to do instead.
func TestTooBigToSave(t *testing.T) {
	s, _, _ := saved(t, "testdata/stories/prune.txtar")
	s.Steps[0].Effect = strings.Repeat("x", plan.MaxSaved)
	data, err := s.Encode()
	if data != nil || state.CodeOf(err) != state.CodePlan || !strings.Contains(err.Error(), "256.0 MiB is the most") || !strings.Contains(state.HintOf(err), "--target") {
		t.Errorf("%d bytes, %v", len(data), err)
	}
}

// TestApplicable: a plan that only answers a question, has expired, or comes from another pgkeep is never applied.
func TestApplicable(t *testing.T) {
	for name, c := range map[string]struct {
		change  func(s *plan.Saved)
		version string
		now     time.Time
		want    string
	}{
		"fresh":    {nil, "0.1.0", baseTime.Add(23 * time.Hour), ""},
		"expired":  {nil, "0.1.0", baseTime.Add(25 * time.Hour), "expired at 2026-02-11 09:00:00 UTC, 1 h ago"},
		"version":  {nil, "0.2.0", baseTime, "made by pgkeep 0.1.0, and this is 0.2.0"},
		"supposed": {func(s *plan.Saved) { s.Options.Suppose = true }, "0.1.0", baseTime, "--now"},
		"recorded": {func(s *plan.Saved) { s.Options.Recorded = true }, "0.1.0", baseTime, "--observed"},
	} {
		s, _, _ := saved(t, "testdata/stories/prune.txtar")
		if c.change != nil {
			c.change(s)
		}
		err := s.Applicable(c.version, c.now)
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if state.CodeOf(err) != state.CodeStale || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// TestSavedHoldsNoSecret: the conninfo, and all that is made of it, is absent, and a changed password changes nothing.
func TestSavedHoldsNoSecret(t *testing.T) {
	s := readStory(t, "testdata/stories/prune.txtar")
	encode := func(conninfo string) []byte {
		s.spec.Servers[0].Conninfo = hclspec.NewSecret(conninfo)
		s.spec.Outputs = []hclspec.Output{{Name: "o", JSON: json.RawMessage(`"canary-output"`)}}
		p, _ := plan.Build(s.spec, s.seen, s.now, s.opt)
		out, err := plan.Save(p, s.spec, s.seen, made, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		data, err := out.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	one, two := encode("host=10.0.1.1 password=canary-one"), encode("host=10.0.1.1 password=canary-two")
	if bytes.Contains(one, []byte("canary")) || !bytes.Equal(one, two) {
		t.Errorf("a secret shows in the saved plan:\n%s", one)
	}
	if !bytes.Contains(one, []byte(`"address":"server.orders"`)) {
		t.Errorf("the configuration is not in the plan:\n%s", one)
	}
}

// TestConfigurationDiffers: another configuration makes the plan stale, whatever would be planned; lines that moved do not.
func TestConfigurationDiffers(t *testing.T) {
	base, err := os.ReadFile("testdata/base.hcl")
	if err != nil {
		t.Fatal(err)
	}
	s, _, world := saved(t, "testdata/stories/prune.txtar")
	for _, c := range []struct{ was, is, want string }{
		{`"7d"`, `"8d"`, "the configuration differs: retention.standard: recovery_window is 192h0m0s, and was 168h0m0s when the plan was made"},
		{"Europe/Berlin", "UTC", "schedule.nightly: timezone is UTC, and was Europe/Berlin"},
		{"redundancy         = 2", "", "retention.standard: redundancy is nothing, and was 2"},
		{"repository \"main\"", "repository \"more\" {\n path = \"/srv/more\"\n}\n\nrepository \"main\"", "repository.more: path is /srv/more, and was nothing"},
	} {
		text := strings.Replace(string(base), c.was, c.is, 1)
		if text == string(base) {
			t.Fatalf("the configuration has no %s", c.was)
		}
		ok, why := s.StillValid(loadHCL(t, []byte(text)), world.seen)
		if ok || !strings.Contains(texts(why), c.want) {
			t.Errorf("%s → %s: valid %t: %s\nwant %s", c.was, c.is, ok, texts(why), c.want)
		}
	}
	moved := loadHCL(t, append([]byte("# a comment\n\n"), base...))
	if ok, why := s.StillValid(moved, world.seen); !ok {
		t.Errorf("only lines moved, and the plan is stale: %s", texts(why))
	}
}

func texts(list []plan.Difference) string {
	var out []string
	for _, d := range list {
		out = append(out, d.Text)
	}
	return strings.Join(out, "\n")
}

// FuzzReadSaved: whatever a file holds, it is read or refused, within a second and 256 MiB, and what is read writes itself
// the same again.
func FuzzReadSaved(f *testing.F) {
	for _, path := range []string{"prune", "first-plan", "recover", "gap", "removed"} {
		_, data, _ := saved(f, "testdata/stories/"+path+".txtar")
		f.Add(data)
		f.Add(data[:len(data)/2])
	}
	f.Add([]byte(`{"format":1,"format":1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		bounded(t, func() { readHostile(t, data) })
	})
}

func readHostile(t *testing.T, data []byte) {
	if got, err := plan.ReadSaved(data); (got == nil) == (err == nil) {
		t.Fatalf("neither a plan nor an error, or both: %v", err)
	}
	// Most of what a fuzzer makes has a digest that does not fit: give it one that does.
	text := bytes.TrimSpace(data)
	if at := bytes.LastIndex(text, []byte(`,"digest":`)); at > 0 {
		text = text[:at]
	}
	s, err := plan.ReadSaved(append(append([]byte{}, text...), `,"digest":"`+plan.DigestOf(text)+`"}`...))
	if err != nil {
		return
	}
	first, err := s.Encode()
	if err != nil {
		t.Fatalf("what was read cannot be written: %v", err)
	}
	again, err := plan.ReadSaved(first)
	if err != nil {
		t.Fatalf("what was written is refused: %v\n%s", err, first)
	}
	if second, err := again.Encode(); err != nil || !bytes.Equal(first, second) {
		t.Fatalf("it is not written the same again (%v):\n%s\n%s", err, first, second)
	}
	// All that a command does with a plan before it compares it with the world.
	_ = s.Applicable("0.1.0", baseTime)
	_ = s.Plan.Review().String()
	_ = plan.Compare(&s.Plan, &again.Plan)
	var out bytes.Buffer
	if err := errors.Join(render.Text(&out, &s.Plan, render.TextOptions{Review: true}), render.Markdown(&out, &s.Plan, 0)); err != nil {
		t.Fatal(err)
	}
}

// bounded fails a test when act takes more than a second, or allocates more than 256 MiB. Where other processes hold this
// one up, what it worked itself counts.
func bounded(t *testing.T, act func()) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	began, worked := time.Now(), cpu(t)
	act()
	took := min(time.Since(began), cpu(t)-worked)
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; took > time.Second || used > 256<<20 {
		t.Fatalf("it took %s and %d bytes", took, used)
	}
}
