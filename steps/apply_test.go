package steps

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

func outcomes(r Result) map[string]Outcome {
	out := map[string]Outcome{}
	for _, s := range r.Steps {
		out[s.Step.ID] = s.Outcome
	}
	return out
}

func need(code, value string) []plan.Condition {
	return []plan.Condition{{Code: code, Value: value}}
}

func TestFailedStepSkipsOnlyWhatComesAfterIt(t *testing.T) {
	f := newFake(t)
	p := &plan.Plan{Steps: []plan.Step{
		{ID: "slot", Action: plan.CreateSlot{Server: "orders", Slot: "pgkeep_orders"}, Impact: plan.Safe, Requires: need("from-the-future", "")},
		{ID: "receiver", Action: plan.StartReceiver{Server: "orders"}, Impact: plan.Safe, After: []string{"slot"}},
		{ID: "backup", Action: plan.TakeBackup{Server: "orders", Repositories: []string{"main"}, Kind: "full"}, Impact: plan.Safe, After: []string{"receiver"}},
		{ID: "switch", Action: plan.SwitchWAL{Server: "orders"}, Impact: plan.Safe},
	}}
	var events []string
	o := f.options()
	o.Report = func(e Event) { events = append(events, e.Step.ID+" "+string(e.Kind)) }
	result, err := Apply(context.Background(), p, f.world(), o)
	want := map[string]Outcome{"slot": OutcomeStale, "receiver": OutcomeSkipped, "backup": OutcomeSkipped, "switch": OutcomeDone}
	if diff := cmp.Diff(want, outcomes(result)); diff != "" {
		t.Error(diff)
	}
	if note := result.Steps[2].Note; note != "comes after receiver, which is skipped" {
		t.Errorf("note %q", note)
	}
	if !strings.Contains(result.Steps[0].Note, `"from-the-future"`) {
		t.Errorf("note %q does not name the condition", result.Steps[0].Note)
	}
	if result.Exit() != 5 {
		t.Errorf("exit %d", result.Exit())
	}
	var incomplete *Incomplete
	if !errors.As(err, &incomplete) || incomplete.Undone != 3 {
		t.Errorf("error %v", err)
	}
	wantEvents := []string{"slot started", "slot skipped", "receiver skipped", "backup skipped", "switch started", "switch done"}
	if diff := cmp.Diff(wantEvents, events); diff != "" {
		t.Error(diff)
	}
}

func TestApprovalByImpactAndByName(t *testing.T) {
	p := &plan.Plan{Steps: []plan.Step{
		{ID: "prune", Action: plan.Prune{Server: "orders", SystemID: "7", Repository: "main", Backups: []string{"old"}}, Impact: plan.Destructive},
		{ID: "switch", Action: plan.SwitchWAL{Server: "orders"}, Impact: plan.Safe},
	}}
	for _, c := range []struct {
		name     string
		approved []string
		prune    Outcome
		exit     int
	}{
		{"nobody named it", nil, OutcomeNotApproved, 7},
		{"another impact", []string{"disruptive"}, OutcomeNotApproved, 7},
		{"its impact", []string{"destructive"}, OutcomeDone, 0},
		{"its id", []string{"prune"}, OutcomeDone, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFake(t)
			o := f.options()
			o.Approved = c.approved
			result, _ := Apply(context.Background(), p, f.world(), o)
			if got := outcomes(result)["prune"]; got != c.prune || result.Exit() != c.exit {
				t.Errorf("outcome %q, exit %d", got, result.Exit())
			}
			if tombed := len(f.tombed) > 0; tombed != (c.prune == OutcomeDone) {
				t.Errorf("tombs: %v", f.tombed)
			}
			if outcomes(result)["switch"] != OutcomeDone {
				t.Error("the step that needs no name waited too")
			}
		})
	}
}

