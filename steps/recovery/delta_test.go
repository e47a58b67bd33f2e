package recovery

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
)

// bigTable has its pages half full, so that updates stay in them. bigRows fill some 200 MB, of which 80 are stored: frames in which the
// small files of the catalogs lie together, of which a page or two differ, are 1 in 100 of that. In a cluster of gigabytes they are less.
const (
	bigRows  = 150_000
	bigTable = "create table big (id int primary key, filler bytea) with (fillfactor = 45)"
)

// fillBig leaves a vacuumed cluster, as autovacuum does, which is off: rows of catalogs that nobody has looked at since they were
// committed are marked by the first who does, and what that changes on disk is another thing before the end of recovery, when the mark
// stays in memory, than after it. So the first session of a copy decided which frames differ.
func (w *world) fillBig() {
	w.Exec(w.t, bigTable)
	w.Exec(w.t, fmt.Sprintf("insert into big select i, (select string_agg(sha512(int8send(i * 8 + g)), '') from generate_series(1, 8) g) from generate_series(1, %d) i", bigRows))
	w.Exec(w.t, "vacuum freeze")
	w.Exec(w.t, "checkpoint")
}

// changeSome rewrites rows that lie in 3 in 100 pages.
const changeSome = "update big set filler = sha512(filler) || substr(filler, 65) where id <= 4500"

// readAll reads every row of the database, as users and dumps do.
const readAll = `do $$ declare r regclass; begin
	for r in select oid from pg_class where relkind in ('r', 't', 'm') loop execute 'select count(*) from ' || r; end loop; end $$`

// TestOnlyWhatDiffersIsFetched: a copy that was read and written is restored over; of a backup of which 3 in 100 pages differ at
// most 5 in 100 bytes are moved.
func TestOnlyWhatDiffersIsFetched(t *testing.T) {
	w := newWorld(t, 15, nil)
	w.fillBig()
	w.commit(1)
	backup := w.take()
	target := hclspec.Target{Latest: true}
	o := w.options(w.route(target, w.target(target), backup))
	first, err := Restore(t.Context(), o)
	check(t, err)
	s := pgtest.StartDir(t, w.Version, o.Route.Destination.Path, pgtest.Options{Version: w.Version})
	awaitPromotion(t, s)
	s.Exec(t, readAll)
	s.Exec(t, changeSome)
	s.Exec(t, "insert into ledger values (99, 'of the copy')")
	s.Exec(t, "create table gone as select 1")
	s.Exec(t, "create database gone")
	if _, err := Restore(t.Context(), overwriting(o)); state.CodeOf(err) != state.CodeDestination {
		t.Errorf("a running server is restored over: %v", err)
	}
	s.Stop(t, "fast")
	check(t, os.WriteFile(filepath.Join(o.Route.Destination.Path, "standby.signal"), nil, 0o600))
	check(t, os.Remove(filepath.Join(o.Route.Destination.Path, "postgresql.auto.conf")))
	if _, err := Restore(t.Context(), o); state.CodeOf(err) != state.CodeDestination {
		t.Errorf("a copy that was used is restored over unasked: %v", err)
	}
	w.restoredOver(overwriting(o), first, "1")
}

// TestOnlyAnIncrementalIsFetched: a directory with the parent gets the pages that the incremental stores; those of the parent are
// compared with the parent's hashes.
func TestOnlyAnIncrementalIsFetched(t *testing.T) {
	w := newWorld(t, 17, map[string]string{"summarize_wal": "on"})
	w.fillBig()
	w.commit(1)
	full := w.take()
	target := hclspec.Target{Latest: true}
	o := w.options(w.route(target, w.target(target), full))
	first, err := Restore(t.Context(), o)
	check(t, err)
	w.Exec(t, changeSome)
	w.commit(2)
	next := w.takeOn(full)
	route := w.route(target, w.target(target), next)
	route.Destination = o.Route.Destination
	w.restoredOver(overwriting(w.options(route)), first, "1 2")
}

func overwriting(o Options) Options {
	o.Route.Destination.Overwrite = true
	return o
}

// restoredOver restores over what is there, and lets manifest, indexes and ledger decide.
func (w *world) restoredOver(o Options, first Evidence, want string) {
	t := w.t
	t.Helper()
	e, err := Restore(t.Context(), o)
	check(t, err)
	over := float64(e.Fetched) / float64(first.Fetched)
	t.Logf("fetched %d bytes, and %d for the whole: %.1f %%; %d removed", e.Fetched, first.Fetched, 100*over, e.Removed)
	if over > 0.05 || e.Fetched == 0 || !e.Over {
		t.Errorf("%d of %d bytes were fetched: %+v", e.Fetched, first.Fetched, e)
	}
	w.prove(o.Route)
	if got := w.soundCopy(o.Route); got != want {
		t.Errorf("the ledger has %q, not %q", got, want)
	}
}

