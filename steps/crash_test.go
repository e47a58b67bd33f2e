package steps

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// story is one kind of step: the world that asks for it, the plan that such a world gets, and what must never be.
type story struct {
	name  string
	world func(*fakeWorld)
	// steps is what a fresh plan of the world holds; nothing when it is as it should be.
	steps     func(*fakeWorld) []plan.Step
	invariant func(*fakeWorld) error
}

func one(action plan.Action, requires ...string) []plan.Step {
	s := plan.Step{ID: "step", Action: action, Impact: plan.Safe}
	for _, code := range requires {
		s.Requires = append(s.Requires, plan.Condition{Code: code, Value: "1"})
	}
	return []plan.Step{s}
}

func stories() []story {
	ranges := []wal.Range{{Timeline: 1, From: 0x1000000, To: 0x4000000}}
	return []story{
		{
			name:  "create-repository",
			world: func(f *fakeWorld) { f.exists = false },
			steps: func(f *fakeWorld) []plan.Step {
				if f.exists {
					return nil
				}
				return one(plan.CreateRepository{Repository: "main"}, plan.NeedNoRepository)
			},
		},
		{
			name:  "create-slot",
			world: func(*fakeWorld) {},
			steps: func(f *fakeWorld) []plan.Step {
				if f.slot("pgkeep_orders") != nil {
					return nil
				}
				return one(plan.CreateSlot{Server: "orders", Slot: "pgkeep_orders"}, plan.NeedSlotAbsent)
			},
		},
		{
			name:      "replace-slot",
			world:     (*fakeWorld).lostSlot,
			steps:     replaceOrCreate,
			invariant: noGoodSlotDropped,
		},
		{
			name:  "drop-slot",
			world: (*fakeWorld).goodSlot,
			steps: func(f *fakeWorld) []plan.Step {
				if f.slot("pgkeep_orders") == nil {
					return nil
				}
				return one(plan.DropSlot{Server: "orders", Slot: "pgkeep_orders"}, plan.NeedSlotInactive)
			},
		},
		{
			name:  "start-receiver",
			world: (*fakeWorld).goodSlot,
			steps: func(f *fakeWorld) []plan.Step {
				if f.receiving {
					return nil
				}
				return one(plan.StartReceiver{Server: "orders"}, plan.NeedSlotPresent)
			},
		},
		{
			name:  "stop-receiver",
			world: func(f *fakeWorld) { f.goodSlot(); f.receiving = true },
			steps: func(f *fakeWorld) []plan.Step {
				if !f.receiving {
					return nil
				}
				return one(plan.StopReceiver{Server: "orders"})
			},
		},
		{
			name:  "record-gap",
			world: func(*fakeWorld) {},
			steps: func(f *fakeWorld) []plan.Step {
				if len(f.cluster.Gaps) > 0 {
					return nil
				}
				gap := wal.Range{Timeline: 1, From: 0x8000000, To: 0x9000000}
				return one(plan.RecordGap{Server: "orders", SystemID: "7", Range: gap, Reason: "the slot was lost"}, plan.NeedLoss)
			},
			invariant: atMostOneGap,
		},
		{
			name: "follow-timeline",
			world: func(f *fakeWorld) {
				f.server.Timeline = 2
				f.history = []byte("1\t0/7000000\tno recovery target specified\n")
			},
			steps: func(f *fakeWorld) []plan.Step {
				if len(f.histories) > 0 {
					return nil
				}
				return one(plan.FollowTimeline{Server: "orders", Timeline: 2})
			},
		},
		{
			name:  "take-backup",
			world: func(*fakeWorld) {},
			steps: func(f *fakeWorld) []plan.Step {
				if steps := removeDead(f); steps != nil {
					return steps
				}
				if slices.ContainsFunc(f.cluster.Backups, func(b state.Backup) bool { return !b.Began.Before(epoch) }) {
					return nil
				}
				return one(plan.TakeBackup{Server: "orders", Repositories: []string{"main"}, Kind: "full", Schedule: "nightly", Due: epoch})
			},
			invariant: oldBackupsStay,
		},
		{
			name: "remove-incomplete",
			world: func(f *fakeWorld) {
				f.cluster.Backups = append(f.cluster.Backups, state.Backup{ID: "dead", State: state.BackupAbandoned, Timeline: 1, Redo: 0x6000000})
			},
			steps:     removeDead,
			invariant: oldBackupsStay,
		},
		{
			name: "prune",
			world: func(f *fakeWorld) {
				older := f.cluster.Backups[0]
				older.ID = "older"
				f.cluster.Backups = append([]state.Backup{older}, f.cluster.Backups...)
			},
			steps: func(f *fakeWorld) []plan.Step {
				if f.backup("old").State == state.BackupDeleted {
					return nil
				}
				// The plan names both again: the one that has its tomb is passed over.
				return one(plan.Prune{Server: "orders", SystemID: "7", Repository: "main", Backups: []string{"older", "old"}}, plan.NeedStillNeedless, plan.NeedUsableLeft)
			},
			invariant: onlyTheOldAreTombed,
		},
		{
			name:  "prune-wal",
			world: func(f *fakeWorld) { f.cluster.Backups = f.cluster.Backups[1:] },
			steps: func(f *fakeWorld) []plan.Step {
				if f.cluster.WAL[0].From >= 0x4000000 {
					return nil
				}
				return one(plan.PruneWAL{Server: "orders", SystemID: "7", Repository: "main", Ranges: ranges}, plan.NeedStillNeedless)
			},
			invariant: newestIsUsable,
		},
		{
			name:  "extend-lock",
			world: func(f *fakeWorld) { f.locks = map[wal.LSN]time.Time{0x4000000: epoch} },
			steps: func(f *fakeWorld) []plan.Step {
				until := epoch.Add(9 * 24 * time.Hour)
				if f.backup("new").LockedUntil.Equal(until) && f.locks[0x4000000].Equal(until) && f.opening.Equal(until) {
					return nil
				}
				return one(plan.ExtendLock{Server: "orders", SystemID: "7", Repository: "main", Locks: []plan.LockNeed{
					{Until: epoch.Add(5 * 24 * time.Hour), Backups: []string{"old"}},
					{Until: until, Backups: []string{"new"}, WAL: []wal.Range{{Timeline: 1, From: 0x4000000, To: 0x8000000}}, Opening: true},
				}}, plan.NeedBackup)
			},
			invariant: oldBackupsStay,
		},
		{
			name:  "recover-to",
			world: func(*fakeWorld) {},
			steps: func(f *fakeWorld) []plan.Step {
				if f.restored {
					return nil
				}
				return one(recoverNew(), plan.NeedDestination, plan.NeedBackup, plan.NeedWAL)
			},
		},
		drillStory("drill", false),
		{
			name:  "switch-wal",
			world: func(*fakeWorld) {},
			steps: func(f *fakeWorld) []plan.Step {
				if f.switched > 0 {
					return nil
				}
				return one(plan.SwitchWAL{Server: "orders"})
			},
		},
	}
}

