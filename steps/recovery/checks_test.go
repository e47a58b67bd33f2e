package recovery

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/host"
)

// TestTheCopyIsAsked: at its target the copy answers its declared checks, as its owner, whom the usual pg_hba.conf lets in by peer
// alone; a wrong answer is told, and asked for again.
func TestTheCopyIsAsked(t *testing.T) {
	w := newWorld(t, 15, nil)
	w.commit(1)
	backup := w.take()
	w.commit(2)
	w.archive(1)
	w.commit(3)
	target := hclspec.Target{Latest: true}
	o := w.options(w.route(target, w.target(target), backup))
	o.Route.Destination.Port, o.Route.Destination.BinDir = nobodysPort(t), w.Bin
	_, err := Restore(t.Context(), o)
	check(t, err)
	dir := o.Route.Destination.Path
	owner, err := host.LookupOwner(serverUser())
	check(t, err)
	hba := filepath.Join(dir, hbaConf)
	check(t, os.WriteFile(hba, []byte("local all all peer map=own\n"), 0o600))
	check(t, os.WriteFile(filepath.Join(dir, identConf), []byte("own "+userName(t, owner)+" postgres\n"), 0o600))
	t.Cleanup(func() { check(t, endServers(dir)) })
	start := StartOptions{Route: o.Route, Major: 15, Now: time.Now, Roles: []string{"nobody_of_this_name", "postgres"}, Checks: []hclspec.Check{
		{Name: "broken", Database: "postgres", SQL: "select 1/0", Expect: "1"},
		{Name: "nowhere", Database: "nowhere", SQL: "select 1", Expect: "1"},
		{Name: "null", Database: "postgres", SQL: "select null", Expect: "NULL"},
		{Name: "reads", Database: "postgres", SQL: "insert into ledger values (9) returning n", Expect: "9"},
		{Name: "rows", Database: "postgres", SQL: "select count(*) from ledger", Expect: "3"},
	}}
	reached, evidence, err := Start(t.Context(), start)
	check(t, err)
	want := []state.Answer{
		{Name: "broken", Database: "postgres", Expect: "1", Error: "division by zero [22012]"},
		{Name: "nowhere", Database: "nowhere", Expect: "1", Error: reached.Checks[1].Error},
		{Name: "null", Database: "postgres", Expect: "NULL", Got: "NULL", Passed: true},
		{Name: "reads", Database: "postgres", Expect: "9", Error: "cannot execute INSERT in a read-only transaction [25006]"},
		{Name: "rows", Database: "postgres", Expect: "3", Got: "2"},
	}
	if diff := cmp.Diff(want, reached.Checks); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(want, evidence.Reached.Checks); diff != "" {
		t.Error("the evidence does not have them:", diff)
	}
	for _, say := range []string{`check "rows" in database postgres gave "2" and not "3"`, `database "nowhere" does not exist`, "nobody_of_this_name"} {
		if why := reached.Unmet(); !strings.Contains(why, say) {
			t.Errorf("%q is not in: %s", say, why)
		}
	}
	if again, err := Unfinished(o.Route); err != nil || again == nil {
		t.Errorf("it would not be asked again: %v", err)
	}

	start.Checks = []hclspec.Check{{Name: "rows", Database: "postgres", SQL: "select count(*) from ledger", Expect: "2"}}
	reached, _, err = Start(t.Context(), start)
	check(t, err)
	if reached.Unmet() != "" || !strings.HasSuffix(reached.Text(), "; 1 check holds") {
		t.Errorf("%s: %s", reached.Text(), reached.Unmet())
	}
	kept, err := Started(o.Route)
	check(t, err)
	if again, err := Unfinished(o.Route); err != nil || again != nil || len(kept.Checks) != 1 {
		t.Errorf("it counts as unfinished: %v, %+v", err, kept)
	}
}

// TestACopyThatLetsNobodyIn fails its checks with what it says of that.
func TestACopyThatLetsNobodyIn(t *testing.T) {
	s := &starting{StartOptions: StartOptions{
		Route: plan.Route{Destination: hclspec.Destination{Path: t.TempDir()}}, Roles: []string{"postgres"},
		Checks: []hclspec.Check{{Name: "rows", Database: "postgres", SQL: "select 1", Expect: "1"}},
	}}
	s.dir = s.Route.Destination.Path
	all, err := s.answers(t.Context())
	check(t, err)
	if len(all) != 1 || all[0].Passed || all[0].Error == "" {
		t.Errorf("%+v", all)
	}
}

func userName(t *testing.T, o host.Owner) string {
	t.Helper()
	if o.Name != "" {
		return o.Name
	}
	who, _, _ := strings.Cut(host.Who(), "@")
	return who
}
