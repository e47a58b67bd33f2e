package torture

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
)

// journeyHCL is one server with one repository and a recovery for each kind of target.
const journeyHCL = `
repository "main" {
  path = "@DIR@/repository"
}

server "orders" {
  conninfo     = "%s"
  repositories = [repository.main]

  receiver {
    spool = "@DIR@/spool"
  }

  backup {
    checkpoint = "fast"
  }
}

retention "standard" {
  servers    = [server.orders]
  redundancy = 2
}
`

const recoveryHCL = `
recovery "%[1]s" {
  server = server.orders

  target {
    %[2]s
    action = "promote"
  }

  destination {
    path        = "@DIR@/%[1]s"
    owner       = "%[3]s"
    bindir      = "%[4]s"
    tablespaces = { fast = "@DIR@/%[1]s_fast" }
  }
}
`

// entry is one commit of the ledger: its number, its transaction, a position and a moment after it and before the next.
type entry struct {
	n    int
	xid  string
	lsn  string
	next time.Time
}

// commit adds number n to the ledger in a transaction of its own.
func commit(t *testing.T, pg *pgtest.Server, n int) entry {
	t.Helper()
	xid := pg.SQL(t, fmt.Sprintf("insert into ledger values (%d) returning txid_current()", n))
	after := pg.SQL(t, "select pg_current_wal_insert_lsn() || '|' || to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')")
	lsn, at, _ := strings.Cut(after, "|")
	moment, err := time.Parse(time.RFC3339Nano, at)
	if err != nil {
		t.Fatal(err)
	}
	return entry{n: n, xid: xid, lsn: lsn, next: moment}
}

// load runs pgbench in the background until the returned function is called.
func load(t *testing.T, pg *pgtest.Server) func() {
	t.Helper()
	cmd := pg.BenchCommand(t, "-n", "-c", "2", "-T", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	stop := func() {
		if !ended {
			ended = true
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
	t.Cleanup(stop)
	return stop
}

func TestJourney(t *testing.T) {
	for _, version := range pgtest.SomeVersions(t, 13, 15, 18) {
		t.Run(strconv.Itoa(version), func(t *testing.T) { journey(t, version) })
	}
}

func journey(t *testing.T, version int) {
	pg := pgtest.Start(t, pgtest.Options{Version: version})
	fast := pg.Dir(t, "fast")
	pg.Exec(t, fmt.Sprintf("create tablespace fast location '%s'", fast))
	pg.Exec(t, "create table ledger (n int primary key) tablespace fast")
	pg.Bench(t, "-i", "-q", "-s", "2", "--tablespace=fast")

	base := fmt.Sprintf(journeyHCL, pg.Conninfo())
	s := newSite(t, base)
	first := s.run(t, "plan")
	for _, want := range []string{"create-repository", "create-slot", "start-receiver", "take-backup", "Plan: 4 to add, 0 to change, 0 to destroy."} {
		if !strings.Contains(first, want) {
			t.Errorf("the first plan does not say %q:\n%s", want, first)
		}
	}
	s.run(t, "apply", "--auto-approve")
	if again := s.run(t, "plan"); !strings.Contains(again, "No changes. Your infrastructure matches the configuration.") {
		t.Fatalf("the plan after apply is not empty:\n%s", again)
	}

	stop := load(t, pg)
	var ledger []entry
	for n := 1; n <= 20; n++ {
		ledger = append(ledger, commit(t, pg, n))
	}
	s.run(t, "backup", "orders")
	for n := 21; n <= 60; n++ {
		ledger = append(ledger, commit(t, pg, n))
		if n == 40 {
			pg.Exec(t, "select pg_create_restore_point('before_the_party')")
		}
	}
	stop()
	last := commit(t, pg, 61)

	targets := []struct {
		name, hcl string
		want      int
	}{
		{"by_time", fmt.Sprintf("time = %q", ledger[29].next.Format(time.RFC3339Nano)), 30},
		{"by_xid", fmt.Sprintf("xid = %s", ledger[34].xid), 35},
		{"by_lsn", fmt.Sprintf("lsn = %q", ledger[44].lsn), 45},
		{"by_name", `name = "before_the_party"`, 40},
		{"by_latest", "latest = true", last.n},
	}
	hcl := base
	for _, target := range targets {
		hcl += fmt.Sprintf(recoveryHCL, target.name, target.hcl, owner(), pg.Bin)
	}
	s.configure(t, hcl)
	for _, target := range targets {
		t.Run(target.name, func(t *testing.T) { recovered(t, s, pg, target.name, target.want) })
	}
}

// recovered carries out one recovery and asks the server that starts from it what it knows.
func recovered(t *testing.T, s *site, pg *pgtest.Server, name string, want int) {
	t.Helper()
	s.run(t, "plan", "--recover="+name)
	s.run(t, "recover", name, "--yes")
	dir := filepath.Join(s.dir, name)
	verify(t, pg.Version, dir)
	back := pgtest.StartDir(t, pg.Version, dir, pgtest.Options{Version: pg.Version})
	defer back.Stop(t, "fast")
	awaitPromotion(t, back)
	if got := back.SQL(t, "select count(*) || ' up to ' || max(n) from ledger"); got != fmt.Sprintf("%d up to %d", want, want) {
		t.Errorf("recovery %s holds %s, want %d\n%s", name, got, want, back.Log())
	}
	sums := back.SQL(t, `select (select sum(abalance) from pgbench_accounts) = (select sum(bbalance) from pgbench_branches)
		and (select sum(bbalance) from pgbench_branches) = (select sum(tbalance) from pgbench_tellers)
		and (select coalesce(sum(delta), 0) from pgbench_history) = (select sum(tbalance) from pgbench_tellers)`)
	if sums != "t" {
		t.Errorf("recovery %s: pgbench's balances do not add up", name)
	}
}

// verify lets PostgreSQL's own pg_verifybackup 15 read the restored files where it knows the manifest's version.
func verify(t *testing.T, version int, dir string) {
	t.Helper()
	if version > 16 {
		return // recover itself checked every file against the manifest; 15's program refuses version 2
	}
	args := []string{"--no-parse-wal", "--quiet"}
	for _, ours := range []string{"postgresql.auto.conf", "postgresql.conf", "pg_hba.conf", "recovery.signal", "backup_label.old"} {
		args = append(args, "--ignore="+ours)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.Contains(e.Name(), "pgkeep") {
			args = append(args, "--ignore="+e.Name())
		}
	}
	out, err := exec.Command(pgtest.Client(t, "pg_verifybackup"), append(args, dir)...).CombinedOutput()
	if err != nil {
		t.Errorf("pg_verifybackup %s: %v\n%s", dir, err, out)
	}
}

// awaitPromotion returns when the server has left recovery.
func awaitPromotion(t *testing.T, pg *pgtest.Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if out, err := pg.Try("select pg_is_in_recovery()"); err == nil && out == "f" {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("recovery does not end\n%s", pg.Log())
		case <-tick.C:
		}
	}
}

// owner is the user who must own a data directory that these tests start.
func owner() string {
	if os.Geteuid() == 0 {
		return "postgres"
	}
	return os.Getenv("USER")
}
