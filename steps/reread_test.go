package steps

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/wal"
)

// TestIdentityMustBeSaid: a plan that does not say which cluster it saw could mean any.
func TestIdentityMustBeSaid(t *testing.T) {
	f := newFake(t)
	step := plan.Step{ID: "switch", Action: plan.SwitchWAL{Server: "orders"}, Impact: plan.Safe, Requires: need(plan.NeedSystem, "")}
	result, _ := Apply(context.Background(), &plan.Plan{Steps: []plan.Step{step}}, f.world(), f.options())
	if got := result.Steps[0]; got.Outcome != OutcomeStale || !strings.Contains(got.Note, "does not say which system identifier") || f.switched != 0 {
		t.Errorf("%s: %s; switched %d times", got.Outcome, got.Note, f.switched)
	}
}

// TestRecoveryLooksAgain changes the world between the plan of a recovery and its apply.
func TestRecoveryLooksAgain(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*fakeWorld)
		note   string // empty: it is restored
	}{
		{"nothing changed", func(*fakeWorld) {}, ""},
		{"the backup is gone", func(f *fakeWorld) { f.cluster.Backups = f.cluster.Backups[:1] }, "backup new is no longer in repository"},
		{"the backup was deleted", func(f *fakeWorld) { f.backup("new").State = state.BackupDeleted }, "backup new is deleted now"},
		{"the backup was deleted and is held", func(f *fakeWorld) {
			f.backup("new").State, f.backup("new").Hold = state.BackupDeleted, &state.Hold{Expires: epoch.Add(time.Hour)}
		}, ""},
		{"the hold ran out", func(f *fakeWorld) {
			f.backup("new").State, f.backup("new").Hold = state.BackupDeleted, &state.Hold{Expires: epoch.Add(-time.Hour)}
		}, "backup new is deleted now"},
		{"WAL is gone", func(f *fakeWorld) { f.cluster.WAL[0].To = 0x7000000 }, "timeline 1, 0/7000000 to 0/8000000"},
		{"the end is in a partial", func(f *fakeWorld) { f.cluster.WAL[0].To, f.cluster.WAL[0].Partial = 0x7000000, 0x8000000 }, ""},
		{"the end is in the spool", func(f *fakeWorld) {
			f.cluster.WAL[0].To = 0x6000000
			f.spool = state.Spool{SystemID: "7", Timeline: 1, Durable: 0x8000000, Pending: []wal.Range{{Timeline: 1, From: 0x6000000, To: 0x8000000}}}
		}, ""},
		{"the end is in the spool of another cluster", func(f *fakeWorld) {
			f.cluster.WAL[0].To = 0x6000000
			f.spool = state.Spool{SystemID: "8", Timeline: 1, Durable: 0x8000000, Pending: []wal.Range{{Timeline: 1, From: 0x6000000, To: 0x8000000}}}
		}, "0/6000000 to 0/8000000"},
		{"a server runs there", func(f *fakeWorld) { f.target = state.Destination{Exists: true, Running: true} }, "a PostgreSQL server runs in /restore now"},
		{"somebody put files there", func(f *fakeWorld) { f.target = state.Destination{Exists: true} }, "/restore is not empty now"},
		{"a part of this restore is there", func(f *fakeWorld) { f.target = state.Destination{Exists: true, Ours: true} }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFake(t)
			c.change(f)
			action := recoverNew()
			action.Route.Destination.Path = "/restore"
			step := plan.Step{ID: "recovery", Action: action, Impact: plan.Safe}
			for _, code := range []string{plan.NeedDestination, plan.NeedBackup, plan.NeedWAL} {
				step.Requires = append(step.Requires, plan.Condition{Code: code})
			}
			result, _ := Apply(context.Background(), &plan.Plan{Steps: []plan.Step{step}}, f.world(), f.options())
			got := result.Steps[0]
			if c.note == "" && (got.Outcome != OutcomeDone || !f.restored) {
				t.Errorf("%s: %s", got.Outcome, got.Note)
			}
			if c.note != "" && (got.Outcome != OutcomeStale || !strings.Contains(got.Note, c.note) || f.restored) {
				t.Errorf("%s: %q; want %q; restored: %t", got.Outcome, got.Note, c.note, f.restored)
			}
		})
	}
}

// TestGapIsAskedForAgain: nothing is recorded as lost that the server or the spool has.
func TestGapIsAskedForAgain(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*fakeWorld)
		note   string
	}{
		"it is gone":        {func(*fakeWorld) {}, ""},
		"the server has it": {func(f *fakeWorld) { f.serves = true }, "orders has WAL from 0/8000000"},
		"the spool went on": {func(f *fakeWorld) { f.spool = state.Spool{SystemID: "7", Timeline: 1, Durable: 0x8800000} }, "holds WAL"},
		"the spool has a piece": {func(f *fakeWorld) {
			f.spool = state.Spool{SystemID: "7", Pending: []wal.Range{{Timeline: 1, From: 0x8000000, To: 0x9000000}}}
		}, "holds WAL"},
		"another cluster's": {func(f *fakeWorld) { f.spool = state.Spool{SystemID: "8", Timeline: 1, Durable: 0x8800000} }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			c.change(f)
			gap := plan.RecordGap{Server: "orders", SystemID: "7", Range: wal.Range{Timeline: 1, From: 0x8000000, To: 0x9000000}}
			step := plan.Step{ID: "gap", Action: gap, Impact: plan.Safe, Requires: need(plan.NeedLoss, "")}
			result, _ := Apply(context.Background(), &plan.Plan{Steps: []plan.Step{step}}, f.world(), f.options())
			got := result.Steps[0]
			recorded := len(f.cluster.Gaps) == 1
			if recorded != (c.note == "") || !strings.Contains(got.Note, c.note) {
				t.Errorf("recorded: %t; %s: %s; want %q", recorded, got.Outcome, got.Note, c.note)
			}
		})
	}
}

