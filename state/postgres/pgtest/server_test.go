package pgtest_test

import (
	"fmt"
	"testing"

	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
)

func TestServersOfATestAreStrangers(t *testing.T) {
	for _, v := range pgtest.Versions(t) {
		t.Run(fmt.Sprint(v), func(t *testing.T) {
			a := pgtest.Start(t, pgtest.Options{Version: v})
			b := pgtest.Start(t, pgtest.Options{Version: v, SegmentMB: 1, NoChecksums: true})
			const id = "select system_identifier from pg_control_system()"
			if a.SQL(t, id) == b.SQL(t, id) {
				t.Fatal("two servers share a system identifier")
			}
			got := b.SQL(t, "select current_setting('wal_segment_size'), current_setting('data_checksums')")
			if got != "1MB|off" {
				t.Fatalf("segment size and checksums: %s", got)
			}
			if a.SQL(t, "show data_checksums") != "on" {
				t.Fatal("checksums are not on by default")
			}
		})
	}
}

func TestKilledServerStartsAgainAndStandbyIsPromoted(t *testing.T) {
	for _, v := range pgtest.SomeVersions(t, 13, 15, 18) {
		t.Run(fmt.Sprint(v), func(t *testing.T) {
			a := pgtest.Start(t, pgtest.Options{Version: v})
			space := a.Dir(t, "space")
			a.Exec(t, "create tablespace s location '"+space+"'")
			a.Exec(t, "create table t tablespace s as select 1 as n")
			b := a.Standby(t, pgtest.Options{})
			a.Exec(t, "insert into t values (2)")
			b.AwaitReplay(t, a)
			a.Kill9(t)
			b.Promote(t)
			b.Exec(t, "insert into t values (3)")
			if got := b.SQL(t, "select sum(n), pg_is_in_recovery() from t"); got != "6|f" {
				t.Fatalf("promoted standby: %s", got)
			}
			a.StartAgain(t)
			if got := a.SQL(t, "select sum(n) from t"); got != "3" {
				t.Fatalf("old primary after kill: %s", got)
			}
			a.Stop(t, "fast")
			c := pgtest.StartDir(t, v, a.DataDir, pgtest.Options{})
			if got := c.SQL(t, "select sum(n) from t"); got != "3" {
				t.Fatalf("started directory: %s", got)
			}
		})
	}
}

func TestRefusedStartGivesTheLog(t *testing.T) {
	a := pgtest.Start(t, pgtest.Options{})
	a.Stop(t, "fast")
	a.WriteFile(t, "recovery.signal", "")
	s, err := pgtest.TryStartDir(t, 15, a.DataDir, pgtest.Options{})
	if err == nil {
		t.Fatal("recovery.signal without restore_command started")
	}
	if log := s.Log(); log == "" {
		t.Fatal("no log")
	}
}

func TestBenchRuns(t *testing.T) {
	a := pgtest.Start(t, pgtest.Options{})
	a.Bench(t, "-i", "-s", "1", "-q")
	a.Bench(t, "-t", "10")
}
