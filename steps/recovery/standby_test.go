package recovery

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
)

// TestAStandbyFollows: what is restored as a standby takes what was archived since from the repository while its primary cannot be
// reached, and streams from it, with its slot, once it can.
func TestAStandbyFollows(t *testing.T) {
	w := newWorld(t, 15, nil)
	w.commit(1)
	backup := w.take()
	w.Exec(t, "select pg_create_physical_replication_slot('copy')")
	target := hclspec.Target{Latest: true}
	o := w.options(w.route(target, w.target(target), backup))
	o.Route.Destination.PrimaryConninfo = fmt.Sprintf("host=127.0.0.1 port=%d user=postgres application_name=copy", nobodysPort(t))
	o.Route.Destination.PrimarySlot = "copy"
	_, err := Restore(t.Context(), o)
	check(t, err)
	dir := o.Route.Destination.Path
	if _, err := os.Stat(filepath.Join(dir, "recovery.signal")); err == nil {
		t.Error("it would end its recovery")
	}
	w.prove(o.Route)
	s := pgtest.StartDir(t, w.Version, dir, pgtest.Options{Version: w.Version, Settings: map[string]string{"wal_retrieve_retry_interval": "100ms"}})
	w.commit(2)
	w.Exec(t, "select pg_switch_wal()")
	w.archive(1)
	giveToServer(t, w.dir)
	holdsLater(t, s, "1 2")
	s.Exec(t, fmt.Sprintf("alter system set primary_conninfo = 'host=127.0.0.1 port=%d user=postgres application_name=copy'", w.Port))
	s.Reload(t)
	w.commit(3)
	holdsLater(t, s, "1 2 3")
	if got := w.SQL(t, "select active from pg_replication_slots where slot_name = 'copy'") + s.SQL(t, "select pg_is_in_recovery()"); got != "tt" {
		t.Errorf("%s\n%s", got, s.Log())
	}
	s.Stop(t, "fast")
}

// holdsLater waits for rows.
func holdsLater(t *testing.T, s *pgtest.Server, want string) {
	t.Helper()
	got := ""
	for limit := time.Now().Add(5 * time.Minute); time.Now().Before(limit); time.Sleep(20 * time.Millisecond) {
		if got = rows(t, s); got == want {
			return
		}
	}
	t.Fatalf("it has %q, not %q\n%s", got, want, s.Log())
}

// nobodysPort gives a port at which nobody answers.
func nobodysPort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
