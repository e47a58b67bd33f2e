package recovery

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
)

// TestWhatCameLaterIsNotRestoredOver: what an earlier restore wrote beside a data directory says nothing of what somebody put in its
// place since.
func TestWhatCameLaterIsNotRestoredOver(t *testing.T) {
	w := newWorld(t, 15, nil)
	w.commit(1)
	backup := w.take()
	target := hclspec.Target{Latest: true}
	o := overwriting(w.options(w.route(target, w.target(target), backup)))
	dir := o.Route.Destination.Path
	_, err := Restore(t.Context(), o)
	check(t, err)
	for _, c := range []struct {
		name string
		cut  bool // a restore over it was cut short before
		id   []byte
	}{
		{"other files where a restore was complete", false, nil},
		{"other files where a restore was cut", true, nil},
		{"another cluster where a restore was cut", true, make([]byte, controlLength)},
	} {
		if c.cut {
			check(t, errors.Join(os.RemoveAll(dir), os.RemoveAll(dir+"-fast"))) // it begins anew
			_, err := Restore(t.Context(), o)
			check(t, err)
			half := o
			damage(t, filepath.Join(dir, "PG_VERSION"))
			half.Backup = &cut{Backup: o.Backup, left: 1}
			if _, err := Restore(t.Context(), half); !errors.Is(err, errCut) {
				t.Fatalf("%s: it was not cut: %v", c.name, err)
			}
		}
		check(t, os.Rename(dir, dir+"-was")) // so that the new one is another, whatever numbers the file system gives again
		precious(t, dir)
		if c.id != nil {
			check(t, os.MkdirAll(filepath.Join(dir, "global"), 0o700))
			check(t, os.WriteFile(filepath.Join(dir, controlPath), c.id, 0o600))
		}
		before := listing(t, dir)
		for _, asked := range []Options{o, unasked(o)} {
			if _, err := Restore(t.Context(), asked); state.CodeOf(err) != state.CodeDestination {
				t.Errorf("%s: it is restored over: %v", c.name, err)
			}
		}
		if got := listing(t, dir); got != before {
			t.Errorf("%s: before:\n%s\nafter:\n%s", c.name, before, got)
		}
		check(t, os.RemoveAll(dir+"-was"))
	}
}

func unasked(o Options) Options {
	o.Route.Destination.Overwrite = false
	return o
}

// TestWALThatNobodyElseHas: the origin's own directory, whose server ended before its last WAL was archived.
func TestWALThatNobodyElseHas(t *testing.T) {
	w := newWorld(t, 15, nil)
	w.commit(1)
	backup := w.take()
	target := hclspec.Target{Latest: true}
	o := overwriting(w.options(w.route(target, w.target(target), backup)))
	o.Route.Destination.Path = w.DataDir
	o.Route.Destination.Tablespaces = map[string]string{"fast": w.SQL(t, "select pg_tablespace_location(oid) from pg_tablespace where spcname = 'fast'")}
	w.commit(2)
	w.Kill9(t)
	_, err := Restore(t.Context(), o)
	if state.CodeOf(err) != state.CodeDestination || !strings.Contains(err.Error(), "WAL that no repository has") {
		t.Fatalf("a commit is lost without a word: %v", err)
	}
	w.StartAgain(t)
	if got := rows(t, w.Server); got != "1 2" {
		t.Fatalf("the ledger has %q", got)
	}
	w.Kill9(t)
	check(t, os.Rename(filepath.Join(w.DataDir, "pg_wal"), filepath.Join(t.TempDir(), "pg_wal")))
	_, err = Restore(t.Context(), o)
	check(t, err)
	w.prove(o.Route)
	s := pgtest.StartDir(t, w.Version, w.DataDir, pgtest.Options{Version: w.Version})
	awaitPromotion(t, s)
	if got := rows(t, s); got != "1" {
		t.Errorf("the ledger has %q", got)
	}
	s.Stop(t, "fast")
}

// TestATablespaceOfAServerThatRuns: a data directory was copied with its links while its server was stopped, and the server was
// started again: what the copy's links lead to is that server's.
func TestATablespaceOfAServerThatRuns(t *testing.T) {
	w := newWorld(t, 15, nil)
	w.commit(1)
	backup := w.take()
	target := hclspec.Target{Latest: true}
	o := overwriting(w.options(w.route(target, w.target(target), backup)))
	space := w.SQL(t, "select pg_tablespace_location(oid) from pg_tablespace where spcname = 'fast'")
	o.Route.Destination.Tablespaces = map[string]string{"fast": space}
	w.Stop(t, "fast")
	check(t, os.MkdirAll(filepath.Dir(o.Route.Destination.Path), 0o755)) // #nosec: of a test
	if out, err := exec.Command("cp", "-a", w.DataDir, o.Route.Destination.Path).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	check(t, os.RemoveAll(filepath.Join(o.Route.Destination.Path, "pg_wal"))) // what is in it is another question
	w.StartAgain(t)
	_, err := Restore(t.Context(), o)
	if state.CodeOf(err) != state.CodeDestination || !strings.Contains(err.Error(), "of a PostgreSQL server that runs") {
		t.Errorf("its tablespace is written over: %v", err)
	}
	if got := rows(t, w.Server); got != "1" {
		t.Errorf("the ledger has %q", got)
	}
}
