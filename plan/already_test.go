package plan_test

import (
	"strings"
	"testing"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
)

// TestRecoveryIsDone: after a restore the same recovery plans nothing and nothing is unmet; another target, backup or
// directory is refused; a saved plan says that it is done; --start goes on.
func TestRecoveryIsDone(t *testing.T) {
	s := readStory(t, "testdata/stories/recover.txtar")
	build := func(s story) *plan.Plan {
		t.Helper()
		p, diags := plan.Build(s.spec, s.seen, s.now, s.opt)
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		return p
	}
	before := build(s)
	route := before.Steps[0].Action.(plan.RecoverTo).Route
	done := s.seen.Recoveries["before_drop"]
	done.Empty, done.Ours = false, true
	done.Restored = &state.Restored{Backup: route.Backup, SystemID: route.SystemID, Request: route.Request(), Began: s.now.Add(-1)}
	s.seen.Recoveries["before_drop"] = done

	after := build(s)
	if len(after.Steps) != 0 || len(after.Already) != 1 || after.Unmet() || len(after.NotDone) != 0 || len(after.Findings) != 0 {
		t.Errorf("a recovery that is done: %d steps, %+v, not planned %+v, %+v", len(after.Steps), after.Already, after.NotDone, after.Findings)
	}
	if ok, why := before.StillValid(s.spec, s.seen); ok || !strings.Contains(texts(why), "it is done already: backup "+route.Backup) {
		t.Errorf("the plan of it is valid %t: %s", ok, texts(why))
	}

	start := s
	start.opt.Recover, start.opt.RecoverTo, start.opt.Start = "", &s.spec.Recoveries[0], true
	if p := build(start); len(p.Steps) != 1 {
		t.Errorf("a start goes on with what is restored, and %d steps are planned", len(p.Steps))
	}
	other := s
	other.opt.Recover, other.opt.RecoverTo, other.opt.Backup = "", &s.spec.Recoveries[0], "another"
	if p := build(other); len(p.Steps)+len(p.Already) != 0 || !p.Unmet() {
		t.Errorf("another backup: %d steps, %+v", len(p.Steps), p.Already)
	}
	s.spec.Recoveries[0].Target.Inclusive = !s.spec.Recoveries[0].Target.Inclusive
	if p := build(s); len(p.Steps)+len(p.Already) != 0 || !p.Unmet() {
		t.Errorf("another target: %d steps, %+v", len(p.Steps), p.Already)
	}
}
