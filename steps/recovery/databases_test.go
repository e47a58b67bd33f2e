package recovery

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/repository"
)

const otherDatabase = `crm "old"`

// in runs statements in a database, each in its own transaction.
func in(t testing.TB, s *pgtest.Server, database string, statements ...string) (last string) {
	t.Helper()
	for _, q := range statements {
		var err error
		if last, err = s.TryAs("postgres", database, q); err != nil {
			t.Fatalf("%s: %s: %v", database, q, err)
		}
	}
	return last
}

// chooseWorld is a server with databases of which some are restored; WAL goes on in all of them after the backup.
func chooseWorld(t testing.TB, o pgtest.Options) (w *world, backup string) {
	w = newWorldOf(t, o)
	w.Exec(t, "create database shop")
	w.Exec(t, `create database "crm ""old"""`)
	w.Exec(t, "create database spaced tablespace fast")
	for _, d := range []string{"shop", otherDatabase, "spaced"} {
		in(
			t, w.Server, d, "create table big (id int primary key, filler text)",
			"insert into big select i, md5(i::text) || md5((-i)::text) from generate_series(1, 20000) i",
			"create table still as select i from generate_series(1, 20000) i", "create table gone as select 1 i",
			"create table there (i int) tablespace fast", "insert into there select generate_series(1, 1000)",
		)
	}
	w.Exec(t, "checkpoint")
	backup = w.take()
	for _, d := range []string{"shop", otherDatabase, "spaced"} {
		in(
			t, w.Server, d, "vacuum still", "update big set filler = md5(filler) where id % 7 = 0", "delete from big where id > 19000", "vacuum big",
			"drop table gone", "vacuum full pg_class", "reindex table big", "insert into there select generate_series(1, 1000)", "truncate still",
			"insert into still select generate_series(1, 3000)", "create table later as select generate_series(1, 1000) i",
			"insert into big select i, 'x' from generate_series(30001, 40000) i", "checkpoint", "update big set filler = 'y' where id % 11 = 0", "vacuum freeze",
		)
	}
	w.Exec(t, "create database young")
	in(t, w.Server, "young", "create table t as select generate_series(1, 500) i")
	w.commit(7)
	w.archive(1)
	return w, backup
}

const bigDigest = "select count(*), md5(string_agg(id || filler, ',' order by id)), (select sum(i) from there), (select sum(i) from still), (select count(*) from later) from big"

func (w *world) choose(backup string, databases ...string) Options {
	target := hclspec.Target{Latest: true}
	route := w.route(target, w.target(target), backup)
	route.Destination.Databases = databases
	return w.options(route)
}

// started starts what was restored, and looks whether it is what was chosen and the others can be dropped.
func (w *world) hasChosen(route plan.Route) {
	t := w.t
	t.Helper()
	s := pgtest.StartDir(t, w.Version, route.Destination.Path, pgtest.Options{Version: w.Version})
	awaitPromotion(t, s)
	if got, want := in(t, s, "shop", bigDigest), in(t, w.Server, "shop", bigDigest); got != want {
		t.Errorf("shop has %q, not %q", got, want)
	}
	in(t, s, "shop", "create extension amcheck")
	if got := in(t, s, "shop", "select count(bt_index_check(oid, true)) > 10 from pg_class where relkind = 'i' and relam = 403"); got != "t" {
		t.Errorf("the indexes of shop: %s", got)
	}
	if got := rows(t, s) + " " + in(t, s, "young", "select count(*) from t"); got != "7 500" {
		t.Errorf("the others have %q", got)
	}
	left, err := LeftOut(route.Destination.Path)
	check(t, err)
	if len(left) != 2 {
		t.Fatalf("left out were %+v", left)
	}
	for _, d := range left { // turned away, and nobody else with it
		if _, err := s.TryAs("postgres", d.Name, "select 1"); err == nil || !strings.Contains(err.Error(), "is not a valid data directory") {
			t.Errorf("whoever connects to %s: %v", d.Name, err)
		}
		s.Exec(t, d.Drop())
	}
	if strings.Contains(s.Log(), "PANIC") {
		t.Error(s.Log())
	}
	if got := s.SQL(t, "select string_agg(datname, ' ' order by datname) from pg_database"); got != "postgres shop template0 template1 young" {
		t.Errorf("there are %q", got)
	}
	s.Exec(t, "checkpoint")
	s.Stop(t, "fast")
}

// TestChosenDatabases: the others are holes, on which PostgreSQL replays what came after the backup.
func TestChosenDatabases(t *testing.T) {
	for _, version := range pgtest.SomeVersions(t, 13, 15, 18) {
		for _, c := range []struct {
			what    string
			options pgtest.Options
			ignored bool // ignore_invalid_pages
			seldom  bool // when it is asked for
		}{
			{"checksums", pgtest.Options{}, false, false},
			{"no checksums", pgtest.Options{NoChecksums: true, Settings: map[string]string{"wal_log_hints": "off"}}, true, false},
			{"hints", pgtest.Options{NoChecksums: true, Settings: map[string]string{"wal_log_hints": "on"}}, false, true},
			{"no full pages", pgtest.Options{Settings: map[string]string{"full_page_writes": "off"}}, true, false},
		} {
			if os.Getenv("PGKEEP_PG") == "" && (c.seldom || version != 15 && !c.options.NoChecksums) {
				continue // all of all versions when they are asked for
			}
			t.Run(fmt.Sprintf("%d, %s", version, c.what), func(t *testing.T) {
				c.options.Version = version
				w, backup := chooseWorld(t, c.options)
				o := w.choose(backup, "shop")
				e, err := Restore(t.Context(), o)
				check(t, err)
				auto, err := os.ReadFile(filepath.Join(o.Route.Destination.Path, autoConf))
				check(t, err)
				if got := strings.Contains(string(auto), "ignore_invalid_pages"); got != c.ignored {
					t.Errorf("ignore_invalid_pages: %v", got)
				}
				if !slices.ContainsFunc(e.Notes, func(n string) bool { return strings.Contains(n, `DROP DATABASE "crm ""old""";`) }) {
					t.Errorf("the notes are %q", e.Notes)
				}
				w.onlyHoles(o)
				w.hasChosen(o.Route)
			})
		}
	}
}

