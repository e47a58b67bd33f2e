package recovery

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/host"
	"github.com/pgkeep/pgkeep/state/observe"
	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/wal"
)

// drilled is a world whose newest backup is drilled.
type drilled struct {
	*world
	scratch string
	backup  string
	before  *state.Drill
	checks  []hclspec.Check
	begun   func() // nil: nothing happens
	copies  bool   // WAL is copied beside the data directory
}

func newDrilled(t *testing.T, version int) *drilled {
	t.Helper()
	w := newWorld(t, version, map[string]string{"max_connections": "137", "archive_mode": "on", "archive_command": "false"})
	w.Exec(t, "create table harm (n int primary key, note text)")
	w.Exec(t, "insert into harm select n, 'note ' || n from generate_series(1, 300) n")
	w.Exec(t, "create table hurt as select n, 'note ' || n as note from generate_series(1, 300) n")
	w.Exec(t, "create unlogged table fleeting (n int primary key)")
	w.Exec(t, `create table "odd 'name" (n int)`)
	return &drilled{world: w, scratch: filepath.Join(pgtest.TempDir(t), "scratch")}
}

// run drills once and gives what came of it.
func (w *drilled) run(t *testing.T, target hclspec.Target, during func(*DrillRun)) state.Drill {
	t.Helper()
	s, run := w.begin(t, target)
	defer s.Close()
	if w.begun != nil {
		w.begun()
	}
	check(t, run.Restore(t.Context(), func(int64, int64) {}))
	if !run.Failed() {
		check(t, run.Start(t.Context(), func(int64, int64) {}))
	}
	if during != nil {
		during(run)
	}
	if !run.Failed() {
		check(t, run.Ask(t.Context(), func(int64, int64) {}))
	}
	check(t, run.Stop())
	result, err := run.Finish()
	check(t, err)
	check(t, s.Remove(run.ID()))
	check(t, s.Forget(run.ID()))
	w.nothingLeft(t)
	return result
}

func (w *drilled) begin(t *testing.T, target hclspec.Target) (*Scratch, *DrillRun) {
	t.Helper()
	target.Inclusive, target.Action = true, "promote"
	route := w.route(target, w.target(target), w.backup)
	route.Destination.Path, route.Destination.BinDir = w.scratch, w.Bin
	if w.copies {
		route.Destination.WAL = "copy"
	}
	o := w.options(route)
	reader, err := w.cluster.OpenBackup(t.Context(), route.Backup)
	check(t, err)
	s, err := OpenScratch(w.scratch, serverUser(), "a test", time.Now())
	check(t, err)
	run, err := s.Begin(DrillOptions{
		Name: "weekly", Route: route, Major: w.Version, Backup: o.Backup, Place: o.Places[0], Program: o.Program, Amcheck: "full", Canaries: 20, MaxShrink: 50,
		Names: func(ctx context.Context, want []wal.Relation) (map[wal.Relation]state.NamedRelation, error) {
			return observe.Names(ctx, reader, w.Version, want)
		},
		Checks: w.checks, Roles: []string{"nobody_of_this_name", "postgres"}, Before: w.before, Host: "here", Who: "a test", Version: "test", Now: time.Now,
	})
	check(t, err)
	return s, run
}

// nothingLeft: only the lock is in the scratch directory.
func (w *drilled) nothingLeft(t *testing.T) {
	t.Helper()
	entries, err := os.ReadDir(w.scratch)
	check(t, err)
	for _, e := range entries {
		if e.Name() != "lock" {
			t.Errorf("%s is left in the scratch directory", e.Name())
		}
	}
}

// TestDrill drills a good backup, then a damaged one, on which everything that is wrong is named.
func TestDrill(t *testing.T) {
	for _, version := range pgtest.SomeVersions(t, 15) {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			w := newDrilled(t, version)
			w.backup = w.take()
			w.commit(1)
			w.archive(1)
			w.good(t)
			w.bad(t)
		})
	}
}