func TestConditionsThatNoLongerHold(t *testing.T) {
	pruneOld := plan.Prune{Server: "orders", SystemID: "7", Repository: "main", Backups: []string{"old"}}
	for _, c := range []struct {
		name    string
		change  func(*fakeWorld)
		step    plan.Step
		outcome Outcome
		note    string
	}{
		{
			"a slot appeared that is lost", (*fakeWorld).lostSlot,
			plan.Step{Action: plan.CreateSlot{Server: "orders", Slot: "pgkeep_orders"}, Requires: need(plan.NeedSlotAbsent, "")},
			OutcomeStale, "there is a slot",
		},
		{
			"the slot is no longer lost", func(f *fakeWorld) { f.goodSlot(); f.server.Slots[0].RestartLSN = 0 },
			plan.Step{Action: plan.ReplaceSlot{Server: "orders", Slot: "pgkeep_orders"}},
			OutcomeStale, "it is left as it is",
		},
		{
			"another server answers", func(*fakeWorld) {},
			plan.Step{Action: plan.SwitchWAL{Server: "orders"}, Requires: need(plan.NeedSystem, "8")},
			OutcomeStale, "refused: the server's system identifier is 7 now",
		},
		{
			"the slot is in use", func(f *fakeWorld) { f.goodSlot(); f.server.Slots[0].Active = true },
			plan.Step{Action: plan.DropSlot{Server: "orders", Slot: "pgkeep_orders"}},
			OutcomeFailed, "in use",
		},
		{
			"too few backups would be left", func(*fakeWorld) {},
			plan.Step{Action: pruneOld, Requires: need(plan.NeedUsableLeft, "2")},
			OutcomeStale, "1 usable backups would be left",
		},
		{
			"the other backup lost its WAL", func(f *fakeWorld) { f.cluster.WAL[0].To = 0x4000000 },
			plan.Step{Action: pruneOld, Requires: need(plan.NeedUsableLeft, "1")},
			OutcomeStale, "0 usable backups",
		},
		{
			"it is held now", func(f *fakeWorld) { f.backup("old").Hold = &state.Hold{} },
			plan.Step{Action: pruneOld, Requires: need(plan.NeedStillNeedless, "")},
			OutcomeDone, "spared, because they are held now: [old]",
		},
		{
			"it is being written", func(f *fakeWorld) { f.backup("old").State = state.BackupRunning },
			plan.Step{Action: pruneOld},
			OutcomeStale, "backup old is running now",
		},
		{
			"the writer lives", func(f *fakeWorld) { f.backup("old").State = state.BackupRunning },
			plan.Step{Action: plan.RemoveIncomplete{Server: "orders", SystemID: "7", Repository: "main", Backups: []string{"old"}}},
			OutcomeStale, "alive",
		},
		{
			"the writer committed first", func(*fakeWorld) {},
			plan.Step{Action: plan.RemoveIncomplete{Server: "orders", SystemID: "7", Repository: "main", Backups: []string{"old"}}},
			OutcomeDone, "left as they are",
		},
		{
			"the WAL arrived after all", func(*fakeWorld) {},
			plan.Step{Action: plan.RecordGap{Server: "orders", SystemID: "7", Range: wal.Range{Timeline: 1, From: 0x2000000, To: 0x3000000}}, Requires: need(plan.NeedLoss, "")},
			OutcomeStale, "holds WAL",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFake(t)
			c.change(f)
			c.step.ID, c.step.Impact = "step", plan.Safe
			result, _ := Apply(context.Background(), &plan.Plan{Steps: []plan.Step{c.step}}, f.world(), f.options())
			got := result.Steps[0]
			if got.Outcome != c.outcome || !strings.Contains(got.Note, c.note) {
				t.Errorf("%s: %q; want %s: %q", got.Outcome, got.Note, c.outcome, c.note)
			}
			if len(f.tombed)+len(f.dropped)+len(f.deleted)+len(f.cluster.Gaps) > 0 {
				t.Errorf("something was changed: tombs %v, slots %v, WAL %v, gaps %v", f.tombed, f.dropped, f.deleted, f.cluster.Gaps)
			}
		})
	}
}

