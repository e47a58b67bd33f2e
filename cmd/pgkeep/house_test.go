package main_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/pgkeep/pgkeep"

// room is a package and what it may import beside the standard library: packages of this module by their path below it,
// others by a prefix of their import path.
type room struct {
	may []string
	// pure rooms touch no clock, network, process or file system.
	pure bool
}

const (
	hcl       = "github.com/hashicorp/hcl/v2"
	cty       = "github.com/zclconf/go-cty"
	cron      = "github.com/netresearch/go-cron"
	pgx       = "github.com/jackc/pgx/v5"
	pglogrepl = "github.com/jackc/pglogrepl"
	flock     = "github.com/gofrs/flock"
	sys       = "golang.org/x/sys"
	errgroup  = "golang.org/x/sync"
	backoff   = "github.com/cenkalti/backoff/v5"
	xxh3      = "github.com/zeebo/xxh3"
)

// rooms are the arrows of the house. What is not listed may not be imported.
func rooms() map[string]room {
	return map[string]room{
		"cmd/pgkeep": {may: []string{
			"cmd/pgkeep/agent", "cmd/pgkeep/demo", "hclspec", "state", "state/jsonlist", "state/wal", "state/postgres", "state/spool", "state/host", "state/observe",
			"state/repository", "state/repository/store", "state/repository/store/open", "state/repository/store/location", "state/repository/seal", "state/repository/seal/keyfile", "plan", "plan/render",
			"steps", "steps/receive", "steps/basebackup", "steps/recovery", "steps/export",
			hcl, "github.com/spf13", "github.com/jedib0t/go-pretty/v6", "golang.org/x/term",
		}},
		"cmd/pgkeep/agent": {may: []string{
			"hclspec", "state", "state/wal", "state/postgres", "state/spool", "state/host", "state/observe", "state/repository",
			"plan", "plan/render", "steps", "steps/receive", hcl, "github.com/coreos/go-systemd/v22", backoff, errgroup,
		}},
		"cmd/pgkeep/demo": {may: []string{"examples/demo", "state", "state/host", pgx}}, // it plays an application: see its doc.go
		"hclspec":         {may: []string{"state/wal", "state/repository/store/location", hcl, cty, cron, "github.com/agext/levenshtein", "filippo.io/age"}, pure: true},
		"state":           {may: []string{"state/wal"}, pure: true},
		"state/jsonlist":  {pure: true},
		"state/wal":       {pure: true},
		"state/postgres":  {may: []string{"state", "state/jsonlist", "state/wal", pgx, sys, pglogrepl}},
		"state/spool":     {may: []string{"state", "state/wal", flock, sys}},
		"state/host":      {may: []string{"state", "state/wal", flock, sys}},
		"state/repository": {may: []string{
			"state", "state/jsonlist", "state/wal", "state/repository/store", "state/repository/seal", xxh3, errgroup, flock, "filippo.io/age",
		}},
		"state/repository/store":                   {},
		"state/repository/store/location":          {may: []string{"state/repository/store"}, pure: true},
		"state/repository/store/file":              {may: []string{"state/repository/store", sys}},
		"state/repository/store/remote":            {may: []string{"state/repository/store", backoff, errgroup, "golang.org/x/time"}},
		"state/repository/store/s3":                {may: append(driver(), "github.com/minio/minio-go/v7", errgroup)},
		"state/repository/store/sftp":              {may: append(driver(), "github.com/pkg/sftp", "golang.org/x/crypto/ssh")},
		"state/repository/store/azure":             {may: append(driver(), "github.com/Azure/azure-sdk-for-go")},
		"state/repository/store/gcs":               {may: append(driver(), "golang.org/x/oauth2")},
		"state/repository/store/open":              {may: append(driver(), "state/repository/store/azure", "state/repository/store/file", "state/repository/store/gcs", "state/repository/store/s3", "state/repository/store/sftp")},
		"state/repository/store/storetest":         {may: []string{"state/repository/store", "state/repository/store/remote", "github.com/google/go-cmp"}},
		"state/repository/store/storetest/servers": {may: []string{"github.com/Azure/azure-sdk-for-go", "github.com/minio/minio-go/v7", "golang.org/x/crypto/ssh"}},
		"state/repository/seal": {may: []string{
			"state", "state/wal", "github.com/klauspost", "github.com/pierrec/lz4/v4", "filippo.io/age", "golang.org/x/crypto/chacha20poly1305",
		}},
		"state/repository/seal/keyfile": {may: []string{"hclspec", "state", "state/repository/seal"}},
		"state/host/hosttest":           {may: []string{sys}},
		"state/observe": {may: []string{
			"hclspec", "state", "state/jsonlist", "state/wal", "state/postgres", "state/spool", "state/host", "state/repository", "state/repository/store",
			"state/repository/store/open", "state/repository/seal", "state/repository/seal/keyfile", hcl, errgroup,
		}},
		"plan":        {may: []string{"hclspec", "state", "state/wal", hcl, cron}, pure: true},
		"plan/render": {may: []string{"plan", "hclspec", "state", "state/wal", hcl, "github.com/jedib0t/go-pretty/v6"}, pure: true},
		"steps": {may: []string{
			"plan", "hclspec", "state", "state/wal", "state/postgres", "state/spool", "state/host", "state/observe", "state/repository",
			"state/repository/store", "state/repository/store/open", "state/repository/seal", "state/repository/seal/keyfile", "steps/receive", "steps/basebackup",
			"steps/recovery", hcl, errgroup, flock,
		}},
		"steps/receive": {may: []string{
			"state", "state/wal", "state/postgres", "state/spool", "state/repository", "state/repository/store", backoff, errgroup,
		}},
		"steps/basebackup": {may: []string{
			"state", "state/wal", "state/postgres", "state/repository", "state/repository/store", errgroup, xxh3,
		}},
		"steps/recovery": {may: []string{
			"plan", "hclspec", "state", "state/wal", "state/postgres", "state/spool", "state/host", "state/repository",
			"state/repository/store", "state/repository/store/open", "state/repository/seal/keyfile", errgroup, sys, backoff, flock,
		}},
		"steps/export": {may: []string{
			"state", "state/wal", "state/postgres", "state/host", "state/repository", "state/repository/store", errgroup,
			"github.com/klauspost", "github.com/pierrec/lz4/v4",
		}},
		"state/postgres/pgtest": {may: []string{"state/wal", pgx, sys}},
		"steps/torture":         {},
		"examples/demo":         {pure: true},
		"examples":              {may: []string{"hclspec", "plan", "plan/render", "state"}},
	}
}

