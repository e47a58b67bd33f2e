package steps

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
)

// TestTwoAppliesAtOnce has two of them apply the plan of the same untouched server, begun at the same moment:
// everything is done once, there is one first backup, and the one that comes second at something says who is at it
// since when (exit 6), or that it is so already. PGKEEP_ROUNDS says how many races; by default 5.
func TestTwoAppliesAtOnce(t *testing.T) {
	pg := pgtest.Start(t, pgtest.Options{Version: pgtest.Versions(t)[0]})
	locked := 0
	for range rounds(5) {
		t.Run("", func(t *testing.T) { locked += raceApplies(t, pg) })
	}
	if locked == 0 {
		t.Error("nobody ever met a lock: these were no races")
	}
}

func raceApplies(t *testing.T, pg *pgtest.Server) (locked int) {
	t.Helper()
	s := newSite(t, pg)
	p := s.plan()
	if len(p.Steps) != 4 {
		t.Fatalf("an untouched server asks for %d steps", len(p.Steps))
	}
	var results [2]Result
	var both sync.WaitGroup
	gun := make(chan struct{})
	for i := range results {
		both.Go(func() {
			<-gun
			results[i], _ = s.apply(p, Bind(s.spec, s.bind)) // the result says it all
		})
	}
	close(gun)
	both.Wait()
	for i := range p.Steps {
		doneOnce(t, p.Steps[i].ID, results[0].Steps[i], results[1].Steps[i])
	}
	for _, r := range results {
		if exit := r.Exit(); exit != 0 && exit != 6 {
			t.Errorf("exit %d: %v", exit, outcomes(r))
		}
		locked += r.Counts()[OutcomeLocked]
	}
	s.recv.endAll()
	s.converge()
	if n := s.committed(); n != 1 {
		t.Errorf("%d first backups", n)
	}
	return locked
}

// doneOnce asserts that at most one did it, and what the other says.
func doneOnce(t *testing.T, id string, a, b StepResult) {
	t.Helper()
	if a.Outcome == OutcomeDone && b.Outcome == OutcomeDone {
		t.Errorf("%s was done twice", id)
	}
	for _, one := range []StepResult{a, b} {
		switch one.Outcome {
		case OutcomeDone, OutcomeAlready:
		case OutcomeSkipped:
			if !strings.Contains(one.Note, "comes after") {
				t.Errorf("%s is skipped: %q", id, one.Note)
			}
		case OutcomeLocked:
			if one.Err == nil || !strings.Contains(one.Err.Error(), "since") || state.CodeOf(one.Err) != state.CodeLocked {
				t.Errorf("%s is locked, and nobody says by whom since when: %v", id, one.Err)
			}
		default:
			t.Errorf("%s is %s: %s %v", id, one.Outcome, one.Note, one.Err)
		}
	}
}

// committed counts the committed backups of the site's repository.
func (s *site) committed() int {
	s.t.Helper()
	repositories := realRepositories{real{spec: s.spec, o: s.bind.withDefaults()}}
	facts := s.facts()
	cluster, err := repositories.Cluster(s.t.Context(), "main", "orders", facts.SystemID)
	if err != nil {
		s.t.Fatal(err)
	}
	backups, err := cluster.Backups(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	n := 0
	for _, b := range backups {
		if b.State == state.BackupCommitted {
			n++
		}
	}
	return n
}

func (s *site) facts() state.Server {
	s.t.Helper()
	conn, err := realServers{real{spec: s.spec, o: s.bind.withDefaults()}}.Connect(s.t.Context(), "orders")
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	facts, err := conn.Facts(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return facts
}

// TestSecondFirstBackup applies a plan that asks for a first backup after somebody else took one: it is done already,
// and while it is being taken the plan is stale.
func TestSecondFirstBackup(t *testing.T) {
	needed := plan.Step{
		ID: "backup", Impact: plan.Safe, Requires: need(plan.NeedNoBackupSince, ""),
		Action: plan.TakeBackup{Server: "orders", Repositories: []string{"main"}, Kind: "full", Needed: true, Known: []string{"old"}},
	}
	for _, c := range []struct {
		name  string
		state state.BackupState
		want  Outcome
	}{
		{"taken meanwhile", state.BackupCommitted, OutcomeAlready},
		{"being taken", state.BackupRunning, OutcomeStale},
		{"tried in vain", state.BackupAborted, OutcomeDone},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFake(t)
			f.backup("new").State = c.state
			result, _ := Apply(context.Background(), &plan.Plan{Steps: []plan.Step{needed}}, f.world(), f.options())
			if got := result.Steps[0].Outcome; got != c.want {
				t.Errorf("%s (%s), want %s", got, result.Steps[0].Note, c.want)
			}
		})
	}
}