// recoverNew recovers from the newer backup to the end of the archive.
func recoverNew() plan.RecoverTo {
	return plan.RecoverTo{Recovery: "before_drop", Route: plan.Route{
		Server: "orders", SystemID: "7", Repository: "main", SegmentSize: wal.DefaultSegmentSize, Backup: "new",
		Path: []wal.Range{{Timeline: 1, From: 0x4000000, To: 0x8000000}}, TargetTimeline: 1, End: 0x8000000,
	}}
}

func replaceOrCreate(f *fakeWorld) []plan.Step {
	switch s := f.slot("pgkeep_orders"); {
	case s == nil:
		return one(plan.CreateSlot{Server: "orders", Slot: "pgkeep_orders"}, plan.NeedSlotAbsent)
	case s.WALStatus == state.SlotLost:
		return one(plan.ReplaceSlot{Server: "orders", Slot: "pgkeep_orders"}, plan.NeedSlotLost)
	}
	return nil
}

// removeDead plans the removal of backups whose writer is dead, as the writers of a killed process are.
func removeDead(f *fakeWorld) []plan.Step {
	var ids []string
	for i := range f.cluster.Backups {
		b := &f.cluster.Backups[i]
		if b.State == state.BackupRunning {
			b.State = state.BackupAbandoned // its writer's lock is free
		}
		if b.State == state.BackupAbandoned || b.State == state.BackupAborted {
			ids = append(ids, b.ID)
		}
	}
	if ids == nil {
		return nil
	}
	return one(plan.RemoveIncomplete{Server: "orders", SystemID: "7", Repository: "main", Backups: ids}, plan.NeedUndecided)
}

