package torture

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/wal"
)

// act is something that a recovery can be asked to stop at, as PostgreSQL itself tells of it: a commit comes from logical
// decoding, in the order of the WAL, so that nothing of ours is asked what is true.
type act struct {
	timeline   wal.Timeline
	region     int // acts of one positive region can be reached from its backups; 0: none can
	xid        uint32
	start, end wal.LSN   // of a commit record; of the rest: no commit begins between the one before and start
	at         time.Time // of a commit
	name       string    // of a restore point; empty: a commit or an abort
	aborted    bool
	free       wal.LSN // the first record from here on is no commit, nor does one begin between here and the commit before; zero: not known
}

func (a *act) commit() bool { return a.name == "" && !a.aborted }

// chronicle is all that happened to a server, over its failovers, in the order of its history.
type chronicle struct {
	acts  []act
	free  map[uint32]wal.LSN // of commits
	aside []act              // aborts and restore points, which are not decoded
}

const chronicleTables = `create table ledger (xid bigint not null default txid_current(), note text);
	create publication ledger for all tables;
	create procedure churn(much int) language plpgsql as $$ begin for i in 1..much loop insert into ledger values (default, repeat('c', i % 200)); commit; end loop; end $$`

// listen begins to take down what a primary commits from now on.
func listen(t *testing.T, pg *pgtest.Server) {
	t.Helper()
	pg.Exec(t, "select pg_create_logical_replication_slot('chronicle', 'pgoutput')")
}

// position gives where a primary writes next.
func position(t *testing.T, pg *pgtest.Server) wal.LSN {
	t.Helper()
	l, err := wal.ParseLSN(pg.SQL(t, "select pg_current_wal_insert_lsn()"))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// alone does things of every kind, with nothing beside them.
func (c *chronicle) alone(t *testing.T, pg *pgtest.Server, much int) {
	t.Helper()
	if c.free == nil {
		c.free = map[uint32]wal.LSN{}
	}
	for n := range much {
		free := position(t, pg)
		switch n % 8 {
		case 1: // subtransactions, one of them aborted
			c.free[number(t, pg.SQL(t, `insert into ledger default values;
				do $$ begin
					begin insert into ledger default values; exception when others then null; end;
					begin insert into ledger values (-1); raise exception 'no'; exception when others then null; end;
				end $$; select txid_current()`))] = free
		case 3:
			_, err := pg.Try("insert into ledger values (-2); do $$ begin raise exception 'transaction %', txid_current(); end $$")
			_, text, _ := strings.Cut(fmt.Sprint(err), "transaction ")
			c.aside = append(c.aside, act{xid: number(t, strings.Fields(text)[0]), aborted: true, start: free})
		case 5: // a younger transaction commits before it
			pg.Exec(t, "begin; insert into ledger default values; prepare transaction 'p'")
			free = position(t, pg) // of the one that prepared: it is no commit
			c.free[number(t, pg.SQL(t, "insert into ledger default values; select txid_current()"))] = free
			pg.Exec(t, "commit prepared 'p'")
		case 7:
			name := fmt.Sprintf("point %d at %s", n, free)
			pg.Exec(t, fmt.Sprintf("select pg_create_restore_point('%s')", name))
			c.aside = append(c.aside, act{name: name, start: free, end: position(t, pg)})
		default: // some long enough to cross a segment's border
			c.free[number(t, pg.SQL(t, fmt.Sprintf(
				"insert into ledger (note) select repeat(md5(i::text), 60) from generate_series(1, %d) i; select txid_current()", 1+n%5*40)))] = free
		}
	}
}

// number reads what a server calls a transaction.
func number(t *testing.T, text string) uint32 {
	t.Helper()
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(n)
}

// together lets clients commit beside each other, and has times that are not in the order of the WAL.
func together(t *testing.T, pg *pgtest.Server, much int) {
	t.Helper()
	const clients = 4
	var all sync.WaitGroup
	errs := make([]error, clients)
	for i := range clients {
		all.Go(func() { _, errs[i] = pg.Try(fmt.Sprintf("call churn(%d)", much)) })
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		held(t, pg, func() { pg.Exec(t, "call churn(3)") })
	}
	held(t, pg, func() {
		pg.Exec(t, "call churn(1)")
		pg.Exec(t, "select pg_switch_wal()")
		pg.Exec(t, "insert into ledger default values")
	})
}

// take takes down what a primary committed since listen or the last take, and puts aborts and restore points between.
func (c *chronicle) take(t *testing.T, pg *pgtest.Server, on wal.Timeline, region int) {
	t.Helper()
	out := pg.SQL(t, `select coalesce(string_agg(encode(data, 'hex'), ' '), '') from pg_logical_slot_get_binary_changes('chronicle', null, null,
		'proto_version', '1', 'publication_names', 'ledger') where get_byte(data, 0) in (66, 67)`)
	var commits []act
	for _, text := range strings.Fields(out) {
		m, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		if m[0] == 'B' {
			commits = append(commits, act{xid: binary.BigEndian.Uint32(m[17:]), at: pgTime(m[9:]), start: wal.LSN(binary.BigEndian.Uint64(m[1:]))})
			continue
		}
		a := &commits[len(commits)-1]
		a.end, a.free = wal.LSN(binary.BigEndian.Uint64(m[10:])), c.free[a.xid]
	}
	add := func(a act) {
		a.timeline, a.region = on, region
		c.acts = append(c.acts, a)
	}
	for _, a := range commits {
		for len(c.aside) > 0 && c.aside[0].start < a.start {
			add(c.aside[0])
			c.aside = c.aside[1:]
		}
		add(a)
	}
	for _, a := range c.aside {
		add(a)
	}
	c.aside = nil
}

func pgTime(b []byte) time.Time {
	epoch := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	return epoch.Add(time.Duration(binary.BigEndian.Uint64(b)) * time.Microsecond)
}

// commitBefore gives the last commit before the i-th act; -1: none.
func (c *chronicle) commitBefore(i int) int {
	for i--; i >= 0; i-- {
		if c.acts[i].commit() {
			return i
		}
	}
	return -1
}

// commitAfter gives the first commit after the i-th act; -1: none.
func (c *chronicle) commitAfter(i int) int {
	for i++; i < len(c.acts); i++ {
		if c.acts[i].commit() {
			return i
		}
	}
	return -1
}

// inversions gives the commits of a region that have an earlier time than the commit before.
func (c *chronicle) inversions() []int {
	var out []int
	for i := range c.acts {
		if b := c.commitBefore(i); c.acts[i].commit() && b >= 0 && c.acts[i].at.Before(c.acts[b].at) {
			out = append(out, i)
		}
	}
	return out
}
