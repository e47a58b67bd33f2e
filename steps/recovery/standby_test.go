package recovery

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/wal"
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

// standby gives a standby of the world that has streamed rows behind its route, of which the last segment is archived in part.
func (w *world) standby(wait time.Duration) *pgtest.Server {
	w.t.Helper()
	w.commit(1)
	backup := w.take()
	w.commit(2)
	w.archive(1)
	target := hclspec.Target{Latest: true}
	o := w.options(w.route(target, w.target(target), backup))
	o.Route.Destination.PrimaryConninfo = fmt.Sprintf("host=127.0.0.1 port=%d user=postgres", w.Port)
	o.Route.WALWait = wait
	_, err := Restore(w.t.Context(), o)
	check(w.t, err)
	s := pgtest.StartDir(w.t, w.Version, o.Route.Destination.Path, pgtest.Options{Version: w.Version, Settings: map[string]string{"wal_retrieve_retry_interval": "100ms"}})
	w.commit(3)
	w.commit(4)
	holdsLater(w.t, s, "1 2 3 4")
	return s
}

// TestAStandbyKeepsWhatItStreamed: the part of a segment that was archived does not take the place of what was streamed, neither when
// the standby is started again without its primary nor when it is promoted.
func TestAStandbyKeepsWhatItStreamed(t *testing.T) {
	for _, version := range pgtest.SomeVersions(t, 15) {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			w := newWorld(t, version, nil)
			s := w.standby(time.Hour)
			w.Stop(t, "immediate")
			s.Kill9(t)
			s.StartAgain(t)
			holdsLater(t, s, "1 2 3 4")
			s.Exec(t, "select pg_promote(false)")
			awaitPromotion(t, s)
			if got := rows(t, s); got != "1 2 3 4" {
				t.Errorf("promoted, it has %q", got)
			}
		})
	}
}

// TestAStandbyStreamsWithoutItsRepository: where that does not answer, a standby that is started again does with what it has, and streams.
func TestAStandbyStreamsWithoutItsRepository(t *testing.T) {
	w := newWorld(t, 15, nil)
	s := w.standby(time.Second)
	s.Stop(t, "fast")
	check(t, os.Rename(w.dir, w.dir+" is away"))
	s.StartAgain(t)
	w.commit(5)
	holdsLater(t, s, "1 2 3 4 5")
	check(t, os.Rename(w.dir+" is away", w.dir))
}

// TestAStandbyIsGuardedBehindItsRoute: on its primary's machine WAL that was archived later makes no tablespace over the primary's, also
// where the record begins in one segment and ends in the next.
func TestAStandbyIsGuardedBehindItsRoute(t *testing.T) {
	w := newWorld(t, 15, nil)
	backup := w.take()
	target := hclspec.Target{Latest: true}
	o := w.options(w.route(target, w.target(target), backup))
	o.Route.Destination.PrimaryConninfo = "host=127.0.0.1 user=postgres"
	_, err := Restore(t.Context(), o)
	check(t, err)
	location := w.createAcross()
	w.Exec(t, "create table precious tablespace later as select 1 i")
	made := w.lastTablespace()
	w.Exec(t, "select pg_switch_wal()")
	w.archive(1)
	for at, want := range map[wal.LSN]int{made.Start: ExitGot, made.End - 1: ExitFailed} {
		segment := w.size.SegmentAt(1, at).Name(w.size)
		exit, err := WALGet(t.Context(), WALGetOptions{Route: RouteFile(o.Route.Destination.Path), Name: segment, Into: filepath.Join(t.TempDir(), "RECOVERYXLOG")})
		if exit != want || want == ExitFailed && (err == nil || !strings.Contains(err.Error(), location)) {
			t.Errorf("%s: exit %d, not %d: %v", segment, exit, want, err)
		}
	}
}

// holdsLater waits for rows.
func holdsLater(t testing.TB, s *pgtest.Server, want string) {
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
