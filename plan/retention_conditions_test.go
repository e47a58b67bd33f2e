package plan_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// TestJoinDoesNotDependOnTheOrder: whichever of two blocks comes last, the more careful bound wins.
func TestJoinDoesNotDependOnTheOrder(t *testing.T) {
	careful := hclspec.Retention{RecoveryWindow: 2 * time.Hour, Redundancy: 4, MinimumRedundancy: 3, MaxDelete: 2, Enforce: "approve"}
	careless := hclspec.Retention{RecoveryWindow: time.Hour, Redundancy: 1, MinimumRedundancy: 2, MaxDelete: 5, Enforce: "auto"}
	want := plan.Rules{Window: 2 * time.Hour, Redundancy: 4, Minimum: 3, MaxDelete: 2, Approve: true}
	for name, blocks := range map[string][]*hclspec.Retention{
		"the careful one first": {&careful, &careless},
		"the careful one last":  {&careless, &careful},
		"one without a bound":   {&careful, {Enforce: "auto"}},
	} {
		got := plan.Join(blocks)
		got.Blocks = nil
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// TestFatesThatHangOnOneFact are backups that would have another fate if one fact of their world were not looked at.
func TestFatesThatHangOnOneFact(t *testing.T) {
	const day = 24 * time.Hour
	now := time.Date(2026, 2, 10, 0, 0, 0, 0, time.UTC)
	on := func(id string, tl wal.Timeline, redo wal.LSN, age time.Duration) state.Backup {
		at := now.Add(-age)
		return state.Backup{ID: id, State: state.BackupCommitted, Timeline: tl, Redo: redo, Stop: redo + 0x100, Began: at, Ended: at}
	}
	damaged := func(b state.Backup) state.Backup { b.State = state.BackupDamaged; return b }
	for _, c := range []struct {
		name    string
		backups []state.Backup
		rules   plan.Rules
		clock   time.Time
		want    map[string]plan.Cause
	}{
		{
			"no clock deletes nothing",
			[]state.Backup{on("a", 1, 0x1000028, 20*day), on("b", 1, 0x2000028, 10*day)},
			plan.Rules{Redundancy: 1, Minimum: 1},
			time.Time{},
			map[string]plan.Cause{"a": plan.StaysUnjudged, "b": plan.StaysUnjudged},
		},
		{
			"a damaged one is the last",
			[]state.Backup{on("a", 1, 0x1000028, 20*day), damaged(on("b", 1, 0x2000028, 10*day))},
			plan.Rules{Redundancy: 1, Minimum: 1},
			now,
			map[string]plan.Cause{"a": plan.StaysWindowStart, "b": plan.StaysDamaged},
		},
		{
			"a usable one came after it",
			[]state.Backup{damaged(on("a", 1, 0x1000028, 20*day)), on("b", 1, 0x2000028, 10*day)},
			plan.Rules{Redundancy: 1, Minimum: 1},
			now,
			map[string]plan.Cause{"a": plan.GoesByNoRule, "b": plan.StaysWindowStart},
		},
		{
			"a usable one came after it on a branch that the server is not on",
			[]state.Backup{damaged(on("a", 1, 0x1000028, 20*day)), on("b", 2, 0x6000028, 10*day)},
			plan.Rules{Redundancy: 1, Minimum: 1},
			now,
			map[string]plan.Cause{"a": plan.StaysDamaged, "b": plan.StaysWindowStart},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			cluster := &state.Cluster{
				SegmentSize: wal.DefaultSegmentSize, Backups: c.backups,
				WAL: []state.WALRange{
					{Range: wal.Range{Timeline: 1, From: 0x1000000, To: 0x5000000}, LastCommit: now},
					{Range: wal.Range{Timeline: 2, From: 0x4000000, To: 0x9000000}, LastCommit: now},
				},
				Histories: []state.History{{Timeline: 2, Parents: []state.Parent{{Timeline: 1, Switch: 0x4700000}}}},
			}
			got := map[string]plan.Cause{}
			for _, f := range plan.Retain(cluster, c.rules, c.clock, 1).Fates {
				got[f.Backup.ID] = f.Cause
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestWALOfABackupWhoseStartIsUnreadableStays: which WAL it needs is not known, so none goes; one that is aborted needs
// none.
func TestWALOfABackupWhoseStartIsUnreadableStays(t *testing.T) {
	now := time.Date(2026, 2, 10, 0, 0, 0, 0, time.UTC)
	then := now.Add(-240 * time.Hour)
	for name, c := range map[string]struct {
		state state.BackupState
		want  []wal.Range
	}{
		"corrupt": {state.BackupCorrupt, nil},
		"running": {state.BackupRunning, nil},
		"aborted": {state.BackupAborted, []wal.Range{{Timeline: 1, From: 0x1000000, To: 0x3000000}}},
	} {
		cluster := &state.Cluster{
			SegmentSize: wal.DefaultSegmentSize,
			Backups: []state.Backup{
				{ID: "a", State: c.state, Began: then}, // nor its timeline
				{ID: "b", State: state.BackupCommitted, Timeline: 1, Redo: 0x3000028, Stop: 0x3000100, Began: then, Ended: then},
			},
			WAL: []state.WALRange{{Range: wal.Range{Timeline: 1, From: 0x1000000, To: 0x9000000}, LastCommit: now}},
		}
		r := plan.Retain(cluster, plan.Rules{Redundancy: 1, Minimum: 1}, now, 1)
		if diff := cmp.Diff(c.want, r.NeedlessWAL()); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}
