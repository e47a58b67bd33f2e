package hclspec

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/rogpeppe/go-internal/txtar"
)

// TestStories loads the files of each testdata/*.txtar and compares the diagnostics with its file "want". "env" and
// "flags" hold values of variables, one NAME=VALUE a line.
func TestStories(t *testing.T) {
	names, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(names) < 10 {
		t.Fatalf("%d stories, %v", len(names), err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) { tell(t, name) })
	}
}

func tell(t *testing.T, name string) {
	a, err := txtar.ParseFile(name)
	if err != nil {
		t.Fatal(err)
	}
	files, want, o := storyFiles(t, a)
	s, diags := Load(files, ".", o)
	got := drawn(t, s, diags)
	if !diags.HasErrors() {
		got += "loaded\n"
		for _, x := range s.Outputs {
			got += x.Name + " = " + string(x.JSON) + "\n"
		}
	}
	if strings.Contains(got, "hunter2") {
		t.Errorf("a secret is shown:\n%s", got)
	}
	if got == want {
		return
	}
	if !*update {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
		return
	}
	a.Files = slices.DeleteFunc(a.Files, func(f txtar.File) bool { return f.Name == "want" })
	a.Files = append(a.Files, txtar.File{Name: "want", Data: []byte(got)})
	if err := os.WriteFile(name, txtar.Format(a), 0o644); err != nil {
		t.Fatal(err)
	}
}

// storyFiles gives the files of a story, what it wants, and the options that it names.
func storyFiles(t *testing.T, a *txtar.Archive) (files fstest.MapFS, want string, o LoadOptions) {
	files = fstest.MapFS{}
	o = LoadOptions{Version: "0.1.0", Hostname: "backup1", Zone: berlin(t)}
	for _, f := range a.Files {
		switch f.Name {
		case "want":
			want = string(f.Data)
		case "env":
			o.Env = pairs(string(f.Data))
		case "flags":
			o.Vars = pairs(string(f.Data))
		default:
			files[f.Name] = &fstest.MapFile{Data: f.Data}
		}
	}
	for _, name := range []string{"prod.vars.hcl", "prod.vars.hcl.json"} {
		if files[name] != nil {
			o.VarFiles = append(o.VarFiles, name)
		}
	}
	return files, want, o
}

func pairs(s string) map[string]string {
	out := map[string]string{}
	for line := range strings.SplitSeq(strings.TrimSpace(s), "\n") {
		k, v, _ := strings.Cut(line, "=")
		out[k] = v
	}
	return maps.Clone(out)
}
