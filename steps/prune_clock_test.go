package steps

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// sweptRepositories remembers by what time was swept.
type sweptRepositories struct {
	Repositories
	swept *[]time.Time
}

func (r sweptRepositories) Cluster(ctx context.Context, label, server, systemID string) (Cluster, error) {
	c, err := r.Repositories.Cluster(ctx, label, server, systemID)
	return sweptCluster{c, r.swept}, err
}

type sweptCluster struct {
	Cluster
	swept *[]time.Time
}

func (c sweptCluster) Sweep(ctx context.Context, now time.Time) (int64, error) {
	*c.swept = append(*c.swept, now)
	return c.Cluster.Sweep(ctx, now)
}

// TestWrongClockHereEndsNoGraceAndNoHold: the machine that applies is 30 hours ahead of the clocks that the plan was made
// by. A backup deleted an hour ago, and one whose hold lasts an hour more, still count.
func TestWrongClockHereEndsNoGraceAndNoHold(t *testing.T) {
	everything := []wal.Range{{Timeline: 1, From: 0x1000000, To: 0x8000000}}
	for _, clock := range []time.Time{epoch, {}} {
		f := newFake(t)
		f.cluster.Backups[0].State, f.cluster.Backups[0].Tombed = state.BackupDeleted, epoch.Add(-time.Hour)
		f.now = epoch.Add(30 * time.Hour)
		var swept []time.Time
		w := f.world()
		w.Repositories = sweptRepositories{w.Repositories, &swept}
		step := plan.Step{ID: "wal", Impact: plan.Safe, Action: plan.PruneWAL{Server: "orders", SystemID: "7", Repository: "main", Ranges: everything, Clock: clock}}
		o := f.options()
		o.Now = func() time.Time { return f.now }
		_, err := Apply(context.Background(), &plan.Plan{Steps: []plan.Step{step}}, w, o)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]wal.Range{{Timeline: 1, From: 0x2000000, To: 0x4000000}}, f.deleted); diff != "" {
			t.Errorf("WAL of a backup deleted an hour ago: %s", diff)
		}
		if len(swept) != 1 || swept[0].After(clock) {
			t.Errorf("swept by %v, the plan's clock is %s", swept, clock)
		}

		held := newFake(t)
		held.now = f.now
		held.cluster.Backups[0].Hold = &state.Hold{Reason: "a restore", Expires: epoch.Add(time.Hour)}
		swept = nil
		w = held.world()
		w.Repositories = sweptRepositories{w.Repositories, &swept}
		step = plan.Step{ID: "prune", Impact: plan.Safe, Action: plan.Prune{Server: "orders", SystemID: "7", Repository: "main", Backups: []string{held.cluster.Backups[0].ID}, Clock: clock}}
		_, _ = Apply(context.Background(), &plan.Plan{Steps: []plan.Step{step}}, w, o) // what it did is what counts
		if len(held.tombed) > 0 {
			t.Errorf("tombed %v although it is held", held.tombed)
		}
		for _, at := range swept {
			if at.After(clock) {
				t.Errorf("swept by %s", at)
			}
		}
	}
}
