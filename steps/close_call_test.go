package steps

import (
	"context"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// fastWriters decide `committed` in the moment before anybody can decide `aborted`.
type fastWriters struct{ Repositories }

type fastWriter struct{ Cluster }

func (r fastWriters) Cluster(ctx context.Context, label, server, systemID string) (Cluster, error) {
	c, err := r.Repositories.Cluster(ctx, label, server, systemID)
	return fastWriter{c}, err
}

func (fastWriter) AbortBackup(context.Context, string, string, time.Time) (state.BackupState, error) {
	return state.BackupCommitted, nil
}

// lostTakers take a backup that nobody lists afterwards, while another one is committed.
type lostTakers struct{ *fakeWorld }

func (x lostTakers) Take(context.Context, plan.TakeBackup, func(done, total int64)) (Taken, error) {
	return Taken{ID: "mine"}, x.do("take", func() error {
		other := *x.backup("new")
		other.ID, other.Schedule, other.Began = "other", "nightly", epoch
		x.cluster.Backups = append(x.cluster.Backups, other)
		return nil
	})
}

// TestCloseCalls are worlds that differ in one fact from one in which the step would be done or may act.
func TestCloseCalls(t *testing.T) {
	run := func(f *fakeWorld, w World, action plan.Action) StepResult {
		step := plan.Step{ID: "step", Action: action, Impact: plan.Safe}
		result, _ := Apply(context.Background(), &plan.Plan{Steps: []plan.Step{step}}, w, f.options())
		return result.Steps[0]
	}
	t.Run("the slot is used by another application", func(t *testing.T) {
		f := newFake(t)
		f.goodSlot()
		f.receiving, f.server.Slots[0].Active, f.server.Slots[0].ActivePID = true, true, 7
		f.server.Senders = []state.Sender{{PID: 7, Application: "somebody"}}
		s := &startReceiver{server: fakeServer{f}, receivers: fakeReceivers{f}, action: aStart, now: time.Now}
		if done, err := s.Done(t.Context()); err != nil || done {
			t.Errorf("done: %t, %v", done, err)
		}
	})
	t.Run("another gap is recorded", func(t *testing.T) {
		f := newFake(t)
		f.cluster.Gaps = []state.Gap{{Range: wal.Range{Timeline: 1, From: 0xa000000, To: 0xb000000}}}
		if got := run(f, f.world(), aGap); got.Outcome != OutcomeDone || len(f.cluster.Gaps) != 2 {
			t.Errorf("%s: gaps %v", got.Outcome, f.cluster.Gaps)
		}
	})
	t.Run("WAL of the new timeline came first", func(t *testing.T) {
		f := newFake(t)
		promoted("1\t0/7000000\tx\n")(f)
		f.cluster.WAL = append(f.cluster.WAL, state.WALRange{Range: wal.Range{Timeline: 2, From: 0x7000000, To: 0x9000000}})
		if got := run(f, f.world(), aFollow); got.Outcome != OutcomeDone || len(f.histories) != 1 {
			t.Errorf("%s: %s", got.Outcome, got.Note)
		}
	})
	t.Run("the schedule's backup is of the tick before", func(t *testing.T) {
		f := newFake(t)
		f.backup("new").Schedule = "nightly"
		if got := run(f, f.world(), aDue); got.Outcome != OutcomeDone {
			t.Errorf("%s: %s", got.Outcome, got.Note)
		}
	})
	t.Run("the writer decides in the last moment", func(t *testing.T) {
		f := newFake(t)
		f.backup("old").State = state.BackupAbandoned
		w := f.world()
		w.Repositories = fastWriters{w.Repositories}
		if got := run(f, w, aRemoval); got.Outcome != OutcomeDone || f.backup("old") == nil {
			t.Errorf("%s: %s; the backup is removed: %t", got.Outcome, got.Note, f.backup("old") == nil)
		}
	})
	t.Run("the slot was left a moment ago", func(t *testing.T) {
		f := newFake(t)
		f.goodSlot()
		f.receiving, f.server.Slots[0].ActivePID = true, 7
		f.server.Senders = []state.Sender{{PID: 7, Application: "pgkeep_orders"}}
		s := &startReceiver{server: fakeServer{f}, receivers: fakeReceivers{f}, action: aStart, now: time.Now}
		if done, err := s.Done(t.Context()); err != nil || done {
			t.Errorf("done: %t, %v", done, err)
		}
	})
	t.Run("START of a backup cannot be read", func(t *testing.T) {
		f := newFake(t)
		f.backup("old").Redo = 0
		if got := run(f, f.world(), aPruning); got.Outcome != OutcomeStale || f.deleted != nil {
			t.Errorf("%s: %s; deleted %v", got.Outcome, got.Note, f.deleted)
		}
	})
	for name, order := range map[string]plan.TakeBackup{
		"due": aDue, "needed": {Server: "orders", Repositories: []string{"main"}, Kind: "full", Needed: true, Known: []string{"old", "new"}},
	} {
		t.Run("only another backup is there, "+name, func(t *testing.T) {
			f := newFake(t)
			w := f.world()
			w.Backups = lostTakers{f}
			if got := run(f, w, order); got.Outcome != OutcomeFailed {
				t.Errorf("%s: %s", got.Outcome, got.Note)
			}
		})
	}
}