// TestTimelineMustDescend compares the new history with what is archived, switch positions included.
func TestTimelineMustDescend(t *testing.T) {
	second := wal.History{Timeline: 2, Parents: []wal.HistoryLine{{Timeline: 1, Switch: 0x5000000}}}
	for _, c := range []struct {
		name    string
		history string
		saw     string
		change  func(*fakeWorld)
		note    string
	}{
		{"as it was seen", "1\t0/7000000\tno recovery target specified\n", "1@0/7000000", func(*fakeWorld) {}, ""},
		{"the plan could not see it", "1\t0/7000000\tno recovery target specified\n", "", func(*fakeWorld) {}, ""},
		{"promoted again elsewhere", "1\t0/6000000\tno recovery target specified\n", "1@0/7000000", func(*fakeWorld) {}, "where the plan saw it, at 1@0/7000000"},
		{"across an archived one", "1\t0/5000000\tx\n2\t0/7000000\tx\n", "", func(f *fakeWorld) { f.histories = []wal.History{second} }, ""},
		{"another timeline 2", "1\t0/4000000\tx\n2\t0/7000000\tx\n", "", func(f *fakeWorld) { f.histories = []wal.History{second} }, "left timeline 1 at 0/4000000"},
		{"not from the newest", "1\t0/5000000\tx\n", "", func(f *fakeWorld) {
			f.cluster.WAL = append(f.cluster.WAL, state.WALRange{Range: wal.Range{Timeline: 2, From: 0x5000000, To: 0x8000000}})
		}, "does not descend from timeline 2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFake(t)
			c.change(f)
			f.history = []byte(c.history)
			had := len(f.histories)
			f.server.Timeline = 3
			step := plan.Step{ID: "timeline", Action: plan.FollowTimeline{Server: "orders", Timeline: 3}, Impact: plan.Safe, Requires: need(plan.NeedDescent, c.saw)}
			result, _ := Apply(context.Background(), &plan.Plan{Steps: []plan.Step{step}}, f.world(), f.options())
			got := result.Steps[0]
			if archived := len(f.histories) > had; archived != (c.note == "") || !strings.Contains(got.Note, c.note) {
				t.Errorf("archived: %t; %s: %s; want %q", archived, got.Outcome, got.Note, c.note)
			}
		})
	}
}

// TestServesAsksARealServer: WAL that it recycled is gone, what it writes now is there.
func TestServesAsksARealServer(t *testing.T) {
	pg := pgtest.Start(t, pgtest.Options{Version: pgtest.Versions(t)[0]})
	s := newSite(t, pg)
	for range 3 {
		pg.SQL(t, "select pg_switch_wal() from (select txid_current()) x")
		pg.SQL(t, "checkpoint")
	}
	servers := realServers{real{spec: s.spec, o: s.bind.withDefaults()}}
	if serves, err := servers.Serves(t.Context(), "orders", 1, 0x1000000); err != nil || serves {
		t.Errorf("the first segment, which is recycled: %t, %v", serves, err)
	}
	if serves, err := servers.Serves(t.Context(), "orders", 1, s.facts().FlushLSN); err != nil || !serves {
		t.Errorf("the end: %t, %v", serves, err)
	}
}

// TestUnfinishedTailGoes: a range of which only parts of a segment are archived is not done already.
func TestUnfinishedTailGoes(t *testing.T) {
	f := newFake(t)
	f.cluster.WAL = append(f.cluster.WAL, state.WALRange{Range: wal.Range{Timeline: 9, From: 0x1000000, To: 0x1000000}, Partial: 0x1800000})
	tail := wal.Range{Timeline: 9, From: 0x1000000, To: 0x2000000}
	step := plan.Step{ID: "wal", Impact: plan.Safe, Action: plan.PruneWAL{Server: "orders", SystemID: "7", Repository: "main", Ranges: []wal.Range{tail}}, Requires: need(plan.NeedStillNeedless, "")}
	result, err := Apply(context.Background(), &plan.Plan{Steps: []plan.Step{step}}, f.world(), f.options())
	if err != nil || result.Steps[0].Outcome != OutcomeDone || len(f.deleted) != 1 || f.deleted[0] != tail {
		t.Errorf("%v: %+v, deleted %v", err, result.Steps[0], f.deleted)
	}
}