// driver is what every driver of a provider's store imports.
func driver() []string {
	return []string{"state/repository/store", "state/repository/store/location", "state/repository/store/remote"}
}

// impure are the standard packages that no pure room imports.
var impure = []string{"net", "net/http", "os", "os/exec", "os/signal", "syscall", "math/rand", "math/rand/v2", "crypto/rand", "sync", "sync/atomic"}

// violations walks the Go files below root that are not tests and lists every import that no room allows.
func violations(root fs.FS, house map[string]room) ([]string, error) {
	var out []string
	err := eachFile(root, func(name string, f *ast.File, _ *token.FileSet) {
		at := path.Dir(name)
		r, known := house[at]
		if !known {
			out = append(out, fmt.Sprintf("%s: package %s is in no room of the house", name, at))
			return
		}
		for _, spec := range f.Imports {
			target, err := strconv.Unquote(spec.Path.Value)
			if err == nil && !allowed(r, target) {
				out = append(out, fmt.Sprintf("%s imports %s", name, target))
			}
		}
	})
	return out, err
}

func allowed(r room, target string) bool {
	if inner, ours := strings.CutPrefix(target, module+"/"); ours {
		return slices.Contains(r.may, inner)
	}
	if first, _, _ := strings.Cut(target, "/"); !strings.Contains(first, ".") {
		return !r.pure || !slices.Contains(impure, target)
	}
	return slices.ContainsFunc(r.may, func(m string) bool { return target == m || strings.HasPrefix(target, m+"/") })
}

