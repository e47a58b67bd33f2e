package plan_test

import (
	"testing"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
)

// TestNothingIsPlannedFromAClusterThatWasNotSeen: its repository was, and holds others.
func TestNothingIsPlannedFromAClusterThatWasNotSeen(t *testing.T) {
	s := readStory(t, "testdata/stories/prune.txtar")
	c := s.seen.Repositories["main"].Clusters["orders"][0]
	s.seen.Repositories["main"].Clusters["orders"][0] = state.Cluster{
		Name: c.Name, SystemID: c.SystemID, Unknown: &state.Unknown{Code: state.CodeCorrupt, Because: "cluster.json cannot be trusted"},
	}
	p, _ := plan.Build(s.spec, s.seen, s.now, s.opt)
	for _, x := range p.Steps {
		t.Errorf("planned %s", x.ID)
	}
	if len(p.NotDone) == 0 || len(p.Findings) == 0 || p.Findings[0].Code != state.CodeCorrupt || len(p.Windows) != 1 || p.Windows[0].Unknown == "" {
		t.Errorf("not done %+v, findings %+v, windows %+v", p.NotDone, p.Findings, p.Windows)
	}
}

// TestACorruptBackupStaysWithItsWAL: it is neither pruned nor counted, and as long as nobody knows where it begins no WAL
// goes.
func TestACorruptBackupStaysWithItsWAL(t *testing.T) {
	s := readStory(t, "testdata/stories/prune.txtar")
	backups := s.seen.Repositories["main"].Clusters["orders"][0].Backups
	backups[0].State, backups[0].Redo, backups[0].Failure = state.BackupCorrupt, 0, "START.json cannot be trusted"
	p, _ := plan.Build(s.spec, s.seen, s.now, s.opt)
	found := false
	for _, f := range p.Findings {
		found = found || f.Code == state.CodeCorrupt
	}
	if !found {
		t.Errorf("nobody is told: %+v", p.Findings)
	}
	for _, x := range p.Steps {
		switch a := x.Action.(type) {
		case plan.PruneWAL:
			t.Errorf("WAL goes: %+v", a)
		case plan.Prune:
			for _, id := range a.Backups {
				if id == backups[0].ID {
					t.Errorf("it is pruned: %+v", a)
				}
			}
			if a.Clock.IsZero() || a.Clock.After(s.now) {
				t.Errorf("by the clock %s", a.Clock)
			}
		}
	}
	r := plan.Retain(&s.seen.Repositories["main"].Clusters["orders"][0], plan.Rules{Minimum: 1, Redundancy: 1}, s.now, 1)
	if free := r.NeedlessWAL(); len(free) > 0 {
		t.Errorf("WAL is taken as needless: %v", free)
	}
}