// onlyHoles looks at the files of what was left out, and at how much less was fetched.
func (w *world) onlyHoles(o Options) {
	t := w.t
	t.Helper()
	r := &restore{Options: o}
	check(t, r.selectDatabases(t.Context()))
	holes, folders := 0, map[uint32]string{0: o.Route.Destination.Path}
	for _, f := range o.Backup.Folders() {
		if f.OID != 0 {
			folders[f.OID] = o.Route.Destination.Tablespaces["fast"]
		}
	}
	for f, err := range o.Backup.Files(t.Context()) {
		check(t, err)
		if !r.isHollow(&f) {
			continue
		}
		info, err := os.Stat(filepath.Join(folders[f.Folder], f.Path))
		check(t, err)
		if st, ok := info.Sys().(*syscall.Stat_t); !ok || st.Blocks != 0 || info.Size() != f.Size {
			t.Fatalf("%s has %d bytes in %d blocks, not %d in none", f.Path, info.Size(), st.Blocks, f.Size)
		}
		holes++
	}
	if holes < 400 || r.hollowBytes() < o.Backup.Info().DataBytes/3 {
		t.Errorf("%d files, %d bytes of %d were left out", holes, r.hollowBytes(), o.Backup.Info().DataBytes)
	}
}

// TestChosenDatabasesAgain: cut short and gone on with, by another choice refused, and restored over with another choice.
func TestChosenDatabasesAgain(t *testing.T) {
	w, backup := chooseWorld(t, pgtest.Options{Version: 15})
	o := w.choose(backup, "shop")
	for _, left := range []int{0, 3, 100} {
		first := o
		first.Backup = &cut{Backup: o.Backup, left: left}
		if _, err := Restore(t.Context(), first); !errors.Is(err, errCut) {
			t.Fatalf("cut after %d pieces: %v", left, err)
		}
	}
	every := o
	every.Route.Destination.Databases = nil
	if _, err := Restore(t.Context(), every); state.CodeOf(err) != state.CodeDestination {
		t.Fatalf("a restore of all goes on with it: %v", err)
	}
	e, err := Restore(t.Context(), o)
	check(t, err)
	if !e.Resumed {
		t.Error("it began anew")
	}
	w.onlyHoles(o)
	few, err := Restore(t.Context(), overwriting(every))
	check(t, err)
	if left, err := LeftOut(o.Route.Destination.Path); err != nil || len(left) != 0 {
		t.Errorf("left out were %+v, %v", left, err)
	}
	w.prove(every.Route)
	if few.Fetched == 0 || few.Fetched < e.Fetched {
		t.Errorf("%d bytes were fetched for the rest, %d before", few.Fetched, e.Fetched)
	}
	_, err = Restore(t.Context(), overwriting(o)) // what was there is not left in the holes
	check(t, err)
	w.onlyHoles(o)
	w.hasChosen(o.Route)
}

// TestDatabasesThatAreNotChosen: names that the backup does not have, or not surely, and a standby.
func TestDatabasesThatAreNotChosen(t *testing.T) {
	all := []Database{
		{OID: 1, Name: "template1"},
		{OID: 4, Name: "template0"},
		{OID: 5, Name: "postgres"},
		{OID: 6, Name: "what initdb made, renamed"},
		{OID: 16400, Name: "shop"},
		{OID: 16401, Name: "renamed", unsure: true},
		{OID: 16401, Name: "new name"},
		{OID: 16402, Name: "twice"},
		{OID: 16403, Name: "twice"},
		{OID: 16404, Name: "moved", unsure: true},
		{OID: 16404, Name: "moved"},
	}
	for name, want := range map[string]string{
		"shpo": `Did you mean "shop"? it has`, "renamed": "is not sure", "twice": "is not sure", "": `no database ""`,
		"shop": "", "new name": "", "moved": "", "postgres": "",
	} {
		left, err := chooseDatabases(all, []string{name})
		switch {
		case want == "" && err != nil, want != "" && (err == nil || !strings.Contains(err.Error()+state.HintOf(err), want)):
			t.Errorf("%q: %v %s", name, err, state.HintOf(err))
		case want == "" && slices.ContainsFunc(left, func(d Database) bool { return d.OID < firstNormalOID || d.Name == name }):
			t.Errorf("%q: %+v is left out", name, left)
		}
	}
	for _, c := range []struct {
		folder uint32
		path   string
		want   uint32
	}{
		{0, "base/16400/2619", 16400},
		{0, "base/16400", 0},
		{0, "global/1262", 0},
		{0, "base/pgsql_tmp/1", 0},
		{16390, "PG_15_202209061/16400/1", 16400},
		{0, "PG_15_202209061/16400/1", 0},
		{0, "pg_tblspc/16391/PG_15_202209061/16400/1", 16400},
		{16390, "base/16400/1", 0},
	} {
		if got := databaseOf(&repository.File{Folder: c.folder, Path: c.path}); got != c.want {
			t.Errorf("%s lies in %d", c.path, got)
		}
	}
}
