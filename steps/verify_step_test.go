package steps

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
)

// TestVerifyStep: a look that is due is made once; what it finds fails the step, once, and stays known.
func TestVerifyStep(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("../state/repository/testdata/golden/format1-backups")); err != nil {
		t.Fatal(err)
	}
	since := time.Now().Add(-time.Hour)
	apply := func(since time.Time) StepResult {
		t.Helper()
		w := Bind(&hclspec.Spec{Repositories: []hclspec.Repository{{Name: "main", Path: dir}}}, BindOptions{LockDir: t.TempDir()})
		p := &plan.Plan{Steps: []plan.Step{{
			ID: "server.orders.eu/verify/main", Change: plan.NoChange, Impact: plan.Safe,
			Action:   plan.Verify{Server: "orders.eu", SystemID: "7335180256203400928", Repository: "main", Level: "full", Since: since},
			Requires: []plan.Condition{{Code: plan.NeedUnverified}},
		}}}
		r, _ := Apply(t.Context(), p, w, Options{Auto: []plan.Impact{plan.Safe}}) // the outcome says what the error does
		return r.Steps[0]
	}
	if r := apply(since); r.Outcome != OutcomeDone {
		t.Errorf("the first look: %s %s %v", r.Outcome, r.Note, r.Err)
	}
	if r := apply(since); r.Outcome != OutcomeAlready {
		t.Errorf("the same once more: %s %s %v", r.Outcome, r.Note, r.Err)
	}
	volumes, err := filepath.Glob(filepath.Join(dir, "c/orders.eu/7335180256203400928/b/20260210T221617Z-F-00000001/v/base/*"))
	if err != nil || len(volumes) == 0 {
		t.Fatal("no volumes", err)
	}
	if err := os.Truncate(volumes[0], 50); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	if r := apply(now); r.Outcome != OutcomeFailed || state.CodeOf(r.Err) != state.CodeCorrupt {
		t.Errorf("a damaged volume: %s %s %v", r.Outcome, r.Note, r.Err)
	}
	if r := apply(now); r.Outcome != OutcomeAlready {
		t.Errorf("it is looked for again before it is due: %s %s %v", r.Outcome, r.Note, r.Err)
	}
}
