package recovery

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
)

// TestPagesOfChosenDatabasesAreMissed: where PostgreSQL passes over pages without content, a start fails if they are of a database
// that was restored, also when an earlier start passed over them.
func TestPagesOfChosenDatabasesAreMissed(t *testing.T) {
	w, backup := chooseWorld(t, pgtest.Options{Version: 15, NoChecksums: true, Settings: map[string]string{"wal_log_hints": "off"}})
	shop := w.SQL(t, "select oid from pg_database where datname = 'shop'")
	whole, broken := w.choose(backup, "shop"), w.choose(backup, "shop")
	w.Stop(t, "fast")
	for _, o := range []*Options{&whole, &broken} {
		o.Route.Destination.Port, o.Route.Destination.BinDir = w.Port, w.Bin
		_, err := Restore(t.Context(), *o)
		check(t, err)
	}
	check(t, startAndStop(t, whole.Route))
	emptyTables(t, filepath.Join(broken.Route.Destination.Path, "base", shop))
	err := startAndStop(t, broken.Route)
	if state.CodeOf(err) != state.CodeMissed || !strings.Contains(err.Error(), "not whole: page ") || !strings.Contains(err.Error(), "relation base/"+shop) {
		t.Errorf("the broken one: %v", err)
	}
	s := &starting{StartOptions: StartOptions{Route: broken.Route}, dir: broken.Route.Destination.Path}
	s.log.path = LogFile(s.dir)
	check(t, s.passedBefore())
	if page, err := s.passedOver(); err != nil || !strings.Contains(page, "base/"+shop) {
		t.Errorf("the next start knows of %q, %v", page, err)
	}
}

// startAndStop starts what was restored and stops it again, whatever came of it.
func startAndStop(t *testing.T, route plan.Route) error {
	t.Helper()
	_, _, err := Start(t.Context(), StartOptions{Route: route, Major: 15, Now: time.Now})
	r, failed := readStarted(route.Destination.Path)
	check(t, failed)
	if r == nil || !(&postmaster{pid: r.PID, dir: route.Destination.Path}).stop(10*time.Minute) {
		t.Fatal("the server did not end")
	}
	return err
}

// emptyTables takes the content of the tables of users in a database.
func emptyTables(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	check(t, err)
	for _, e := range entries {
		if n, err := strconv.Atoi(e.Name()); err != nil || n < firstNormalOID {
			continue
		}
		info, err := e.Info()
		check(t, err)
		check(t, os.Truncate(filepath.Join(dir, e.Name()), 0))
		check(t, os.Truncate(filepath.Join(dir, e.Name()), info.Size()))
	}
}
