package steps

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
)

// TestRepairStep: what is damaged in a copy is healed from the original, and counts again; what is damaged in both is said
// to be lost, and the step fails.
func TestRepairStep(t *testing.T) {
	spec, dirs := twoDirectories(t, "format1-backups")
	w := Bind(spec, BindOptions{LockDir: t.TempDir()})
	const id = "20260210T221617Z-F-00000001"
	copied := applyOne(t, w, plan.CopyBackup{Server: goldenServer, SystemID: goldenSystem, From: "main", Repository: "second", Backup: id}, plan.NeedBackup)
	if copied.Outcome != OutcomeDone {
		t.Fatal(copied.Outcome, copied.Err)
	}
	volume := func(dir string) string {
		return filepath.Join(dir, "c", goldenServer, goldenSystem, "b", id, "v/base/000000")
	}
	truncate := func(dir string) {
		t.Helper()
		if err := os.Truncate(volume(dir), 50); err != nil {
			t.Fatal(err)
		}
	}
	look := func() state.Verification {
		t.Helper()
		v, err := w.Verifications.Verify(t.Context(), plan.Verify{Server: goldenServer, SystemID: goldenSystem, Repository: "second", Level: "full"},
			VerifyOptions{Backups: []string{id}}, func(int64, int64) {})
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	counted := func() state.BackupState {
		t.Helper()
		backups, err := clusterOf(t, dirs[1]).Trusted(t.Context(), nil, time.Time{})
		if err != nil || len(backups) != 1 {
			t.Fatal(backups, err)
		}
		return backups[0].State
	}
	action := plan.Repair{Server: goldenServer, SystemID: goldenSystem, Repository: "second", From: []string{"main"}}
	truncate(dirs[1])
	for _, f := range look().Damage {
		action.Objects = append(action.Objects, f.Object)
	}
	if len(action.Objects) != 1 || counted() != state.BackupCorrupt {
		t.Fatalf("damaged: %v, %s", action.Objects, counted())
	}
	if r := applyOne(t, w, action, plan.NeedDamage); r.Outcome != OutcomeDone || !strings.Contains(r.Note, "1 of 1 objects healed from main") {
		t.Errorf("%s %q: %v", r.Outcome, r.Note, r.Err)
	}
	if counted() != state.BackupCommitted {
		t.Errorf("healed, and it is %s", counted())
	}
	if r := applyOne(t, w, action, plan.NeedDamage); r.Outcome != OutcomeAlready {
		t.Errorf("again: %s: %v", r.Outcome, r.Err)
	}

	truncate(dirs[0])
	truncate(dirs[1])
	look()
	r := applyOne(t, w, action, plan.NeedDamage)
	if r.Outcome != OutcomeFailed || state.CodeOf(r.Err) != state.CodeCorrupt || !strings.Contains(r.Err.Error(), "lost in this repository: "+id) {
		t.Errorf("damaged in both: %s: %v", r.Outcome, r.Err)
	}
	if info, err := os.Stat(volume(dirs[1])); err != nil || info.Size() != 50 {
		t.Errorf("what could not be healed was touched: %v %v", info, err)
	}
}
