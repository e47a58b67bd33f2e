package steps

import (
	"context"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// answer is what the world says when one condition is read again just before the act.
type answer struct {
	code, value string
	action      plan.Action
	name        string
	change      func(*fakeWorld) // since the plan was made
	want        Outcome
	note        string // that the outcome's note holds
}

var (
	aPrune   = plan.Prune{Server: "orders", SystemID: "7", Repository: "main", Backups: []string{"old"}, Clock: epoch}
	aSweep   = plan.Prune{Server: "orders", SystemID: "7", Repository: "main", Backups: []string{"old"}, Clock: epoch, Sweep: true}
	aPruning = plan.PruneWAL{Server: "orders", SystemID: "7", Repository: "main", Ranges: []wal.Range{{Timeline: 1, From: 0x2000000, To: 0x4000000}}, Clock: epoch}
	aGap     = plan.RecordGap{Server: "orders", SystemID: "7", Range: wal.Range{Timeline: 1, From: 0x8000000, To: 0x9000000}}
	aDue     = plan.TakeBackup{Server: "orders", Repositories: []string{"main"}, Kind: "full", Schedule: "nightly", Due: epoch}
	aRemoval = plan.RemoveIncomplete{Server: "orders", SystemID: "7", Repository: "main", Backups: []string{"old"}}
	aFollow  = plan.FollowTimeline{Server: "orders", Timeline: 2}
	aSlot    = plan.CreateSlot{Server: "orders", Slot: "pgkeep_orders"}
	aReplace = plan.ReplaceSlot{Server: "orders", Slot: "pgkeep_orders"}
	aDrop    = plan.DropSlot{Server: "orders", Slot: "pgkeep_orders"}
	aStart   = plan.StartReceiver{Server: "orders"}
	aStop    = plan.StopReceiver{Server: "orders"}
	aSwitch  = plan.SwitchWAL{Server: "orders"}

	anExtension = plan.ExtendLock{Server: "orders", SystemID: "7", Repository: "main", Locks: []plan.LockNeed{{Until: epoch.Add(24 * time.Hour), Backups: []string{"old"}, Opening: true}}}
)

func nothing(*fakeWorld) {}

func old(state state.BackupState) func(*fakeWorld) {
	return func(f *fakeWorld) { f.backup("old").State = state }
}

func tombed(ago time.Duration) func(*fakeWorld) {
	return func(f *fakeWorld) {
		f.backup("old").State, f.backup("old").Tombed = state.BackupDeleted, epoch.Add(-ago)
	}
}

func promoted(history string) func(*fakeWorld) {
	return func(f *fakeWorld) { f.server.Timeline, f.history = 2, []byte(history) }
}

func answers() []answer {
	recover := recoverNew()
	recover.Route.Destination.Path = "/restore"
	starting := recover
	starting.Start = true
	return []answer{
		{plan.NeedNoRepository, "", plan.CreateRepository{Repository: "main"}, "absent", func(f *fakeWorld) { f.exists = false }, OutcomeDone, ""},
		{plan.NeedNoRepository, "", plan.CreateRepository{Repository: "main"}, "created meanwhile", nothing, OutcomeAlready, ""},
		{plan.NeedSystem, "7", aSwitch, "the same", nothing, OutcomeDone, ""},
		{plan.NeedSystem, "8", aSwitch, "another", nothing, OutcomeStale, "refused: the server's system identifier is 7 now, not 8"},
		{plan.NeedSystem, "", aSwitch, "not said", nothing, OutcomeStale, "refused: the plan does not say"},
		{plan.NeedSlotAbsent, "", aSlot, "absent", nothing, OutcomeDone, ""},
		{plan.NeedSlotAbsent, "", aSlot, "a lost one", (*fakeWorld).lostSlot, OutcomeStale, "there is a slot"},
		{plan.NeedSlotAbsent, "", aSlot, "created meanwhile", (*fakeWorld).goodSlot, OutcomeAlready, ""},
		{plan.NeedSlotLost, "", aReplace, "lost", (*fakeWorld).lostSlot, OutcomeDone, ""},
		{plan.NeedSlotLost, "", aReplace, "gone", nothing, OutcomeDone, ""},
		{plan.NeedSlotLost, "", aReplace, "not reserved", func(f *fakeWorld) { f.goodSlot(); f.server.Slots[0].RestartLSN = 0 }, OutcomeStale, `no longer lost, but "reserved"`},
		{plan.NeedSlotPresent, "", aStart, "there", (*fakeWorld).goodSlot, OutcomeDone, ""},
		{plan.NeedSlotPresent, "", aStart, "gone", nothing, OutcomeStale, "absent or lost now"},
		{plan.NeedSlotPresent, "", aStart, "lost", (*fakeWorld).lostSlot, OutcomeStale, "absent or lost now"},
		{plan.NeedSlotInactive, "", aDrop, "nobody streams", (*fakeWorld).goodSlot, OutcomeDone, ""},
		{plan.NeedSlotInactive, "", aDrop, "somebody streams", func(f *fakeWorld) { f.goodSlot(); f.server.Slots[0].Active, f.server.Slots[0].ActivePID = true, 99 }, OutcomeStale, "in use by process 99"},
		{plan.NeedSlotInactive, "", aStart, "somebody else streams", func(f *fakeWorld) { f.goodSlot(); f.server.Slots[0].Active = true }, OutcomeStale, "in use"},
		{plan.NeedNoReceiver, "", aStart, "none", (*fakeWorld).goodSlot, OutcomeDone, ""},
		{plan.NeedNoReceiver, "", aStart, "started meanwhile", func(f *fakeWorld) { f.goodSlot(); _ = fakeReceivers{f}.Start(context.Background(), "orders") }, OutcomeAlready, ""},
		{plan.NeedReceiver, "", aStop, "runs", func(f *fakeWorld) { f.receiving = true }, OutcomeDone, ""},
		{plan.NeedReceiver, "", aStop, "ended meanwhile", nothing, OutcomeAlready, ""},
		{plan.NeedDescent, "1@0/7000000", aFollow, "as it was seen", promoted("1\t0/7000000\tx\n"), OutcomeDone, ""},
		{plan.NeedDescent, "1@0/6000000", aFollow, "promoted elsewhere", promoted("1\t0/7000000\tx\n"), OutcomeStale, "where the plan saw it"},
		{plan.NeedDescent, "", aFollow, "on the old one", nothing, OutcomeStale, "the server is on timeline 1 now, not 2"},
		{plan.NeedDescent, "", aFollow, "no relation", func(f *fakeWorld) {
			promoted("1\t0/7000000\tx\n")(f)
			f.server.Timeline, f.cluster.WAL[0].Timeline = 2, 1
			f.histories = []wal.History{{Timeline: 1, Parents: []wal.HistoryLine{{Timeline: 9, Switch: 1}}}}
		}, OutcomeStale, "refused: "},
		{plan.NeedLoss, "", aGap, "gone", nothing, OutcomeDone, ""},
		{plan.NeedLoss, "", aGap, "the server has it", func(f *fakeWorld) { f.serves = true }, OutcomeStale, "nothing is lost"},
		{plan.NeedLoss, "", aGap, "it arrived", func(f *fakeWorld) { f.cluster.WAL[0].To = 0x8800000 }, OutcomeStale, "holds WAL of"},
		{plan.NeedNoBackupSince, "", aDue, "none", nothing, OutcomeDone, ""},
		{plan.NeedNoBackupSince, "", aDue, "being taken", func(f *fakeWorld) { f.backup("new").State, f.backup("new").Began = state.BackupRunning, epoch }, OutcomeStale, "is running"},
		{plan.NeedNoBackupSince, "", aDue, "taken by hand", func(f *fakeWorld) { f.backup("new").Began = epoch }, OutcomeStale, "is committed"},
		{plan.NeedNoBackupSince, "", aDue, "tried in vain", func(f *fakeWorld) { f.backup("new").State, f.backup("new").Began = state.BackupAborted, epoch }, OutcomeDone, ""},
		{plan.NeedUndecided, "", aRemoval, "its writer died", old(state.BackupAbandoned), OutcomeDone, ""},
		{plan.NeedUndecided, "", aRemoval, "its writer lives", old(state.BackupRunning), OutcomeStale, "alive or not known to be dead"},
		{plan.NeedUndecided, "", aRemoval, "its writer was first", nothing, OutcomeDone, "left as they are"},
		{plan.NeedStillNeedless, "", aPrune, "needless", nothing, OutcomeDone, ""},
		{plan.NeedStillNeedless, "", aPrune, "held", func(f *fakeWorld) { f.backup("old").Hold = &state.Hold{} }, OutcomeDone, "spared, because they are held now: [old]"},
		{plan.NeedStillNeedless, "", aPruning, "needless", func(f *fakeWorld) { f.cluster.Backups = f.cluster.Backups[1:] }, OutcomeDone, "freed 42 bytes"},
		{plan.NeedStillNeedless, "", aPruning, "nothing to restore from", func(f *fakeWorld) { f.cluster.Backups = nil }, OutcomeStale, "refused: there is no usable backup"},
		{plan.NeedTombed, "", aSweep, "for two days", tombed(48 * time.Hour), OutcomeDone, ""},
		{plan.NeedTombed, "", aSweep, "not at all", nothing, OutcomeStale, "backup old is committed"},
		{plan.NeedTombed, "", aSweep, "and held", func(f *fakeWorld) { tombed(48 * time.Hour)(f); f.backup("old").Hold = &state.Hold{} }, OutcomeDone, "spared, because they are held now: [old]"},
		{plan.NeedUsableLeft, "1", aPrune, "enough", nothing, OutcomeDone, ""},
		{plan.NeedUsableLeft, "2", aPrune, "too few", nothing, OutcomeStale, "refused: 1 usable backups would be left, and 2 must be"},
		{plan.NeedUsableLeft, "many", aPrune, "no number", nothing, OutcomeStale, "refused: the plan requires"},
		{plan.NeedDestination, "", recover, "empty", nothing, OutcomeDone, ""},
		{plan.NeedDestination, "", recover, "a server runs", func(f *fakeWorld) { f.target = state.Destination{Exists: true, Running: true} }, OutcomeStale, "refused: a PostgreSQL server runs"},
		{plan.NeedDestination, "", recover, "not empty", func(f *fakeWorld) { f.target = state.Destination{Exists: true} }, OutcomeStale, "refused: /restore is not empty"},
		{plan.NeedBackup, "", recover, "there", nothing, OutcomeDone, ""},
		{plan.NeedBackup, "", recover, "deleted", func(f *fakeWorld) { f.backup("new").State = state.BackupDeleted }, OutcomeStale, "backup new is deleted now"},
		{plan.NeedBackup, "", anExtension, "to be locked", nothing, OutcomeDone, "4 objects are locked, at most until"},
		{plan.NeedBackup, "", anExtension, "deleted before it was locked", func(f *fakeWorld) { f.backup("old").State = state.BackupDeleted }, OutcomeDone, "passed over, because they are deleted now: [old]"},
		{plan.NeedBackup, "", anExtension, "locked meanwhile", func(f *fakeWorld) {
			f.backup("old").LockedUntil, f.opening = epoch.Add(72*time.Hour), epoch.Add(72*time.Hour)
		}, OutcomeAlready, ""},
		{plan.NeedWAL, "", recover, "there", nothing, OutcomeDone, ""},
		{plan.NeedWAL, "", recover, "gone", func(f *fakeWorld) { f.cluster.WAL[0].To = 0x7000000 }, OutcomeStale, "is neither in repository"},
		{plan.NeedStartable, "", starting, "it can start", nothing, OutcomeDone, ""},
	}
}

// TestEveryConditionIsReadAgain gives the answer to every condition of the plan, where it holds and where it does not:
// what does not hold changes nothing, and the exit code is 4.
func TestEveryConditionIsReadAgain(t *testing.T) {
	for _, c := range answers() {
		t.Run(c.code+"/"+c.name, func(t *testing.T) {
			f := newFake(t)
			c.change(f)
			step := plan.Step{ID: "step", Action: c.action, Impact: plan.Safe, Requires: need(c.code, c.value)}
			before := len(f.journal)
			result, _ := Apply(context.Background(), &plan.Plan{Steps: []plan.Step{step}}, f.world(), f.options())
			got := result.Steps[0]
			if got.Outcome != c.want || !strings.Contains(got.Note, c.note) {
				t.Errorf("%s: %q; want %s: %q", got.Outcome, got.Note, c.want, c.note)
			}
			if c.want != OutcomeStale {
				return
			}
			if result.Exit() != 4 {
				t.Errorf("exit %d", result.Exit())
			}
			if len(f.tombed)+len(f.dropped)+len(f.deleted)+len(f.cluster.Gaps)+f.switched > 0 || f.restored || len(f.journal) != before+1 {
				t.Errorf("something was changed: %v", f.called)
			}
		})
	}
}

// TestNoConditionIsForgotten reads the conditions out of the plan's source: each has an answer where it holds and, but
// for what only its own act can tell, one where it does not.
func TestNoConditionIsForgotten(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "../plan/step.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	holds, fails := map[string]bool{}, map[string]bool{plan.NeedStartable: true}                                // TestUnknownSpoolBlocks
	for _, code := range []string{plan.NeedUnverified, plan.NeedDamage, plan.NeedUndrilled, plan.NeedScratch} { // TestVerifyStep, TestRepairStep, TestDrillLooksAgain
		holds[code], fails[code] = true, true
	}
	for _, c := range answers() {
		if c.want == OutcomeDone && !strings.Contains(c.note, "spared") {
			holds[c.code] = true
		} else {
			fails[c.code] = true
		}
	}
	n := 0
	ast.Inspect(file, func(node ast.Node) bool {
		spec, ok := node.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, "Need") {
			return true
		}
		code, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil || !holds[code] || !fails[code] {
			t.Errorf("%s (%q): answered where it holds: %t, where not: %t, %v", spec.Names[0].Name, code, holds[code], fails[code], err)
		}
		n++
		return true
	})
	if n < 19 {
		t.Errorf("only %d conditions found", n)
	}
}