func eachFile(root fs.FS, visit func(name string, f *ast.File, set *token.FileSet)) error {
	return fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (name != "." && strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "bin") {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		source, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		set := token.NewFileSet()
		f, err := parser.ParseFile(set, name, source, parser.ParseComments)
		if err != nil {
			return err
		}
		visit(name, f, set)
		return nil
	})
}

func house(t *testing.T) fs.FS {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return os.DirFS(root)
}

func TestArrows(t *testing.T) {
	got, err := violations(house(t), rooms())
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range got {
		t.Error(v)
	}
}

func TestArrowsSeePlantedImports(t *testing.T) {
	for name, planted := range map[string]struct{ file, source string }{
		"a pure room that opens files":      {"plan/leak.go", "package plan\nimport _ \"os\"\n"},
		"the language that asks a server":   {"hclspec/leak.go", "package hclspec\nimport _ \"" + module + "/state/postgres\"\n"},
		"cty outside the language":          {"plan/cty.go", "package plan\nimport _ \"github.com/zclconf/go-cty/cty\"\n"},
		"a library nobody argued for":       {"steps/leak.go", "package steps\nimport _ \"github.com/example/lib\"\n"},
		"a package outside the five rooms":  {"internal/misc/a.go", "package misc\n"},
		"a store that knows what keys mean": {"state/repository/store/leak.go", "package store\nimport _ \"" + module + "/state/repository\"\n"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, filepath.FromSlash(planted.file))
			if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(planted.source), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := violations(os.DirFS(dir), rooms())
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != 1 {
				t.Errorf("the planted file %s gives %d violations, want 1: %q", planted.file, len(got), got)
			}
		})
	}
}

const (
	maxFileLines     = 500
	maxFunctionLines = 80
	maxParameters    = 5
)

func TestCeilings(t *testing.T) {
	err := eachFile(house(t), func(name string, f *ast.File, set *token.FileSet) {
		if lines := set.File(f.Pos()).LineCount(); lines > maxFileLines {
			t.Errorf("%s has %d lines, over %d", name, lines, maxFileLines)
		}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s has an init function", name)
			}
			if lines := set.Position(fn.End()).Line - set.Position(fn.Pos()).Line + 1; lines > maxFunctionLines {
				t.Errorf("%s: %s has %d lines, over %d", name, fn.Name.Name, lines, maxFunctionLines)
			}
			if n := fn.Type.Params.NumFields(); n > maxParameters {
				t.Errorf("%s: %s has %d parameters, over %d", name, fn.Name.Name, n, maxParameters)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// clockless rooms take the time as an argument.
var clockless = []string{"plan", "plan/render", "hclspec", "state", "state/wal", "state/repository", "state/repository/seal"}

func TestTimeIsAnArgument(t *testing.T) {
	err := eachFile(house(t), func(name string, f *ast.File, set *token.FileSet) {
		if !slices.Contains(clockless, path.Dir(name)) {
			return
		}
		ast.Inspect(f, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, ok := sel.X.(*ast.Ident); ok && x.Name == "time" && (sel.Sel.Name == "Now" || sel.Sel.Name == "Since" || sel.Sel.Name == "Until") {
				t.Errorf("%s reads the clock with time.%s", set.Position(sel.Pos()), sel.Sel.Name)
			}
			return true
		})
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestTopLevelIsFixed(t *testing.T) {
	fixed := []string{
		"cmd", "plan", "steps", "hclspec", "state", "examples", "go.mod", "go.sum", "CHANGELOG.md",
		"README.md", "LICENSE", "CONTRIBUTING.md", "Makefile", "bench", "docs", "bin",
	}
	entries, err := fs.ReadDir(house(t), ".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") && !slices.Contains(fixed, e.Name()) {
			t.Errorf("%s stands at the top level", e.Name())
		}
	}
}