func (w *drilled) good(t *testing.T) {
	w.checks = []hclspec.Check{{Name: "one", Database: "postgres", SQL: "select count(*) from harm where n + 0 <= 7", Expect: "7"}}
	d := w.run(t, hclspec.Target{Latest: true}, w.isolated(t))
	if !d.Passed || len(d.Failures) > 0 || d.RTO <= 0 || d.Version/10000 != w.Version || d.LastTime.IsZero() {
		t.Errorf("%+v", d)
	}
	if d.Amcheck.Indexes < 50 || d.Amcheck.Tables < 50 && w.Version > 13 || (d.Amcheck.Skipped != "") != (w.Version == 13) {
		t.Errorf("amcheck %+v", d.Amcheck)
	}
	if !slices.ContainsFunc(d.Rows, func(r state.DrillRows) bool {
		return r.Table == "public.harm" && r.Rows == 300 && r.Before == nil
	}) || !slices.ContainsFunc(d.Rows, func(r state.DrillRows) bool { return r.Table == `public."odd 'name"` }) {
		t.Errorf("rows %+v", d.Rows)
	}
	names := map[string]bool{}
	for _, p := range d.Phases {
		names[p.Name] = true
	}
	for _, want := range []string{"files", "start", "replay", "checks"} {
		if !names[want] {
			t.Errorf("no phase %s in %+v", want, d.Phases)
		}
	}
	w.before = &d
}

// isolated asks the running copy what could reach out of it, and who could reach it.
func (w *drilled) isolated(t *testing.T) func(*DrillRun) {
	return func(d *DrillRun) {
		info, err := os.Stat(d.socket())
		check(t, err)
		if info.Mode().Perm() != 0o700 {
			t.Errorf("the directory of the socket has mode %s", info.Mode())
		}
		c, err := postgres.ConnectCopy(t.Context(), d.socket(), isolatedPort, "postgres", "postgres")
		check(t, err)
		defer c.Close()
		for name, want := range map[string]string{
			"listen_addresses": "", "archive_mode": "off", "primary_conninfo": "", "max_logical_replication_workers": "0", "autovacuum": "off",
			"hot_standby": "on", "max_connections": "137", "unix_socket_permissions": "0700",
		} {
			got, err := c.Answer(t.Context(), fmt.Sprintf("select current_setting('%s')", name))
			if err != nil || got != want {
				t.Errorf("%s is %q in the copy, %v", name, got, err)
			}
		}
		if got, err := c.Answer(t.Context(), "select pg_is_in_recovery() or exists (select from pg_replication_slots)"); got != "f" {
			t.Errorf("%s %v", got, err)
		}
	}
}

// bad damages the cluster as a disk does that lies: content is other, checksums are right.
func (w *drilled) bad(t *testing.T) {
	harm := w.SQL(t, "select pg_relation_filepath('harm')")
	hurt := w.SQL(t, "select pg_relation_filepath('hurt')")
	w.Exec(t, "delete from ledger; create table other as select n from generate_series(1, 1000) n; truncate \"odd 'name\"; checkpoint")
	w.Exec(t, "drop table \"odd 'name\"")
	w.Stop(t, "fast")
	w.change(t, harm, func(page []byte, tuple int) { page[tuple+int(page[tuple+22])+2] = 0x0f }) // n
	w.change(t, hurt, func(page []byte, tuple int) { page[tuple+22] = 200 })                     // t_hoff
	w.StartAgain(t)
	w.backup = w.take()
	w.checks = append(w.checks, hclspec.Check{Name: "broken", Database: "postgres", SQL: "select 1 / 0", Expect: "1"})
	w.before.Rows = append(w.before.Rows, state.DrillRows{Database: "postgres", Table: "public.gone", Rows: 5}, state.DrillRows{Database: "postgres", Table: "public.other", Rows: 3000})
	d := w.run(t, hclspec.Target{Latest: true}, nil)
	if d.Passed || d.RTO <= 0 {
		t.Errorf("%+v", d)
	}
	text := strings.Join(d.Failures, "\n")
	want := []string{
		"amcheck: index public.harm_pkey of table public.harm of database postgres: ", "table public.gone of database postgres had 5 rows",
		"table public.other of database postgres has 1000 rows and had 3000 in the drill before", `check "one" in database postgres gave "6" and not "7"`, `check "broken" in database postgres: `,
	}
	if w.Version > 13 {
		want = append(want, "amcheck: table public.hurt of database postgres: ")
	}
	for _, x := range want {
		if !strings.Contains(text, x) {
			t.Errorf("no failure says %q:\n%s", x, text)
		}
	}
}