// blindSpools and unstartable are worlds in which something cannot be known or done.
type blindSpools struct{ Spools }

func (blindSpools) Look(context.Context, string) (state.Spool, error) {
	return state.Spool{}, &state.Error{Code: state.CodeOtherHost, Text: "the spool is on backup1"}
}

type unstartable struct{ Recoveries }

func (unstartable) Startable(context.Context, plan.Route, int) error {
	return errors.New("there is no postgres of version 15")
}

func TestUnknownSpoolBlocks(t *testing.T) {
	f := newFake(t)
	w := f.world()
	w.Spools = blindSpools{w.Spools}
	step := plan.Step{ID: "gap", Action: aGap, Impact: plan.Safe, Requires: need(plan.NeedLoss, "")}
	result, _ := Apply(context.Background(), &plan.Plan{Steps: []plan.Step{step}}, w, f.options())
	if got := result.Steps[0]; got.Outcome != OutcomeStale || !strings.HasPrefix(got.Note, "blocked: what the spool holds is not known") || len(f.cluster.Gaps) > 0 {
		t.Errorf("%s: %s; gaps %v", got.Outcome, got.Note, f.cluster.Gaps)
	}
	f = newFake(t)
	w = f.world()
	w.Recoveries = unstartable{w.Recoveries}
	starting := recoverNew()
	starting.Start = true
	step = plan.Step{ID: "recovery", Action: starting, Impact: plan.Safe, Requires: need(plan.NeedStartable, "")}
	result, _ = Apply(context.Background(), &plan.Plan{Steps: []plan.Step{step}}, w, f.options())
	if got := result.Steps[0]; got.Outcome != OutcomeFailed || f.restored {
		t.Errorf("%s: %s; restored: %t", got.Outcome, got.Note, f.restored)
	}
}

