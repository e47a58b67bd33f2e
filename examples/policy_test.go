package examples

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// opaModule is what judges the example's rule: the program that people run.
const opaModule = "github.com/open-policy-agent/opa@v1.22.2"

// TestPolicy judges saved plans by the rule of the example with a real opa.
func TestPolicy(t *testing.T) {
	if testing.Short() {
		t.Skip("builds opa")
	}
	opa := installed(t, opaModule)
	for _, c := range []struct {
		name   string
		source func(string) string
		old    int // backups that no rule keeps
		denies string
	}{
		{"a first plan", as, 0, ""},
		{"three backups go", as, 3, ""},
		{"four backups go", as, 4, "the plan deletes 4 backups, and 3 at once are allowed: 2026"},
		{"one is kept", with("minimum_redundancy = 2", "minimum_redundancy = 1"), 0, "retention.standard keeps 1 backups at least, and 2 are the least here"},
		{"nothing is scheduled", func(s string) string {
			i, j := strings.Index(s, "schedule \""), strings.Index(s, "retention \"")
			return s[:i] + s[j:]
		}, 0, "server.orders has no schedule"},
		{"a slot is dropped", func(s string) string {
			return s + "\nremoved {\n  from = server.legacy\n  conninfo = \"host=10.0.9.9 user=pgkeep\"\n  slot = \"drop\"\n}\n"
		}, 0, "drops slot pgkeep_legacy"},
	} {
		t.Run(c.name, func(t *testing.T) {
			source, err := os.ReadFile("policy/pgkeep.hcl")
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), "plan.json")
			if err := os.WriteFile(file, savedPlan(t, c.source(string(source)), c.old), 0o600); err != nil {
				t.Fatal(err)
			}
			denied := judge(t, opa, file)
			if c.denies == "" && len(denied) > 0 || c.denies != "" && (len(denied) != 1 || !strings.Contains(denied[0], c.denies)) {
				t.Errorf("the rule says %q, want %q", denied, c.denies)
			}
		})
	}
}

func as(s string) string { return s }

func with(old, now string) func(string) string {
	return func(s string) string { return strings.Replace(s, old, now, 1) }
}

// judge gives what the rule denies, and sees that opa's exit code says the same.
func judge(t *testing.T, opa, file string) []string {
	t.Helper()
	run := func(args ...string) (string, error) {
		args = append([]string{"eval", "--data", "policy/pgkeep.rego", "--input", file}, args...)
		out, err := exec.Command(opa, args...).Output()
		return string(out), err
	}
	out, err := run("--format", "raw", "data.pgkeep.deny")
	if err != nil {
		t.Fatalf("opa: %v\n%s", err, out)
	}
	var denied []string
	if err := json.Unmarshal([]byte(out), &denied); err != nil {
		t.Fatalf("opa printed %q: %v", out, err)
	}
	if _, err := run("--format", "pretty", "--fail-defined", "data.pgkeep.deny[_]"); (err != nil) != (len(denied) > 0) {
		t.Errorf("the command of the README ends with %v for %q", err, denied)
	}
	return denied
}

// savedPlan is what pgkeep plan --out writes, of a server with so many backups that no rule keeps.
func savedPlan(t *testing.T, source string, old int) []byte {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "pgkeep.hcl"), []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	spec, diags := hclspec.Load(os.DirFS(dir), ".", hclspec.LoadOptions{Version: "0.1.0", Hostname: "backup1"})
	if diags.HasErrors() {
		t.Fatal(diags.Error())
	}
	seen := untouched(spec)
	if old > 0 {
		seen.Repositories["main"] = kept(seen.Servers["orders"], old)
	}
	p, diags := plan.Build(spec, seen, now, plan.Options{})
	if diags.HasErrors() {
		t.Fatal(diags.Error())
	}
	s, err := plan.Save(p, spec, seen, plan.Made{Version: "0.1.0", Who: "ci@backup1", Host: "backup1", At: now}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	data, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// kept is a repository with a backup and its WAL for each of the last days: three that the example's retention keeps, and
// older ones that it does not.
func kept(server state.Server, old int) state.Repository {
	const segment = wal.LSN(wal.DefaultSegmentSize)
	cluster := state.Cluster{Name: "orders", SystemID: server.SystemID, Major: 15, SegmentSize: server.SegmentSize}
	days := []int{6, 4, 8, 1} // the one of eight days ago covers the window's beginning
	for i := range old {
		days = append(days, 9+i)
	}
	oldest := 9 + old
	for day := oldest; day > 0; day-- {
		if !slices.Contains(days, day) {
			continue
		}
		began := now.AddDate(0, 0, -day)
		at := wal.LSN(1+oldest-day) * segment
		cluster.Backups = append(cluster.Backups, state.Backup{
			ID: began.Format("20060102T150405Z") + "-F-0000000" + fmt.Sprint(day%10), State: state.BackupCommitted, Kind: "full", Version: 150018, Timeline: 1,
			Redo: at + 0x28, Start: at + 0x28, Stop: at + 0x100, Began: began, Ended: began.Add(time.Minute), DataBytes: 1 << 20, StoredBytes: 1 << 18,
		})
	}
	end := wal.LSN(2+oldest) * segment
	cluster.WAL = []state.WALRange{{
		Range: wal.Range{Timeline: 1, From: segment, To: end}, Bytes: 1 << 20, FirstCommit: now.AddDate(0, 0, -oldest), LastCommit: now.Add(-time.Minute),
	}}
	return state.Repository{
		Location: "/srv/pgkeep", ID: "0d3a", Format: 1, Free: 1 << 40, Total: 1 << 41, Now: now.Add(-time.Minute),
		Clusters: map[string][]state.Cluster{"orders": {cluster}},
	}
}

// installed builds a Go program once into the git-ignored folder of the clone.
func installed(t *testing.T, module string) string {
	t.Helper()
	path, version, _ := strings.Cut(module, "@")
	bin, err := filepath.Abs(filepath.Join("..", ".cache", "bin", filepath.Base(path)+"-"+version))
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(bin, filepath.Base(path))
	if _, err := os.Stat(program); err == nil {
		return program
	}
	install := exec.Command("go", "install", module)
	install.Env = append(os.Environ(), "GOBIN="+bin, "GOFLAGS=-mod=mod", "CGO_ENABLED=0")
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("go install %s: %v\n%s", module, err, out)
	}
	return program
}
