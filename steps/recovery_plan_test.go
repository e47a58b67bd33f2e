package steps

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
)

// TestRecoveryKnowsWhatTheBackupHas observes and plans the recovery of a real backup with a tablespace, for an owner who
// may not read the repository.
func TestRecoveryKnowsWhatTheBackupHas(t *testing.T) {
	pg := pgtest.Start(t, pgtest.Options{Version: pgtest.Versions(t)[0]})
	fast := pg.Dir(t, "fast")
	pg.Exec(t, "create tablespace fast location '"+fast+"'")
	pg.Exec(t, "create table t tablespace fast as select generate_series(1, 1000)")
	s := newSite(t, pg)
	s.converge()

	owner := ""
	if os.Geteuid() == 0 {
		owner = "nobody"
	}
	recovery := hclspec.Recovery{Name: "r", Server: "orders", Target: hclspec.Target{Immediate: true, Inclusive: true}, Destination: hclspec.Destination{
		Path: filepath.Join(t.TempDir(), "restore"), Owner: owner, BinDir: pg.Bin, WAL: "fetch",
	}}
	steps, why := s.planRecovery(recovery)
	if len(steps) != 0 || !strings.Contains(why, "fast (on the server in "+fast+", which exists on this machine too)") || !strings.Contains(why, "write tablespaces = { fast = ") {
		t.Fatalf("%d steps; %s", len(steps), why)
	}
	recovery.Destination.Tablespaces = map[string]string{"fast": filepath.Join(t.TempDir(), "fast")}
	steps, why = s.planRecovery(recovery)
	if len(steps) != 1 {
		t.Fatal(why)
	}
	route := steps[0].Action.(plan.RecoverTo).Route
	if want := map[bool]string{true: "copy", false: "fetch"}[owner != ""]; route.Destination.WAL != want {
		t.Errorf("WAL is brought by %q for owner %q, want %q", route.Destination.WAL, owner, want)
	}
	result, err := Apply(t.Context(), &plan.Plan{Steps: steps}, Bind(s.spec, s.bind), Options{Approved: []string{"disruptive"}, Host: "here", Who: "tester@here"})
	if err != nil {
		t.Fatalf("%v: %+v", err, result.Steps)
	}
}

// planRecovery gives the steps, and why there are none.
func (s *site) planRecovery(r hclspec.Recovery) ([]plan.Step, string) {
	s.t.Helper()
	s.ask.RecoverTo = &r
	p := s.plan()
	var why []string
	for _, n := range p.NotDone {
		why = append(why, n.Why.Text, n.Hint)
	}
	return p.Steps, strings.Join(why, "\n")
}