func TestPruneWALDoesLessWhenABackupNeedsIt(t *testing.T) {
	everything := []wal.Range{{Timeline: 1, From: 0x1000000, To: 0x8000000}}
	for _, c := range []struct {
		name   string
		change func(*fakeWorld)
		want   []wal.Range
	}{
		{"both backups count", func(*fakeWorld) {}, []wal.Range{{Timeline: 1, From: 0x2000000, To: 0x4000000}}},
		{"a tomb of an hour ago", func(f *fakeWorld) {
			f.cluster.Backups[0].State, f.cluster.Backups[0].Tombed = state.BackupDeleted, epoch.Add(-time.Hour)
		}, []wal.Range{{Timeline: 1, From: 0x2000000, To: 0x4000000}}},
		{"a tomb of two days ago", func(f *fakeWorld) {
			f.cluster.Backups[0].State, f.cluster.Backups[0].Tombed = state.BackupDeleted, epoch.Add(-48*time.Hour)
		}, []wal.Range{{Timeline: 1, From: 0x1000000, To: 0x4000000}}},
		{"somebody holds the older one since", func(f *fakeWorld) {
			f.cluster.Backups[0].Hold = &state.Hold{Holder: "recovery", Expires: epoch.Add(time.Hour)}
		}, nil},
		{"a hold that has ended", func(f *fakeWorld) {
			f.cluster.Backups[0].Hold = &state.Hold{Holder: "recovery", Expires: epoch.Add(-time.Hour)}
		}, []wal.Range{{Timeline: 1, From: 0x2000000, To: 0x4000000}}},
		{"a backup is being written", func(f *fakeWorld) {
			f.cluster.Backups[0].State, f.cluster.Backups[0].Stop = state.BackupRunning, 0
		}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFake(t)
			f.invariant = newestIsUsable
			c.change(f)
			step := plan.Step{ID: "wal", Impact: plan.Safe, Action: plan.PruneWAL{Server: "orders", SystemID: "7", Repository: "main", Ranges: everything, Clock: epoch}}
			result, err := Apply(context.Background(), &plan.Plan{Steps: []plan.Step{step}}, f.world(), f.options())
			if err != nil || f.broken != nil {
				t.Fatalf("apply: %v; invariant: %v; %+v", err, f.broken, result.Steps)
			}
			if diff := cmp.Diff(c.want, f.deleted); diff != "" {
				t.Error(diff)
			}
		})
	}
	t.Run("no usable backup", func(t *testing.T) {
		f := newFake(t)
		f.cluster.Backups = nil
		step := plan.Step{ID: "wal", Impact: plan.Safe, Action: plan.PruneWAL{Server: "orders", SystemID: "7", Repository: "main", Ranges: everything, Clock: epoch}}
		result, _ := Apply(context.Background(), &plan.Plan{Steps: []plan.Step{step}}, f.world(), f.options())
		if result.Steps[0].Outcome != OutcomeStale || f.deleted != nil || result.Exit() != 4 {
			t.Errorf("%+v, deleted %v", result.Steps[0], f.deleted)
		}
	})
}

func TestWhatRunsElsewhereIsLockedOrInterrupted(t *testing.T) {
	slot := plan.Step{ID: "slot", Action: plan.CreateSlot{Server: "orders", Slot: "pgkeep_orders"}, Impact: plan.Safe}
	t.Run("another machine", func(t *testing.T) {
		f := newFake(t)
		there := slot
		there.Host = "backup1"
		result, _ := Apply(context.Background(), &plan.Plan{Steps: []plan.Step{there}}, f.world(), f.options())
		if got := result.Steps[0]; got.Outcome != OutcomeOtherHost || got.Note != "blocked: run on backup1" || f.calls != 0 {
			t.Errorf("%+v after %d calls", got, f.calls)
		}
	})
	t.Run("locked", func(t *testing.T) {
		f := newFake(t)
		f.locked = map[string]bool{"advisory server orders": true}
		result, _ := Apply(context.Background(), &plan.Plan{Steps: []plan.Step{slot}}, f.world(), f.options())
		if got := result.Steps[0]; got.Outcome != OutcomeLocked || result.Exit() != 6 || !strings.Contains(got.Note, "somebody@elsewhere") {
			t.Errorf("%+v, exit %d", got, result.Exit())
		}
	})
	t.Run("interrupted", func(t *testing.T) {
		f := newFake(t)
		ctx, interrupt := context.WithCancel(context.Background())
		interrupt()
		result, _ := Apply(ctx, &plan.Plan{Steps: []plan.Step{slot}}, f.world(), f.options())
		if got := result.Steps[0]; got.Outcome != OutcomeCanceled || result.Exit() != 130 || f.calls != 0 {
			t.Errorf("%+v, exit %d, %d calls", got, result.Exit(), f.calls)
		}
	})
	t.Run("done already", func(t *testing.T) {
		f := newFake(t)
		f.goodSlot()
		result, err := Apply(context.Background(), &plan.Plan{Steps: []plan.Step{slot}}, f.world(), f.options())
		if err != nil || result.Steps[0].Outcome != OutcomeAlready || len(f.journal) != 0 {
			t.Errorf("%v, %+v, journal %v", err, result.Steps[0], f.journal)
		}
	})
}

