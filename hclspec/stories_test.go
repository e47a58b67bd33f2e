package hclspec

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres"
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
	dir := "."
	if files["dir/.keep"] != nil {
		dir = "dir/none"
	}
	s, diags := Load(files, dir, o)
	got := drawn(t, s, diags)
	if slices.ContainsFunc(a.Files, func(f txtar.File) bool { return f.Name == "json" }) {
		j, err := DiagnosticsJSON(s.Files, diags)
		if err != nil {
			t.Fatal(err)
		}
		got = string(j)
	} else if !diags.HasErrors() {
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

var repeat = regexp.MustCompile(`(?m)^@repeat (\d+) (.*)\n`)

// repeated writes a line like "@repeat 300 x{n} = 1" out: {n} is the number of the line, {m} the next one.
func repeated(src string) string {
	return repeat.ReplaceAllStringFunc(src, func(line string) string {
		m := repeat.FindStringSubmatch(line)
		times, _ := strconv.Atoi(m[1])
		var b strings.Builder
		for n := range times {
			fill := strings.NewReplacer("{n}", fmt.Sprintf("%03d", n), "{m}", fmt.Sprintf("%03d", n+1), `\n`, "\n")
			b.WriteString(fill.Replace(m[2]) + "\n")
		}
		return b.String()
	})
}

// storyFiles gives the files of a story, what it wants, and the options that it names.
func storyFiles(t *testing.T, a *txtar.Archive) (files fstest.MapFS, want string, o LoadOptions) {
	files = fstest.MapFS{}
	o = LoadOptions{Version: "0.1.0", Hostname: "backup1", Zone: berlin(t)}
	for _, f := range a.Files {
		switch f.Name {
		case "json":
		case "want":
			want = string(f.Data)
		case "env":
			o.Env = pairs(string(f.Data))
		case "flags":
			o.Vars = pairs(string(f.Data))
		case "options":
			given := pairs(string(f.Data))
			if given["version"] != "" || len(given) == 1 && given["conninfo"] == "" {
				o.Version = given["version"]
			}
			if given["conninfo"] == "checked" {
				o.Conninfo = libpq
			}
			if given["var-file"] != "" {
				o.VarFiles = append(o.VarFiles, given["var-file"])
			}
		default:
			files[f.Name] = &fstest.MapFile{Data: []byte(repeated(string(f.Data)))}
		}
	}
	for _, name := range []string{"prod.vars.hcl", "prod.vars.hcl.json"} {
		if files[name] != nil {
			o.VarFiles = append(o.VarFiles, name)
		}
	}
	return files, want, o
}

// libpq says what is wrong with a connection string.
func libpq(conninfo string) (what, hint string) {
	err := postgres.CheckConninfo(conninfo)
	if err == nil {
		return "", ""
	}
	return err.Error(), state.HintOf(err)
}

func pairs(s string) map[string]string {
	out := map[string]string{}
	for line := range strings.SplitSeq(strings.TrimSpace(s), "\n") {
		k, v, _ := strings.Cut(line, "=")
		out[k] = v
	}
	return maps.Clone(out)
}
