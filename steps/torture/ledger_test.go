package torture

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
)

// entry is one commit of the ledger: its number, its transaction, when it was committed, and a position and a moment after
// it and before the next.
type entry struct {
	n         int
	xid       string
	committed time.Time
	lsn       string
	next      time.Time
}

// ledger is a table of numbers, each committed and acknowledged before the next. What a recovered server holds of it must
// be exactly 1 to some number.
type ledger struct{ entries []entry }

const ledgerTable = "create table ledger (n int primary key, note text default repeat('x', 100))"

// ledgerSettings let a server tell when a transaction was committed.
var ledgerSettings = map[string]string{"track_commit_timestamp": "on"}

// commit adds the next number in a transaction of its own.
func (l *ledger) commit(t *testing.T, pg *pgtest.Server) entry {
	t.Helper()
	e := entry{n: len(l.entries) + 1}
	e.xid = pg.SQL(t, fmt.Sprintf("insert into ledger values (%d) returning txid_current()", e.n))
	e.committed = moment(t, pg, fmt.Sprintf("pg_xact_commit_timestamp('%s'::xid)", e.xid))
	e.lsn = pg.SQL(t, "select pg_current_wal_insert_lsn()")
	e.next = moment(t, pg, "clock_timestamp()")
	l.entries = append(l.entries, e)
	return e
}

// upTo commits until the ledger ends with number n.
func (l *ledger) upTo(t *testing.T, pg *pgtest.Server, n int) entry {
	t.Helper()
	for len(l.entries) < n {
		l.commit(t, pg)
	}
	return l.at(n)
}

func (l *ledger) at(n int) entry { return l.entries[n-1] }

// moment asks the server for a time, to its microsecond.
func moment(t *testing.T, pg *pgtest.Server, expression string) time.Time {
	t.Helper()
	text := pg.SQL(t, `select to_char(`+expression+` at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`)
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// holds fails the test unless a server's ledger is exactly 1 to want.
func holds(t *testing.T, pg *pgtest.Server, want int) {
	t.Helper()
	got := pg.SQL(t, "select count(*) || ' of ' || coalesce(min(n), 0) || ' to ' || coalesce(max(n), 0) from ledger")
	if exact := fmt.Sprintf("%d of 1 to %d", want, want); got != exact {
		t.Errorf("the recovered ledger holds %s, want %s\n%s", got, exact, pg.Log())
	}
}

// load runs pgbench in the background until the returned function is called.
func load(t *testing.T, pg *pgtest.Server) (stop func()) {
	t.Helper()
	cmd := pg.BenchCommand(t, "-n", "-c", "2", "-R", "300", "-T", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	stop = func() {
		if !ended {
			ended = true
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
	t.Cleanup(stop)
	return stop
}

// balanced fails the test unless pgbench's tables agree with each other, as they do at every transaction's end.
func balanced(t *testing.T, pg *pgtest.Server) {
	t.Helper()
	got := pg.SQL(t, `select (select sum(abalance) from pgbench_accounts) || ' ' || (select sum(bbalance) from pgbench_branches) || ' '
		|| (select sum(tbalance) from pgbench_tellers) || ' ' || (select coalesce(sum(delta), 0) from pgbench_history)`)
	var accounts, branches, tellers, history int
	if n, err := fmt.Sscan(got, &accounts, &branches, &tellers, &history); n != 4 || err != nil ||
		accounts != branches || branches != tellers || tellers != history {
		t.Errorf("the balances of accounts, branches, tellers and history differ: %s", got)
	}
}

// eventually asks again until a condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-ctx.Done():
			t.Fatalf("not within %s: %s", patience, what)
		case <-tick.C:
		}
	}
}

// awaitPromotion returns when a server has left recovery.
func awaitPromotion(t *testing.T, pg *pgtest.Server) {
	t.Helper()
	eventually(t, "the end of recovery", func() bool {
		out, err := pg.Try("select pg_is_in_recovery()")
		return err == nil && out == "f"
	})
}
