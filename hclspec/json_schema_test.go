package hclspec

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"pgregory.net/rapid"
)

func compiled(t testing.TB) *jsonschema.Schema {
	t.Helper()
	src, err := JSONSchema()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(src))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func conforms(s *jsonschema.Schema, j string) error {
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(j))
	if err != nil {
		return err
	}
	return s.Validate(doc)
}

// TestJSONSchema holds the complete configuration, and single mistakes, against the schema that editors get.
func TestJSONSchema(t *testing.T) {
	s := compiled(t)
	src, err := os.ReadFile("testdata/complete.hcl")
	if err != nil {
		t.Fatal(err)
	}
	j, _ := inJSON(src, languageBlock())
	if err := conforms(s, j); err != nil {
		t.Errorf("the complete configuration does not conform: %v", err)
	}
	repository := `"repository": {"main": {"path": "/srv/x"}}`
	for name, wrong := range map[string]string{
		"unknown block":       `{"servre": {}}`,
		"unknown attribute":   `{"repository": {"main": {"pth": "/x", "path": "/x"}}}`,
		"missing attribute":   `{"repository": {"main": {}}}`,
		"not built yet":       `{"hook": {"a": {}}}`,
		"another word":        `{"repository": {"main": {"path": "/x", "compression": {"algorithm": "zip"}}}}`,
		"out of range":        `{"repository": {"main": {"path": "/x", "compression": {"level": 20}}}}`,
		"no unit":             `{` + repository + `, "server": {"a": {"conninfo": "host=a", "repositories": ["${repository.main}"], "receiver": {"push_every": "10"}}}}`,
		"reference as text":   `{` + repository + `, "server": {"a": {"conninfo": "host=a", "repositories": ["main"]}}}`,
		"name":                `{"repository": {"Main": {"path": "/x"}}}`,
		"two of a kind":       `{"repository": {"main": {"path": "/x", "compression": [{}, {}]}}}`,
		"null where required": `{"repository": {"main": {"path": null}}}`,
	} {
		if conforms(s, wrong) == nil {
			t.Errorf("%s: %s conforms", name, wrong)
		}
		if _, diags := Load(fstest.MapFS{"a.hcl.json": {Data: []byte(wrong)}}, ".", LoadOptions{}); !diags.HasErrors() {
			t.Errorf("%s: %s loads", name, wrong)
		}
	}
}

// TestJSONSchemaRefusesNothingThatLoads writes random configurations: those that load conform.
func TestJSONSchemaRefusesNothingThatLoads(t *testing.T) {
	s := compiled(t)
	loaded := 0
	rapid.Check(t, func(t *rapid.T) {
		j, _ := inJSON([]byte(randomHCL(t, true)), languageBlock())
		if _, diags := Load(fstest.MapFS{"a.hcl.json": {Data: []byte(j)}}, ".", LoadOptions{Version: "1"}); diags.HasErrors() {
			t.Log(diags)
			return
		}
		loaded++
		if err := conforms(s, j); err != nil {
			t.Fatalf("%s\nloads, and does not conform: %v", j, err)
		}
	})
	if loaded < 50 {
		t.Errorf("only %d of 100 loaded: the generator is of no use", loaded)
	}
}
