package wal_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/wal"
)

// load is a mixed load on one server.
type load struct {
	source
	methods []string // of wal_compression
}

// comparedMB is how much WAL a comparison makes: 6 by default, PGKEEP_WAL_MB chooses another amount.
func comparedMB(tb testing.TB) int {
	tb.Helper()
	text := os.Getenv("PGKEEP_WAL_MB")
	if text == "" {
		return 6
	}
	mb, err := strconv.Atoi(text)
	if err != nil || mb < 1 {
		tb.Fatalf("PGKEEP_WAL_MB=%q", text)
	}
	return mb
}

// newLoad starts a server, on disk when it makes gigabytes, and prepares what the rounds work on.
func newLoad(tb testing.TB, version, segmentMB int, onDisk bool) load {
	tb.Helper()
	s := source{Server: pgtest.Start(tb, pgtest.Options{Version: version, SegmentMB: segmentMB, OnDisk: onDisk, Settings: map[string]string{
		"max_prepared_transactions": "10", "track_commit_timestamp": "on", "wal_level": "logical",
		"max_wal_size": "12GB", "wal_keep_size": "12GB", "min_wal_size": strconv.Itoa(max(80, 2*segmentMB)) + "MB",
	}}), size: wal.SegmentSize(segmentMB << 20)}
	id, err := strconv.ParseUint(s.SQL(tb, "select system_identifier from pg_control_system()"), 10, 64)
	if err != nil {
		tb.Fatal(err)
	}
	s.systemID = id
	methods := []string{"off", "on"}
	if version >= 15 {
		methods = []string{"off", "pglz", "lz4", "zstd"}
	}
	methods = slices.DeleteFunc(methods, func(m string) bool { // not every build has every method
		_, err := s.Try("alter system set wal_compression = " + m)
		return err != nil
	})
	s.Exec(tb, "create sequence round; create table ledger (x xid8); create table big (i int primary key, s text); create table kept (i int)")
	s.Bench(tb, "-i", "-q", "-s", "1")
	s.WriteFile(tb, "ledger.sql", "begin;\n\\set a random(1, 100000)\nupdate pgbench_accounts set abalance = abalance + 1 where aid = :a;\ninsert into ledger values (pg_current_xact_id());\ncommit;\n")
	return load{source: s, methods: methods}
}

// round is some of everything, about 2 MB of records and, when big, 40.
func (l *load) round(tb testing.TB, n int, large bool) {
	tb.Helper()
	times, rows, filler := "60", 400, 20_000
	if large {
		times, rows, filler = "3000", 20_000, 350_000
	}
	l.Exec(tb, "alter system set wal_compression = "+l.methods[n%len(l.methods)])
	l.Reload(tb) // and a checkpoint, so that images are written
	l.Bench(tb, "-n", "-c", "4", "-j", "2", "-t", times, "-f", filepath.Join(l.DataDir, "ledger.sql"))
	l.Bench(tb, "-n", "-c", "2", "-t", times)
	name := fmt.Sprintf("n%d", n)
	for _, q := range []string{
		fmt.Sprintf("create table %s as select g as i, md5(g::text) as s from generate_series(1, %d) g; create index on %[1]s (s)", name, rows),
		"truncate kept; insert into kept values (1)",
		"alter table " + name + " alter i type bigint; cluster " + name + " using " + name + "_s_idx",
		"vacuum full " + name,
		fmt.Sprintf("begin; savepoint a; delete from %s where i %% 3 = 0; rollback to a; savepoint b; delete from %[1]s where i %% 5 = 0; savepoint c; insert into ledger values (pg_current_xact_id()); release c; release b; commit", name),
		"begin; insert into ledger values (pg_current_xact_id()); drop table " + name + "; rollback",
		"begin; insert into ledger values (pg_current_xact_id()); insert into kept values (2); savepoint d; delete from kept; prepare transaction 'commit " + name + "'",
		"begin; drop table " + name + "; create table never (i int); prepare transaction 'abort " + name + "'",
		"select pg_create_restore_point('point " + name + "')",
		"commit prepared 'commit " + name + "'",
		"rollback prepared 'abort " + name + "'",
		"drop table " + name,
		fmt.Sprintf("select pg_logical_emit_message(true, 'x', repeat('0123456789', %d))", filler), // at most 200 kB, or over one segment of 16 MiB
		fmt.Sprintf("insert into big select g + %d, string_agg(md5(random()::text), '') from generate_series(1, 3) g, generate_series(1, %d) group by g", 10*n, rows/4),
	} {
		l.Exec(tb, q)
	}
	storm := 2
	if n%4 == 3 {
		storm = 12
	}
	for range storm {
		l.Exec(tb, "insert into kept values (3)")
		l.Exec(tb, "select pg_switch_wal()")
	}
	if n%8 == 1 {
		l.Exec(tb, "create database d"+name)
		l.Exec(tb, "drop database d"+name)
	}
}

// checkLedger compares the times of all commits that the server remembers, those of the ledger among them, with the
// commits that were read. seen is by xid, those of subtransactions included.
func (l *load) checkLedger(t *testing.T, seen map[uint32]string) {
	t.Helper()
	var first, last uint32
	for xid := range seen {
		if first == 0 || xid < first {
			first = xid
		}
		last = max(last, xid)
	}
	const at = "to_char(pg_xact_commit_timestamp(%s) at time zone 'utc', 'YYYY-MM-DD HH24:MI:SS.US')"
	compare := func(what, q string) int {
		rows, wrong := strings.Split(l.SQL(t, q), "\n"), 0
		for _, row := range rows {
			id, at, _ := strings.Cut(row, " ")
			xid, err := strconv.ParseUint(id, 10, 32)
			if err != nil {
				t.Fatalf("%q: %v", row, err)
			}
			if seen[uint32(xid)] != at {
				if wrong++; wrong < 10 {
					t.Errorf("%s: transaction %d committed at %s, the WAL says %q", what, xid, at, seen[uint32(xid)])
				}
			}
		}
		return len(rows)
	}
	all := compare("pg_xact_commit_timestamp", fmt.Sprintf("select i || ' ' || "+at+" from generate_series(%d::bigint, %d) i where pg_xact_commit_timestamp(i::text::xid) is not null",
		"i::text::xid", first, last))
	ledger := compare("the ledger", "select x::text || ' ' || "+fmt.Sprintf(at, "x::xid")+" from ledger")
	if all != len(seen) {
		t.Errorf("the server knows %d commits from %d to %d, the WAL has %d", all, first, last, len(seen))
	}
	t.Logf("%d commits and subtransactions, %d of them in the ledger, have their times", all, ledger)
}
