package postgres_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/wal"
)

// must gives a value, or ends the test.
func must[T any](v T, err error) func(testing.TB) T {
	return func(tb testing.TB) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return v
	}
}

// TestTruncated asks for ranges that the server's WAL summaries cover, and for those that they do not.
func TestTruncated(t *testing.T) {
	for _, version := range pgtest.SomeVersions(t, 17) {
		if version < postgres.SummariesSince {
			continue
		}
		s := pgtest.Start(t, pgtest.Options{Version: version, Settings: map[string]string{"summarize_wal": "on", "autovacuum": "off"}})
		s.Exec(t, "create table kept as select i from generate_series(1, 100000) i")
		s.Exec(t, "create table cut as select i from generate_series(1, 100000) i")
		redo := func() wal.LSN {
			t.Helper()
			s.Exec(t, "checkpoint")
			at := s.SQL(t, "select redo_lsn from pg_control_checkpoint()")
			for s.SQL(t, "select count(*) > 0 from pg_available_wal_summaries() where end_lsn >= '"+at+"'") != "t" {
				s.SQL(t, "select pg_sleep(0.01)")
			}
			return must(wal.ParseLSN(at))(t)
		}
		before := redo()
		s.Exec(t, "delete from cut where i > 30000")
		s.Exec(t, "vacuum (truncate) cut")
		s.Exec(t, "create table born as select 1 i")
		after := redo()
		file := must(strconv.ParseUint(s.SQL(t, "select pg_relation_filenode('cut')"), 10, 32))(t)
		database := must(strconv.ParseUint(s.SQL(t, "select oid from pg_database where datname = 'postgres'"), 10, 32))(t)
		pages := must(strconv.ParseUint(s.SQL(t, "select pg_relation_size('cut') / 8192"), 10, 32))(t)
		c := must(postgres.Connect(t.Context(), must(postgres.ParseConninfo(s.Conninfo(), nil, nil))(t), postgres.ConnectOptions{}))(t)
		got := must(c.Truncated(t.Context(), postgres.Since{Range: wal.Range{Timeline: 1, From: before, To: after}}))(t)
		if n := got[postgres.Relation{Tablespace: 1663, Database: uint32(database), File: uint32(file)}]; len(got) != 1 || uint64(n) != pages || pages == 0 {
			t.Errorf("%d: %v, the table has %d pages", version, got, pages)
		}
		last := redo()
		if got := must(c.Truncated(t.Context(), postgres.Since{Range: wal.Range{Timeline: 1, From: after, To: last}}))(t); len(got) > 0 {
			t.Errorf("%d: after it, %v", version, got)
		}
		for _, r := range []wal.Range{
			{Timeline: 1, From: 1, To: after}, {Timeline: 1, From: before, To: last + 8}, {Timeline: 1, From: before, To: after - 8}, {Timeline: 2, From: before, To: after},
		} {
			if got, err := c.Truncated(t.Context(), postgres.Since{Range: r}); err == nil || !strings.Contains(err.Error(), "WAL summaries") {
				t.Errorf("%d: %s: %v, %v", version, r, got, err)
			}
		}
		for _, setBack := range []postgres.Since{
			{Range: wal.Range{Timeline: 1, From: before - 8, To: after}}, // summaries begin before it
			{Range: wal.Range{Timeline: 1, From: before + 8, To: last}},
			{Range: wal.Range{Timeline: 1, From: before, To: last}, Stop: after, Age: 24 * time.Hour},
		} {
			if got, err := c.Truncated(t.Context(), setBack); err == nil || !strings.Contains(err.Error(), "set back") && !strings.Contains(err.Error(), "WAL summaries") {
				t.Errorf("%d: %+v: %v, %v", version, setBack, got, err)
			}
		}
		for _, same := range []postgres.Since{
			{Range: wal.Range{Timeline: 1, From: before, To: last}, Stop: after - 8192 - 1, Age: 24 * time.Hour},
			{Range: wal.Range{Timeline: 1, From: before, To: last}, Stop: after},
		} {
			must(c.Truncated(t.Context(), same))(t)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}
