package plan_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// TestWALOfABranchThatWasLeft: of a timeline that was left before the window, the WAL beyond the point where it was left is
// needed by backups that stand beyond that point, finished or not, and by no backup that the server's line holds.
func TestWALOfABranchThatWasLeft(t *testing.T) {
	now := time.Date(2026, 2, 10, 0, 0, 0, 0, time.UTC)
	const day = 24 * time.Hour
	backup := func(id string, tl wal.Timeline, redo wal.LSN, age time.Duration) state.Backup {
		began := now.Add(-age)
		return state.Backup{ID: id, State: state.BackupCommitted, Timeline: tl, Redo: redo, Stop: redo + 0x100, Began: began, Ended: began}
	}
	running := state.Backup{ID: "r", State: state.BackupRunning, Timeline: 1, Redo: 0x3000028, Began: now.Add(-20 * day)}
	wals := []state.WALRange{
		{Range: wal.Range{Timeline: 1, From: 0x1000000, To: 0x5000000}, LastCommit: now.Add(-20 * day)},
		{Range: wal.Range{Timeline: 2, From: 0x2000000, To: 0x9000000}, LastCommit: now},
	}
	histories := []state.History{{Timeline: 2, Parents: []state.Parent{{Timeline: 1, Switch: 0x2700000}}}}
	for name, c := range map[string]struct {
		branch state.Backup
		want   []wal.Range
	}{
		"before the point, held by both lines":   {backup("a", 1, 0x1000028, 25*day), []wal.Range{{Timeline: 1, From: 0x3000000, To: 0x5000000}}},
		"beyond the point, on the branch alone":  {backup("a", 1, 0x4000028, 20*day), []wal.Range{{Timeline: 1, From: 0x1000000, To: 0x4000000}, {Timeline: 2, From: 0x2000000, To: 0x6000000}}},
		"beyond the point, and still written to": {running, []wal.Range{{Timeline: 2, From: 0x2000000, To: 0x6000000}}},
	} {
		t.Run(name, func(t *testing.T) {
			cluster := &state.Cluster{
				SegmentSize: wal.DefaultSegmentSize, WAL: wals, Histories: histories,
				Backups: []state.Backup{c.branch, backup("b", 2, 0x6000028, 3*day), backup("c", 2, 0x8000028, 2*day)},
			}
			r := plan.Retain(cluster, plan.Rules{Window: day, Redundancy: 5, Minimum: 1}, now, 2)
			if diff := cmp.Diff(c.want, r.NeedlessWAL()); diff != "" {
				t.Error(diff)
			}
		})
	}
}
