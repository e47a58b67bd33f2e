package steps

import (
	"context"
	"testing"

	"github.com/pgkeep/pgkeep/plan"
)

// TestPruneWALOfPartsAlone: a prune-wal without ranges still asks the repository to remove stale parts, and nothing else.
func TestPruneWALOfPartsAlone(t *testing.T) {
	f := newFake(t)
	f.invariant = newestIsUsable
	step := plan.Step{
		ID: "wal", Impact: plan.Safe, Action: plan.PruneWAL{Server: "orders", SystemID: "7", Repository: "main", StaleParts: true, Clock: epoch},
		Requires: []plan.Condition{{Code: plan.NeedStillNeedless}},
	}
	result, err := Apply(context.Background(), &plan.Plan{Steps: []plan.Step{step}}, f.world(), f.options())
	if err != nil || f.broken != nil {
		t.Fatalf("apply: %v; invariant: %v; %+v", err, f.broken, result.Steps)
	}
	if r := result.Steps[0]; r.Outcome != OutcomeDone || r.Note != "freed 42 bytes" || len(f.deleted) != 0 {
		t.Errorf("outcome %s, %q, deleted %v", r.Outcome, r.Note, f.deleted)
	}
}
