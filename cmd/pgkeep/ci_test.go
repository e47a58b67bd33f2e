package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/pgkeep/pgkeep/state/host"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
)

// gh stands in for the forge's program: it keeps one comment in the file COMMENT.
const gh = `#!/bin/sh
case "$*" in
"pr comment"*) cp "$5" "$COMMENT" ;;
*/pulls*) echo 1 ;;
*/comments*) [ ! -f "$COMMENT" ] || base64 -w 0 "$COMMENT" ;;
*) echo "gh: not expected: $*" >&2; exit 1 ;;
esac
`

// pipeline runs the shell lines of a CI example where a runner would: in a checkout beside a real server.
type pipeline struct {
	t        *testing.T
	dir, bin string
}

// newPipeline lays out the example's HCL for this machine, with two changes that a test needs: there is no window, so that
// backups become old at once, and the spool is beside the checkout.
func newPipeline(t *testing.T, example string) *pipeline {
	t.Helper()
	if testing.Short() {
		t.Skip("starts a server")
	}
	s := pgtest.Start(t, pgtest.Options{Version: newest(pgtest.Versions(t))})
	here, err := host.Name()
	ok(t, err)
	dir, err := os.MkdirTemp("/var/tmp", "pgkeep-ci-")
	ok(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	p := &pipeline{t: t, dir: filepath.Join(dir, "checkout"), bin: filepath.Join(dir, "bin")}
	ok(t, errors.Join(os.Mkdir(p.dir, 0o700), os.Mkdir(p.bin, 0o700)))
	ok(t, os.WriteFile(filepath.Join(p.bin, "gh"), []byte(gh), 0o700)) // #nosec: it is a program
	source, err := os.ReadFile(filepath.Join("..", "..", "examples", example, "pgkeep.hcl"))
	ok(t, err)
	for _, change := range [][2]string{
		{`"/srv/pgkeep"`, `"` + filepath.Join(dir, "repository") + `"`},
		{`"backup1"`, `"` + here + `"`},
		{`host=10.0.1.1 user=pgkeep dbname=postgres sslmode=verify-full passfile=${var.pgpass}`, s.Conninfo()},
		{"  receiver {\n", "  receiver {\n    spool = \"" + filepath.Join(dir, "spool") + "\"\n    spool_limit = \"1TiB\"\n"},
		{`  recovery_window    = "7d"` + "\n", ""},
	} {
		if !strings.Contains(string(source), change[0]) {
			t.Fatalf("examples/%s/pgkeep.hcl has no %s", example, change[0])
		}
		source = []byte(strings.ReplaceAll(string(source), change[0], change[1]))
	}
	ok(t, os.WriteFile(filepath.Join(p.dir, "pgkeep.hcl"), source, 0o600))
	p.must("pgkeep fmt")
	t.Cleanup(func() { p.run("pgkeep receiver stop orders") })
	return p
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// run runs shell lines as the forges do, and gives what they print and the exit code.
func (p *pipeline) run(lines string, env ...string) (string, int) {
	p.t.Helper()
	cmd := exec.Command("bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", lines)
	cmd.Dir = p.dir
	cmd.Env = append(os.Environ(), append(env, "PATH="+p.bin+":"+os.Getenv("PATH"), "COMMENT="+filepath.Join(p.bin, "comment"))...)
	out, err := cmd.CombinedOutput()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		p.t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

func (p *pipeline) must(lines string, env ...string) string {
	p.t.Helper()
	out, code := p.run(lines, env...)
	if code != 0 {
		p.t.Fatalf("%s\nended with %d:\n%s", lines, code, out)
	}
	return out
}

// grow takes backups until the oldest of them is kept by no rule.
func (p *pipeline) grow() {
	p.t.Helper()
	for range 3 {
		p.must("pgkeep backup orders --wait")
	}
}

func readYAML(t *testing.T, name string, into any) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "examples", name))
	ok(t, err)
	ok(t, yaml.Unmarshal(data, into))
}

// TestGitHubActions runs the workflow's own lines: a pull request is planned, the merge is applied; then backups become
// old, and are deleted only when the comment showed that.
func TestGitHubActions(t *testing.T) {
	p := newPipeline(t, "github-actions")
	var workflow struct {
		Jobs map[string]struct {
			Steps []struct{ Run string }
		}
	}
	readYAML(t, "github-actions/pgkeep.yml", &workflow)
	job := func(name string) (out string, code int) {
		for _, s := range workflow.Jobs[name].Steps {
			if s.Run == "" {
				continue
			}
			if out, code = p.run(s.Run, "PR=1", "COMMIT=0"); code != 0 {
				return out, code
			}
		}
		return out, code
	}
	expect := func(name string, want int) string {
		t.Helper()
		out, code := job(name)
		if code != want {
			t.Fatalf("job %s ended with %d, want %d:\n%s", name, code, want, out)
		}
		return out
	}
	expect("plan", 0)
	if out := expect("apply", 0); !strings.Contains(out, `"exit_code":0`) {
		t.Errorf("apply does not tell its end:\n%s", out)
	}
	if out := expect("drift", 8); !strings.Contains(out, "minimum_redundancy is 2") {
		t.Errorf("one backup is fewer than two, and drift says:\n%s", out)
	}
	p.grow()
	if out := expect("apply", 7); !strings.Contains(out, "not approved") {
		t.Errorf("nobody saw that backups go, and apply says:\n%s", out)
	}
	expect("plan", 0)
	if out := expect("apply", 0); !strings.Contains(out, `"action":"prune"`) {
		t.Errorf("the comment showed that backups go, and apply says:\n%s", out)
	}
	expect("drift", 0)
}

// TestAtlantis runs the lines of the server-side workflow: a saved plan is applied as it is, or not at all.
func TestAtlantis(t *testing.T) {
	p := newPipeline(t, "atlantis")
	type stage struct {
		Steps []struct {
			Env struct{ Name, Value string }
			Run yaml.Node
		}
	}
	var server struct {
		Workflows map[string]map[string]stage
	}
	readYAML(t, "atlantis/repos.yaml", &server)
	do := func(name string) (out string, code int) {
		var env []string
		for _, s := range server.Workflows["pgkeep"][name].Steps {
			lines := s.Run.Value
			if s.Run.Kind == yaml.MappingNode {
				var long struct{ Command string }
				ok(t, s.Run.Decode(&long))
				lines = long.Command
			}
			if s.Env.Name != "" {
				env = append(env, s.Env.Name+"="+s.Env.Value)
			}
			if out, code = p.run(lines, env...); code != 0 {
				return out, code
			}
		}
		return out, code
	}
	expect := func(name string, want int) string {
		t.Helper()
		out, code := do(name)
		if code != want {
			t.Fatalf("atlantis %s ended with %d, want %d:\n%s", name, code, want, out)
		}
		return out
	}
	if out := expect("plan", 0); !strings.HasPrefix(out, "### pgkeep plan") {
		t.Errorf("atlantis plan shows:\n%s", out)
	}
	expect("apply", 0)
	if out := expect("apply", 4); !strings.Contains(out, "stale") {
		t.Errorf("the plan was applied already, and atlantis apply says:\n%s", out)
	}
	p.grow()
	expect("plan", 0)
	if out := expect("apply", 0); !strings.Contains(out, "prune") {
		t.Errorf("the saved plan names what goes, and apply says:\n%s", out)
	}
}
