package torture

import (
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
)

// holder is how a lock's holder is named: whose apply, as which process, since when, and which lock that is.
var holder = regexp.MustCompile(`locked (on \S+ )?by (pgkeep apply )?\S+@\S+ (\(process \d+\)|pid \d+ as \S+ .*\(server process \d+\)) since 20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ, lock (id -?\d+|/\S+)`)

// TestTwoAppliesRace has two processes apply the same configuration at the same moment: one protects the server, the
// other ends with exit code 6 and says who is at it since when. PGKEEP_ROUNDS says how many races; by default 10.
func TestTwoAppliesRace(t *testing.T) {
	pg := pgtest.Start(t, pgtest.Options{Version: pgtest.SomeVersions(t, 15)[0]})
	met := 0
	for range rounds(10) {
		t.Run("", func(t *testing.T) { met += raceProcesses(t, pg) })
	}
	if met == 0 {
		t.Error("nobody ever met a lock: these were no races")
	}
}

func raceProcesses(t *testing.T, pg *pgtest.Server) (met int) {
	s := newSite(t, fmt.Sprintf(journeyHCL, pg.Conninfo()))
	t.Cleanup(func() { forget(t, s, pg) })
	var out [2]string
	var code [2]int
	var both sync.WaitGroup
	for i := range out {
		both.Go(func() { out[i], code[i] = s.try("apply", "--auto-approve") })
	}
	both.Wait()
	won := 0
	for i := range out {
		switch code[i] {
		case 0: // it won, or planned when the other one was done
			won++
		case 6:
			met++
			if flat := strings.Join(strings.Fields(out[i]), " "); !holder.MatchString(flat) {
				t.Errorf("exit code 6, and it does not say who holds the lock since when:\n%s", out[i])
			}
		default:
			t.Errorf("exit code %d:\n%s", code[i], out[i])
		}
	}
	if won == 0 {
		t.Errorf("nobody won: exit codes %v\n%s\n%s", code, out[0], out[1])
	}
	says(t, s.run(t, "plan"), "No changes. Your infrastructure matches the configuration.")
	if n := strings.Count(s.run(t, "backups", "list", "--json"), `"committed"`); n != 1 {
		t.Errorf("%d first backups", n)
	}
	return met
}

// forget ends what a site does to a server, so that the next site finds it untouched. Nothing of ours is left running.
func forget(t *testing.T, s *site, pg *pgtest.Server) {
	t.Helper()
	s.try("receiver", "stop", "orders")
	nobodyRuns(t, s)
	pg.Exec(t, `do $$ begin
		while exists (select from pg_replication_slots where active) loop perform pg_sleep(0.01); end loop;
		perform pg_drop_replication_slot(slot_name) from pg_replication_slots;
	end $$`)
}
