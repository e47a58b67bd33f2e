package plan_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/plan/render"
)

// schema is the published schema of saved plans.
func schema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	s, err := c.Compile("../docs/plan.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestSchema: every plan of the stories is as docs/plan.schema.json says, and the schema says something.
func TestSchema(t *testing.T) {
	s := schema(t)
	for _, path := range stories(t) {
		_, data, _ := saved(t, path)
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Validate(doc); err != nil {
			t.Errorf("%s: %v\n(a new action or field needs a line in docs/plan.schema.json)", path, err)
		}
	}
	_, data, _ := saved(t, "testdata/stories/prune.txtar")
	for _, edit := range [][2]string{
		{`"backups":[`, `"backup":[`},
		{`"impact":"declared"`, `"impact":"mild"`},
		{`"format":1`, `"format":2`},
		{`"effect":`, `"effects":`},
		{`"restore_points":[`, `"points":[`},
		{`"action":"prune"`, `"action":"create-slot"`},
		{`"digest":"sha256:`, `"digest":"md5:`},
	} {
		doc, err := jsonschema.UnmarshalJSON(strings.NewReader(strings.Replace(string(data), edit[0], edit[1], 1)))
		if err != nil {
			t.Fatal(err)
		}
		if s.Validate(doc) == nil {
			t.Errorf("the schema takes %s", edit[1])
		}
	}
}

// TestKinds draws one plan with each action in every form, and compares with testdata/kinds.
func TestKinds(t *testing.T) {
	told := map[string]string{} // action to story
	for _, path := range stories(t) {
		s := readStory(t, path)
		p, _ := plan.Build(s.spec, s.seen, s.now, s.opt)
		for _, step := range p.Steps {
			verb := plan.Verb(step.Action)
			if _, ok := told[verb]; !ok {
				told[verb] = path
			}
		}
	}
	for _, verb := range plan.Verbs() {
		path, ok := told[verb]
		if !ok {
			t.Errorf("no story plans %s", verb)
			continue
		}
		t.Run(verb, func(t *testing.T) { compareKind(t, verb, path) })
	}
}

func compareKind(t *testing.T, verb, story string) {
	p, _, _ := saved(t, story)
	p.Steps = slices.DeleteFunc(slices.Clone(p.Steps), func(s plan.Step) bool { return plan.Verb(s.Action) != verb })
	p.Findings, p.NotDone, p.Windows, p.NextDue, p.Summary = p.Findings[:0], p.NotDone[:0], p.Windows[:0], p.NextDue[:0], p.Plan.Summary()
	p.Review = p.Plan.Review().String()
	data, err := json.Marshal(p.Steps)
	if err != nil {
		t.Fatal(err)
	}
	var text, pretty, markdown, dot, mermaid bytes.Buffer
	for _, err := range []error{
		render.Text(&text, &p.Plan, render.TextOptions{Width: 110, Review: true}), json.Indent(&pretty, data, "", " "),
		render.Markdown(&markdown, &p.Plan, 0), render.DOT(&dot, &p.Plan), render.Mermaid(&mermaid, &p.Plan),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	got := txtar.Format(&txtar.Archive{
		Comment: []byte("The steps " + verb + " of " + filepath.Base(story) + ", in every form.\n"),
		Files: []txtar.File{
			{Name: "text", Data: text.Bytes()},
			{Name: "json", Data: append(pretty.Bytes(), '\n')},
			{Name: "markdown", Data: markdown.Bytes()},
			{Name: "dot", Data: dot.Bytes()},
			{Name: "mermaid", Data: mermaid.Bytes()},
		},
	})
	file := "testdata/kinds/" + verb + ".txtar"
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("run with -update: %v", err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("differs (-want +got):\n%s", diff)
	}
}
