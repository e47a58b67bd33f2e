package steps

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/wal"
)

// lockedCluster deletes nothing: its objects are locked.
type lockedCluster struct {
	fakeCluster
	until time.Time
}

func (c lockedCluster) refuse() error {
	return &repository.LockedError{Until: c.until, Err: store.ErrRetained}
}
func (c lockedCluster) Sweep(context.Context, time.Time) (int64, error)        { return 0, c.refuse() }
func (c lockedCluster) RemoveAborted(context.Context, string) (int64, error)   { return 0, c.refuse() }
func (c lockedCluster) DeleteWAL(context.Context, []wal.Range) (int64, error)  { return 7, c.refuse() }
func (c lockedCluster) LockedUntil(context.Context, string) (time.Time, error) { return c.until, nil }
func (c lockedCluster) WALRanges(context.Context) ([]state.WALRange, error) {
	return c.cluster.WAL, nil
}

func (c lockedCluster) Backups(context.Context) ([]state.Backup, error) {
	return c.cluster.Backups, nil
}

func (c lockedCluster) Tomb(context.Context, string, time.Time) error {
	panic("a locked backup was to be hidden")
}
func (c lockedCluster) RepositoryID() string { return "" }

// TestLocksAreNoFailures: a step that meets locks does the rest, is done, and says until when what stays is locked.
func TestLocksAreNoFailures(t *testing.T) {
	now := func() time.Time { return time.Date(2026, 2, 10, 0, 0, 0, 0, time.UTC) }
	c := lockedCluster{fakeCluster{&fakeWorld{}}, now().Add(48 * time.Hour)}
	segments := wal.Range{Timeline: 1, From: 1 << 24, To: 2 << 24}
	c.cluster.WAL = []state.WALRange{{Range: segments}}
	for name, x := range map[string]struct {
		was  state.BackupState
		step interface {
			step
			Note() string
		}
	}{
		"prune":             {state.BackupCommitted, &prune{action: plan.Prune{Backups: []string{"b"}, Clock: now()}, now: now, cluster: c}},
		"sweep":             {state.BackupDeleted, &prune{action: plan.Prune{Backups: []string{"b"}, Sweep: true, Clock: now()}, now: now, cluster: c}},
		"remove-incomplete": {state.BackupAborted, &removeIncomplete{action: plan.RemoveIncomplete{Backups: []string{"b"}}, now: now, cluster: c}},
		"remove cut":        {state.BackupCut, &removeIncomplete{action: plan.RemoveIncomplete{Backups: []string{"b"}}, now: now, cluster: c}},
		"prune-wal":         {state.BackupCommitted, &pruneWAL{action: plan.PruneWAL{Clock: now()}, now: now, cluster: c, ranges: []wal.Range{segments}}},
	} {
		t.Run(name, func(t *testing.T) {
			c.cluster.Backups = []state.Backup{{ID: "b", State: x.was}}
			if done, err := x.step.Done(t.Context()); done || err != nil {
				t.Fatalf("done before: %t, %v", done, err)
			}
			if err := x.step.Run(t.Context(), nil); err != nil {
				t.Fatalf("run: %v", err)
			}
			if done, err := x.step.Done(t.Context()); !done || err != nil {
				t.Errorf("done after: %t, %v", done, err)
			}
			if note := x.step.Note(); !strings.Contains(note, "2026-02-12 00:00:00 UTC") {
				t.Errorf("note %q", note)
			}
		})
	}
}
