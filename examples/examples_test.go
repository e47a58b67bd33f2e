// Package examples holds one folder for each use of pgkeep. This test plans every one of them.
package examples

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/plan/render"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

var now = time.Date(2026, 2, 10, 9, 0, 0, 0, time.UTC)

// TestExamples: every folder with HCL has a README of about ten lines, loads without a warning, and plans what its use
// needs on servers that answer and directories that are empty.
func TestExamples(t *testing.T) {
	files, err := filepath.Glob("*/*.hcl")
	if err != nil || len(files) < 6 {
		t.Fatalf("found %d examples: %v", len(files), err)
	}
	for _, file := range files {
		dir := filepath.Dir(file)
		t.Run(dir, func(t *testing.T) {
			readme, err := os.ReadFile(filepath.Join(dir, "README.md"))
			if lines := bytes.Count(readme, []byte("\n")); err != nil || lines < 5 || lines > 16 {
				t.Errorf("README.md has %d lines: %v", lines, err)
			}
			spec, diags := hclspec.Load(os.DirFS("."), dir, hclspec.LoadOptions{Version: "0.1.0", Hostname: "backup1"})
			if len(diags) > 0 {
				t.Fatal(diags.Error())
			}
			p, planned := plan.Build(spec, untouched(spec), now, plan.Options{})
			if planned.HasErrors() {
				t.Fatal(planned.Error())
			}
			verbs := map[string]int{}
			for _, s := range p.Steps {
				verbs[plan.Verb(s.Action)]++
			}
			if verbs["create-repository"] != len(spec.Repositories) || verbs["create-slot"] != len(spec.Servers) ||
				verbs["start-receiver"] != len(spec.Servers) || verbs["take-backup"] != len(spec.Servers) || len(p.NotDone) > 0 {
				var text bytes.Buffer
				_ = render.Text(&text, p, render.TextOptions{})
				t.Errorf("planned %v for %d servers and %d repositories:\n%s", verbs, len(spec.Servers), len(spec.Repositories), text.String())
			}
			if drops := verbs["drop-slot"]; drops != len(spec.Removed) {
				t.Errorf("planned %d drop-slot for %d removed blocks", drops, len(spec.Removed))
			}
			for _, r := range spec.Recoveries {
				asked, _ := plan.Build(spec, untouched(spec), now, plan.Options{Recover: r.Name})
				if len(asked.NotDone) == 0 || !strings.Contains(asked.NotDone[len(asked.NotDone)-1].What, r.Name) {
					t.Errorf("recovery %s of an empty repository is not refused", r.Name)
				}
			}
		})
	}
}

// untouched is a world in which the configuration's servers answer and nothing of pgkeep exists yet.
func untouched(spec *hclspec.Spec) state.Observation {
	seen := state.Observation{
		Version: state.ObservationVersion, At: now, Host: "backup1", Servers: map[string]state.Server{}, Receivers: map[string]state.Receiver{},
		Spools: map[string]state.Spool{}, Repositories: map[string]state.Repository{},
	}
	absent := &state.Unknown{Code: state.CodeAbsent, Because: "the directory does not exist"}
	for _, r := range spec.Repositories {
		seen.Repositories[r.Name] = state.Repository{Unknown: absent, Location: r.Path}
	}
	server := state.Server{
		SystemID: "7335180256203400928", Version: 150018, Timeline: 1, FlushLSN: 0x3000060, SegmentSize: wal.DefaultSegmentSize, Now: now,
		Role: state.Role{Name: "pgkeep", Replication: true},
	}
	for _, s := range spec.Servers {
		seen.Servers[s.Name] = server
		seen.Receivers[s.Name] = state.Receiver{}
		seen.Spools[s.Name] = state.Spool{Unknown: absent}
	}
	for _, r := range spec.Removed {
		gone := server
		gone.Slots = []state.Slot{{Name: r.SlotName, Physical: true, RestartLSN: 0x1000000}}
		seen.Servers[r.Name] = gone
	}
	return seen
}