// TestEveryActionRefusesWhatItCannotCheck: a condition of a newer pgkeep.
func TestEveryActionRefusesWhatItCannotCheck(t *testing.T) {
	for _, action := range []plan.Action{
		plan.CreateRepository{Repository: "new"}, aSlot, aReplace, aDrop, aStart, aStop, aGap, aFollow, aDue, aRemoval, aPrune, aPruning, recoverNew(), aSwitch,
	} {
		f := newFake(t)
		f.exists, f.receiving = false, action == plan.Action(aStop)
		if action == plan.Action(aDrop) {
			f.goodSlot()
		}
		promoted("1\t0/7000000\tx\n")(f)
		step := plan.Step{ID: "step", Action: action, Impact: plan.Safe, Requires: need("from-the-future", "")}
		result, _ := Apply(context.Background(), &plan.Plan{Steps: []plan.Step{step}}, f.world(), f.options())
		if got := result.Steps[0]; got.Outcome != OutcomeStale || !strings.Contains(got.Note, `refused: the plan requires "from-the-future"`) {
			t.Errorf("%s is %s: %s", plan.Verb(action), got.Outcome, got.Note)
		}
	}
}

// TestStaleMidway: the exit code tells whether something was done before the world turned out to be another.
func TestStaleMidway(t *testing.T) {
	slot := plan.Step{ID: "slot", Action: aSlot, Impact: plan.Safe}
	other := plan.Step{ID: "switch", Action: aSwitch, Impact: plan.Safe, Requires: need(plan.NeedSystem, "8")}
	for _, c := range []struct {
		name   string
		change func(*fakeWorld)
		steps  []plan.Step
		want   int
	}{
		{"nothing ran", nothing, []plan.Step{other}, 4},
		{"it was so already", (*fakeWorld).goodSlot, []plan.Step{slot, other}, 4},
		{"something ran", nothing, []plan.Step{slot, other}, 5},
	} {
		f := newFake(t)
		c.change(f)
		result, _ := Apply(context.Background(), &plan.Plan{Steps: c.steps}, f.world(), f.options())
		if got := result.Exit(); got != c.want {
			t.Errorf("%s: exit %d, want %d: %v", c.name, got, c.want, outcomes(result))
		}
	}
}