// change changes the first tuple of a relation's first page, and makes the page's checksum right.
func (w *drilled) change(t *testing.T, relation string, edit func(page []byte, tuple int)) {
	t.Helper()
	path := filepath.Join(w.DataDir, relation)
	content, err := os.ReadFile(path)
	check(t, err)
	page := content[:8192]
	tuple := int(binary.LittleEndian.Uint32(page[24:]) & 0x7fff)
	edit(page, tuple)
	binary.LittleEndian.PutUint16(page[8:], 0)
	binary.LittleEndian.PutUint16(page[8:], postgres.PageChecksum(page, 0))
	check(t, os.WriteFile(path, content, 0o600))
}

// TestDrillIsKilled: what a drill leaves that is killed while its server runs goes with the next one, and nothing else does.
func TestDrillIsKilled(t *testing.T) {
	w := newDrilled(t, 15)
	w.backup = w.take()
	s, run := w.begin(t, hclspec.Target{Latest: true})
	if _, err := OpenScratch(w.scratch, serverUser(), "another", time.Now()); state.CodeOf(err) != state.CodeLocked {
		t.Errorf("two drills in one scratch directory: %v", err)
	}
	check(t, run.Restore(t.Context(), nil))
	check(t, run.Start(t.Context(), nil))
	s.Close() // as the end of the process would
	foreign := []string{"d-0badc0de/data", "d-01234567.json/data", "mine"}
	for _, dir := range foreign {
		check(t, os.MkdirAll(filepath.Join(w.scratch, dir), 0o700))
	}
	check(t, os.WriteFile(filepath.Join(w.scratch, "d-11111111.json"), []byte("{}"), 0o600))
	check(t, os.Mkdir(filepath.Join(w.scratch, "d-11111111"), 0o700))
	check(t, os.WriteFile(filepath.Join(w.scratch, "d-22222222.json"), []byte(`{"version": 1, "kind": "another", "id": "d-22222222"}`), 0o600))
	check(t, os.WriteFile(filepath.Join(w.scratch, "d-33333333.json"), []byte(`{"version": 1, "kind": "`+scratchKind+`", "id": "d-11111111"}`), 0o600))
	check(t, os.Symlink(w.dir, filepath.Join(w.scratch, run.ID(), "ts", "link")))
	if pids, err := host.ServersIn(filepath.Join(w.scratch, run.ID(), "data")); err != nil || len(pids) == 0 {
		t.Fatalf("no server runs: %v", err)
	}
	s, err := OpenScratch(w.scratch, serverUser(), "the next", time.Now())
	check(t, err)
	defer s.Close()
	left, err := s.Left()
	if err != nil || len(left) != 1 || left[0].ID != run.ID() || left[0].Result != nil {
		t.Fatalf("%+v %v", left, err)
	}
	for range 2 { // it may be killed itself
		check(t, s.Remove(left[0].ID))
		check(t, s.Forget(left[0].ID))
	}
	if pids, err := host.ServersIn(filepath.Join(w.scratch, run.ID(), "data")); err != nil || len(pids) > 0 {
		t.Errorf("%v run, %v", pids, err)
	}
	for _, name := range append(foreign, "d-11111111", "d-11111111.json", "d-22222222.json", "d-33333333.json") {
		if _, err := os.Stat(filepath.Join(w.scratch, name)); err != nil {
			t.Errorf("%s is gone: %v", name, err)
		}
	}
	if _, err := os.Stat(filepath.Join(w.scratch, run.ID())); !os.IsNotExist(err) {
		t.Errorf("the dead drill's directory is there: %v", err)
	}
	if _, err := os.Stat(filepath.Join(w.dir, "REPOSITORY.json")); err != nil {
		t.Errorf("a link was followed: %v", err)
	}
	if err := s.Remove("../scratch"); err == nil {
		t.Error("a path is taken for a drill's name")
	}
}
