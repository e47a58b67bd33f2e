package recovery

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
)

// TestHashIndexesOfLeftOutDatabases: VACUUM of them refers to pages without images, also where the server logs hints and full pages. And
// whoever connects to a database that was left out, whose catalogs no WAL touched, ends nobody else's session.
func TestHashIndexesOfLeftOutDatabases(t *testing.T) {
	for _, version := range pgtest.SomeVersions(t, 15) {
		for _, where := range []string{"", " tablespace fast"} {
			t.Run(fmt.Sprint(version, where), func(t *testing.T) {
				w := newWorldOf(t, pgtest.Options{Version: version})
				w.Exec(t, "create database shop")
				w.Exec(t, "create database quiet"+where)
				w.Exec(t, "create database \"new\nline \\ \"\"quoted\"\"\"")
				w.Exec(t, "create database hashed"+where)
				in(
					t, w.Server, "hashed", "create table h (id int, k int)", "create index on h using hash (k)",
					"insert into h select i, 7 from generate_series(1, 3000) i", "vacuum h", "checkpoint",
				)
				backup := w.take()
				in(t, w.Server, "hashed", "delete from h where id > 2500", "vacuum h") // of pages behind the first of the bucket
				w.commit(1)
				w.archive(1)
				o := w.choose(backup, "shop")
				w.Stop(t, "fast")
				s := w.restoreChosen(o)
				awaitPromotion(t, s)
				if log := s.Log(); !strings.Contains(log, "is uninitialized") {
					t.Errorf("no page is missing, so nothing is tested:\n%s", log)
				}
				for _, d := range []string{"quiet", "hashed"} {
					if _, err := s.TryAs("postgres", d, "select 1"); err == nil || !strings.Contains(err.Error(), "is not a valid data directory") {
						t.Errorf("whoever connects to %s: %v", d, err)
					}
				}
				left, err := LeftOut(o.Route.Destination.Path)
				check(t, err)
				for _, d := range left {
					if strings.Contains(d.Drop(), "\n") {
						t.Errorf("the statement is of several lines: %s", d.Drop())
					}
					s.Exec(t, d.Drop())
				}
				if got := s.SQL(t, "select count(*) from pg_database"); got != "4" {
					t.Errorf("there are %s databases, of %+v", got, left)
				}
				if log := s.Log(); strings.Contains(log, "PANIC") {
					t.Error(log)
				}
			})
		}
	}
}

// restoreChosen restores and starts.
func (w *world) restoreChosen(o Options) *pgtest.Server {
	w.t.Helper()
	_, err := Restore(w.t.Context(), o)
	check(w.t, err)
	return pgtest.StartDir(w.t, w.Version, o.Route.Destination.Path, pgtest.Options{Version: w.Version})
}