func noGoodSlotDropped(f *fakeWorld) error {
	if len(f.dropped) > 0 {
		return fmt.Errorf("slot that holds WAL was dropped: %v", f.dropped)
	}
	return nil
}

func atMostOneGap(f *fakeWorld) error {
	if len(f.cluster.Gaps) > 1 {
		return fmt.Errorf("%d gaps recorded for one loss", len(f.cluster.Gaps))
	}
	return nil
}

func oldBackupsStay(f *fakeWorld) error {
	for _, id := range []string{"old", "new"} {
		if b := f.backup(id); b == nil || b.State != state.BackupCommitted {
			return fmt.Errorf("backup %s is gone", id)
		}
	}
	return nil
}

func onlyTheOldAreTombed(f *fakeWorld) error {
	if slices.Contains(f.tombed, "new") || len(f.tombed) > 2 {
		return fmt.Errorf("tombs: %v", f.tombed)
	}
	return newestIsUsable(f)
}

func newestIsUsable(f *fakeWorld) error {
	if u := f.cluster.Usability(*f.backup("new")); u != state.Usable {
		return fmt.Errorf("the newest backup is %s", u)
	}
	if wal.Missing(wal.Range{Timeline: 1, From: 0x4000000, To: 0x8000000}, rangesOf(f.cluster.WAL)) != nil {
		return fmt.Errorf("WAL after the newest backup is gone: %v", f.cluster.WAL)
	}
	return nil
}

func rangesOf(in []state.WALRange) []wal.Range {
	var out []wal.Range
	for _, r := range in {
		out = append(out, r.Range)
	}
	return out
}

// TestKilledAtEveryCall kills an apply before and after every single call of every kind of step, looks again, plans
// again and applies again: it converges, the second plan is empty, and no call ever broke an invariant.
func TestKilledAtEveryCall(t *testing.T) {
	for _, s := range stories() {
		t.Run(s.name, func(t *testing.T) {
			calls := s.uninterrupted(t)
			if calls < 3 {
				t.Fatalf("an apply makes %d calls: the harness sees too little", calls)
			}
			for at := 1; at <= calls; at++ {
				for _, after := range []bool{false, true} {
					s.killed(t, kill{at: at, after: after})
				}
			}
		})
	}
}

func (s story) start(t *testing.T) *fakeWorld {
	t.Helper()
	f := newFake(t)
	s.world(f)
	f.invariant = s.invariant
	return f
}

// uninterrupted applies without a kill and gives the number of calls.
func (s story) uninterrupted(t *testing.T) int {
	t.Helper()
	f := s.start(t)
	steps := s.steps(f)
	if steps == nil {
		t.Fatal("the story's world asks for nothing")
	}
	result, err := Apply(context.Background(), &plan.Plan{Steps: steps}, f.world(), f.options())
	if err != nil {
		t.Fatalf("apply: %v\ncalls: %v", err, f.called)
	}
	if result.Exit() != 0 || f.broken != nil {
		t.Fatalf("exit %d, invariant: %v", result.Exit(), f.broken)
	}
	if left := s.steps(f); left != nil {
		t.Fatalf("the second plan is not empty: %v", plan.Verb(left[0].Action))
	}
	return f.calls
}

func (s story) killed(t *testing.T, k kill) {
	t.Helper()
	f := s.start(t)
	f.kill = k
	_, _ = Apply(context.Background(), &plan.Plan{Steps: s.steps(f)}, f.world(), f.options())
	if !f.dead {
		t.Fatalf("kill %+v never came", k)
	}
	for round := 0; ; round++ {
		f.reborn()
		steps := s.steps(f)
		if steps == nil {
			break
		}
		if round == 3 {
			t.Fatalf("kill %+v: no convergence, still planned: %s", k, plan.Verb(steps[0].Action))
		}
		if _, err := Apply(context.Background(), &plan.Plan{Steps: steps}, f.world(), f.options()); err != nil {
			t.Fatalf("kill %+v: apply again: %v\ncalls: %v", k, err, f.called)
		}
	}
	if f.broken != nil {
		t.Fatalf("kill %+v: invariant: %v", k, f.broken)
	}
}
