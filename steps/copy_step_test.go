package steps

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/state/repository/store/open"
	"github.com/pgkeep/pgkeep/state/wal"
)

const (
	goldenServer = "orders.eu"
	goldenSystem = "7335180256203400928"
)

// twoDirectories gives a configuration of a golden repository and an empty one.
func twoDirectories(t *testing.T, golden string) (*hclspec.Spec, [2]string) {
	t.Helper()
	dirs := [2]string{t.TempDir(), t.TempDir()}
	if err := os.CopyFS(dirs[0], os.DirFS(filepath.Join("../state/repository/testdata/golden", golden))); err != nil {
		t.Fatal(err)
	}
	st, err := open.Open(dirs[1])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := repository.Create(t.Context(), st, repository.CreateOptions{Now: epoch}); err != nil {
		t.Fatal(err)
	}
	return &hclspec.Spec{Repositories: []hclspec.Repository{{Name: "main", Path: dirs[0]}, {Name: "second", Path: dirs[1]}}}, dirs
}

func clusterOf(t *testing.T, dir string) *repository.Cluster {
	t.Helper()
	st, err := open.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	r, err := repository.Open(t.Context(), st)
	if err != nil {
		t.Fatal(err)
	}
	return r.Cluster(goldenServer, goldenSystem)
}

func applyOne(t *testing.T, w World, action plan.Action, needs string) StepResult {
	t.Helper()
	p := &plan.Plan{Steps: []plan.Step{{
		ID: "step", Impact: plan.Safe, Action: action, Requires: []plan.Condition{{Code: needs}},
	}}}
	r, _ := Apply(t.Context(), p, w, Options{Auto: []plan.Impact{plan.Safe}, Now: func() time.Time { return epoch }}) // the outcome says what the error does
	return r.Steps[0]
}

// TestCopyStep copies every backup of a golden repository; again it is done already. What is damaged is refused.
func TestCopyStep(t *testing.T) {
	spec, dirs := twoDirectories(t, "format1-incremental")
	w := Bind(spec, BindOptions{LockDir: t.TempDir()})
	from := clusterOf(t, dirs[0])
	backups, err := from.Backups(t.Context())
	if err != nil || len(backups) == 0 {
		t.Fatal(len(backups), err)
	}
	copied := 0
	for _, b := range backups {
		a := plan.CopyBackup{Server: goldenServer, SystemID: goldenSystem, From: "main", Repository: "second", Backup: b.ID}
		got := applyOne(t, w, a, plan.NeedBackup)
		if b.State != state.BackupCommitted {
			if got.Outcome == OutcomeDone || got.Outcome == OutcomeAlready {
				t.Errorf("%s is %s, and its copy is %s", b.ID, b.State, got.Outcome)
			}
			continue
		}
		copied++
		if got.Outcome != OutcomeDone {
			t.Errorf("%s: %s: %v", b.ID, got.Outcome, got.Err)
		}
		if got := applyOne(t, w, a, plan.NeedBackup); got.Outcome != OutcomeAlready {
			t.Errorf("%s again: %s: %v", b.ID, got.Outcome, got.Err)
		}
		err := clusterOf(t, dirs[1]).VerifyBackup(t.Context(), b.ID, true, func(f repository.Finding) { t.Errorf("%s: %s", f.Object, f.Text) })
		if err != nil {
			t.Error(err)
		}
	}
	if copied < 2 {
		t.Errorf("%d backups were copied", copied)
	}
	other := plan.CopyBackup{Server: goldenServer, SystemID: goldenSystem, From: "main", Repository: "second", Backup: backups[0].ID, FromID: "another"}
	if got := applyOne(t, w, other, plan.NeedBackup); got.Outcome != OutcomeStale {
		t.Errorf("from another repository of that label: %s: %v", got.Outcome, got.Err)
	}
	gone := plan.CopyBackup{Server: goldenServer, SystemID: goldenSystem, From: "main", Repository: "second", Backup: "20260101T000000Z-F-0000"}
	if got := applyOne(t, w, gone, plan.NeedBackup); got.Outcome != OutcomeStale {
		t.Errorf("one that is not there: %s: %v", got.Outcome, got.Err)
	}
}

// TestCopyWALStep copies all the WAL of a golden repository, the unfinished ends of left timelines included.
func TestCopyWALStep(t *testing.T) {
	spec, dirs := twoDirectories(t, "format1")
	w := Bind(spec, BindOptions{LockDir: t.TempDir()})
	from, to := clusterOf(t, dirs[0]), clusterOf(t, dirs[1])
	facts, err := from.Facts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	there, err := from.WALRanges(t.Context())
	if err != nil || len(there) == 0 {
		t.Fatal(len(there), err)
	}
	a := plan.CopyWAL{Server: goldenServer, SystemID: goldenSystem, From: "main", Repository: "second"}
	for _, r := range there {
		a.Ranges = append(a.Ranges, wal.Range{Timeline: r.Timeline, From: r.From, To: facts.SegmentSize.Ceil(max(r.To, r.Partial))})
	}
	histories, err := from.Histories(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range histories {
		a.Histories = append(a.Histories, h.Timeline)
	}
	if got := applyOne(t, w, a, plan.NeedWAL); got.Outcome != OutcomeDone {
		t.Fatalf("%s: %v", got.Outcome, got.Err)
	}
	if got := applyOne(t, w, a, plan.NeedWAL); got.Outcome != OutcomeAlready {
		t.Errorf("again: %s: %v", got.Outcome, got.Err)
	}
	have, err := to.WALRanges(t.Context())
	if err != nil || len(have) != len(there) {
		t.Fatalf("%d of %d ranges: %v", len(have), len(there), err)
	}
	for i := range have {
		if have[i].Range != there[i].Range || have[i].Partial != there[i].Partial {
			t.Errorf("%+v is not %+v", have[i], there[i])
		}
	}
	gone := a
	gone.Ranges = []wal.Range{{Timeline: 1, From: 1 << 40, To: 1<<40 + 1<<24}}
	if got := applyOne(t, w, gone, plan.NeedWAL); got.Outcome != OutcomeStale && got.Outcome != OutcomeAlready {
		t.Errorf("WAL that is not there: %s: %v", got.Outcome, got.Err)
	}
}

func (c fragileCopies) Repair(ctx context.Context, a plan.Repair, damage []state.Damage) (out []Repaired, err error) {
	err = c.f.do("repair", func() (err error) {
		out, err = c.real.Repair(ctx, a, damage)
		return err
	})
	return out, err
}

// fragileCopies kills copies between their calls.
type fragileCopies struct {
	f    *fakeWorld
	real Copies
}

func (c fragileCopies) Backup(ctx context.Context, a plan.CopyBackup, report func(done, total int64)) (n int64, alone bool, err error) {
	err = c.f.do("copy backup", func() (err error) {
		n, alone, err = c.real.Backup(ctx, a, report)
		return err
	})
	return n, alone, err
}

func (c fragileCopies) WAL(ctx context.Context, a plan.CopyWAL, report func(done, total int64)) (n int64, err error) {
	err = c.f.do("copy WAL", func() (err error) {
		n, err = c.real.WAL(ctx, a, report)
		return err
	})
	return n, err
}