// soundCopy starts a copy, has amcheck look at its indexes and tables, and gives the ledger.
func (w *world) soundCopy(route plan.Route) (ledger string) {
	t := w.t
	t.Helper()
	s := pgtest.StartDir(t, w.Version, route.Destination.Path, pgtest.Options{Version: w.Version})
	awaitPromotion(t, s)
	ledger = rows(t, s)
	s.Exec(t, "create extension amcheck")
	s.SQL(t, "select count(*) from (select bt_index_parent_check(c.oid, true) from pg_class c join pg_am a on a.oid = relam where amname = 'btree' and relkind = 'i') x")
	if got := s.SQL(t, "select count(*) from pg_class c, verify_heapam(c.oid) where relkind = 'r' and relam = 2"); got != "0" {
		t.Errorf("amcheck finds %s", got)
	}
	s.Stop(t, "fast")
	return ledger
}

func TestWhatIsNotRestoredOver(t *testing.T) {
	w := newWorld(t, 15, nil)
	backup := w.take()
	target := hclspec.Target{Latest: true}
	route := w.route(target, w.target(target), backup)
	outside := filepath.Join(t.TempDir(), "outside")
	precious(t, outside)
	for _, c := range []struct {
		name, want string
		make       func(t *testing.T, r *plan.Route)
	}{
		{"not a data directory", "is no data directory of PostgreSQL", func(t *testing.T, r *plan.Route) {
			precious(t, r.Destination.Path)
		}},
		{"another cluster", "of system", func(t *testing.T, r *plan.Route) {
			check(t, os.MkdirAll(filepath.Join(r.Destination.Path, "global"), 0o700))
			check(t, os.WriteFile(filepath.Join(r.Destination.Path, controlPath), make([]byte, controlLength), 0o600))
		}},
		{"a directory that is no tablespace of it", "is not where", func(t *testing.T, r *plan.Route) {
			check(t, os.MkdirAll(filepath.Join(r.Destination.Path, "global"), 0o700))
			b, err := os.ReadFile(filepath.Join(w.DataDir, controlPath))
			check(t, err)
			check(t, os.WriteFile(filepath.Join(r.Destination.Path, controlPath), b, 0o600))
			r.Destination.Tablespaces = map[string]string{"fast": outside}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := route
			r.Destination.Path, r.Destination.Overwrite = filepath.Join(t.TempDir(), "data"), true
			c.make(t, &r)
			before := listing(t, filepath.Dir(r.Destination.Path)) + listing(t, outside)
			_, err := Restore(t.Context(), w.options(r))
			if state.CodeOf(err) != state.CodeDestination || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v", err)
			}
			if got := listing(t, filepath.Dir(r.Destination.Path)) + listing(t, outside); got != before {
				t.Errorf("before:\n%s\nafter:\n%s", before, got)
			}
		})
	}
}

// TestRestoredOverLinks: neither links nor second names of files lead a restore elsewhere.
func TestRestoredOverLinks(t *testing.T) {
	w := newWorld(t, 15, nil)
	w.commit(1)
	backup := w.take()
	target := hclspec.Target{Latest: true}
	o := w.options(w.route(target, w.target(target), backup))
	_, err := Restore(t.Context(), o)
	check(t, err)
	dir := o.Route.Destination.Path
	outside := filepath.Join(filepath.Dir(dir), "outside")
	precious(t, outside)
	check(t, os.Link(filepath.Join(dir, "PG_VERSION"), filepath.Join(outside, "PG_VERSION")))
	check(t, os.WriteFile(filepath.Join(dir, "PG_VERSION"), []byte("99\n"), 0o600)) // in both
	check(t, os.RemoveAll(filepath.Join(dir, "pg_wal")))
	check(t, os.Symlink(outside, filepath.Join(dir, "pg_wal")))
	check(t, os.Symlink(outside, filepath.Join(dir, "pg_tblspc", "4711")))
	check(t, os.Remove(filepath.Join(dir, "global", "pg_filenode.map")))
	check(t, os.Symlink(filepath.Join(outside, "PG_VERSION"), filepath.Join(dir, "global", "pg_filenode.map")))
	check(t, os.MkdirAll(filepath.Join(dir, "base", "4711"), 0o700))
	check(t, os.Symlink(outside, filepath.Join(dir, "base", "4711", "escape")))
	before := listing(t, outside)
	giveToServer(t, dir)
	half := overwriting(o)
	half.Backup = &cut{Backup: o.Backup, left: 1} // pg_control is read first
	if _, err := Restore(t.Context(), half); !errors.Is(err, errCut) {
		t.Errorf("it was not cut: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, controlPath)); err == nil {
		t.Error("a half restore has a pg_control")
	}
	e, err := Restore(t.Context(), o) // that goes on needs no further word
	check(t, err)
	t.Log(e.Notes)
	if got := listing(t, outside); got != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, got)
	}
	if b, err := os.ReadFile(filepath.Join(outside, "PG_VERSION")); err != nil || string(b) != "99\n" {
		t.Errorf("the second name of a file now leads to %q, %v", b, err)
	}
	w.prove(o.Route)
}