func TestJournalAndProgress(t *testing.T) {
	f := newFake(t)
	p := &plan.Plan{Steps: []plan.Step{{ID: "backup", Action: plan.TakeBackup{Server: "orders", Repositories: []string{"main"}, Kind: "full"}, Impact: plan.Safe}}}
	o := f.options()
	clock := epoch
	o.Now = func() time.Time { clock = clock.Add(time.Second); return clock }
	var progress []Event
	o.Report = func(e Event) {
		if e.Kind == Progress {
			progress = append(progress, e)
		}
	}
	result, err := Apply(context.Background(), p, f.world(), o)
	if err != nil {
		t.Fatal(err)
	}
	if len(progress) != 1 || progress[0].Done != 50 || progress[0].Rate != 50 || progress[0].ETA != time.Second {
		t.Errorf("progress: %+v", progress)
	}
	if note := result.Steps[0].Note; note != "backup taken-2: it waits for WAL up to 0/6000000, and no receiver runs here" {
		t.Errorf("note %q", note)
	}
	if len(f.journal) != 1 {
		t.Fatalf("%d journal entries", len(f.journal))
	}
	e := f.journal[0]
	if e.Who != "tester@here" || !slices.Equal(e.Servers, []string{"orders"}) || e.Steps[0].Outcome != OutcomeDone || e.Steps[0].Action != "take-backup" {
		t.Errorf("journal: %+v", e)
	}
	if n := counted(f.called)["commit backup"]; n != 1 {
		t.Errorf("%d backups taken", n)
	}
}

// TestProgressOfAReplay: while a started server replays, rate and time left are the replay's.
func TestProgressOfAReplay(t *testing.T) {
	f := newFake(t)
	action := recoverNew()
	action.Start = true
	p := &plan.Plan{Steps: []plan.Step{{ID: "recovery", Action: action, Impact: plan.Safe}}}
	o := f.options()
	var progress []Event
	o.Report = func(e Event) {
		if e.Kind == Progress {
			progress = append(progress, e)
		}
	}
	if _, err := Apply(context.Background(), p, f.world(), o); err != nil {
		t.Fatal(err)
	}
	if len(progress) != 1 {
		t.Fatalf("progress: %+v", progress)
	}
	e := progress[0]
	if e.Done != 40 || e.Rate != 20 || e.ETA != time.Second || e.Replay == nil || e.Replay.LSN != 0x5000028 || e.Replay.Commit.IsZero() {
		t.Errorf("progress: %+v of %+v", e, e.Replay)
	}
}

func TestSlotThatHoldsNoWALIsNotDone(t *testing.T) {
	for name, slot := range map[string]state.Slot{
		"lost":         {Physical: true, RestartLSN: 0x3000000, WALStatus: state.SlotLost},
		"not reserved": {Physical: true},
		"logical":      {RestartLSN: 0x3000000, WALStatus: state.SlotReserved},
	} {
		if holdsWAL(&slot) {
			t.Errorf("a slot that is %s holds WAL", name)
		}
	}
	if holdsWAL(nil) || !holdsWAL(&state.Slot{Physical: true, RestartLSN: 1, WALStatus: state.SlotUnreserved}) {
		t.Error("absent or unreserved")
	}
}
