package basebackup

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/repository"
)

// asking asks a server which relations were truncated, over a session for each question.
func asking(t testing.TB, s *pgtest.Server) Truncated {
	t.Helper()
	info, err := postgres.ParseConninfo(s.Conninfo(), nil, nil)
	check(t, err)
	return askingOver(info)
}

func askingOver(info postgres.Conninfo) Truncated {
	return func(ctx context.Context, r postgres.Since) (map[postgres.Relation]uint32, error) {
		conn, err := postgres.Connect(ctx, info, postgres.ConnectOptions{ApplicationName: "pgkeep test"})
		if err != nil {
			return nil, err
		}
		defer func() { _ = conn.Close() }() // it only asks
		return conn.Truncated(ctx, r)
	}
}

// TestTruncatedAndGrownAgain: pages of zeros that a bulk insert leaves at a table's end, where the parent has rows that are long deleted.
// The server's INCREMENTAL file does not tell that they are not the parent's.
func TestTruncatedAndGrownAgain(t *testing.T) {
	summarizing(t, func(t *testing.T, version int) {
		s := pgtest.Start(t, pgtest.Options{Version: version, Settings: map[string]string{"summarize_wal": "on", "autovacuum": "off"}})
		s.Exec(t, fmt.Sprintf("create tablespace fast location '%s'", s.Dir(t, "fast")))
		rows := s.Dir(t, "rows") + "/rows"
		s.Exec(t, fmt.Sprintf("copy (select i, repeat('x', 900) from generate_series(10000, 10100) i) to '%s'", rows))
		tables := map[string]string{"wide": "pg_default", "apart": "fast"}
		for table, space := range tables {
			s.Exec(t, fmt.Sprintf("create table %s (i int, m text) tablespace %s", table, space))
			s.Exec(t, fmt.Sprintf("insert into %s select i, repeat('w', 900) from generate_series(1, 8000) i", table))
		}
		s.Exec(t, "checkpoint")
		l := newLinks(t, s)
		l.take("")
		for round := range 2 { // the second time some pages are cut that came the first time
			for table := range tables {
				before := s.SQL(t, fmt.Sprintf("select pg_relation_size('%s')", table))
				s.Exec(t, fmt.Sprintf("delete from %s where i > %d", table, 4000-round*500))
				s.Exec(t, "vacuum (truncate) "+table)
				if after := s.SQL(t, fmt.Sprintf("select pg_relation_size('%s')", table)); after == before {
					t.Fatalf("%s has %s bytes and was not truncated", table, after)
				}
				s.Exec(t, fmt.Sprintf("copy %s from '%s'", table, rows))
			}
			s.Exec(t, "checkpoint")
			if r := l.take(l.last); !r.told() {
				t.Fatalf("%+v", r)
			}
		}
		l.equal(l.last)
	})
}

// TestUntold: a server that does not answer which relations were truncated, as the backup begins, ends it before anything is written; the
// next one is compared.
func TestUntold(t *testing.T) {
	summarizing(t, func(t *testing.T, version int) {
		s := pgtest.Start(t, pgtest.Options{Version: version, Settings: map[string]string{"summarize_wal": "on"}})
		l := newLinks(t, s)
		full := l.take("")
		s.Exec(t, "revoke execute on function pg_wal_summary_contents(bigint, pg_lsn, pg_lsn) from public")
		s.Exec(t, "create role asks login replication")
		info, err := postgres.ParseConninfo(strings.Replace(s.Conninfo(), "user=postgres", "user=asks", 1), nil, nil)
		check(t, err)
		refused := func(ctx context.Context, r postgres.Since) (map[postgres.Relation]uint32, error) {
			conn, err := postgres.Connect(ctx, info, postgres.ConnectOptions{})
			if err != nil {
				return nil, err
			}
			defer func() { _ = conn.Close() }() // it only asks
			return conn.Truncated(ctx, r)
		}
		l.o.Kind, l.o.Parent, l.o.Truncated = repository.KindIncremental, full.ID, refused
		_, err = Take(t.Context(), walsender(t, s), []*repository.Cluster{l.c}, l.o)
		var untold *UntoldError
		if !errors.As(err, &untold) || state.CodeOf(err) != state.CodePrivilege || !strings.Contains(untold.Why, "truncated") {
			t.Fatalf("%v", err)
		}
		if backups, err := l.c.Backups(t.Context()); err != nil || len(backups) != 1 {
			t.Errorf("%v, %+v", err, backups)
		}
		l.o.Compare = untold.Error()
		if r := l.take(full.ID); r.Kind != repository.KindIncremental || r.Compared != untold.Error() {
			t.Errorf("%+v", r)
		}
	})
}

// TestKeeps: the length that a relation was cut to counts from the beginning of each of its files.
func TestKeeps(t *testing.T) {
	tk := &taking{truncated: map[postgres.Relation]uint32{
		{Tablespace: 1663, Database: 5, File: 16384}: postgres.SegmentPages + 10,
		{Tablespace: 1664, File: 1262}:               3,
		{Tablespace: 16400, Database: 5, File: 7}:    4,
	}}
	for _, c := range []struct {
		path  string
		least uint32
		want  int64
	}{
		{"base/5/16384", postgres.SegmentPages, postgres.SegmentPages},
		{"base/5/16384.1", 30, 10},
		{"base/5/16384.1", 5, 5},
		{"base/5/16384.2", 30, 0},
		{"base/6/16384.1", 30, 30},
		{"global/1262", 8, 3},
		{"global/1262_vm", 8, 8},
		{"pg_tblspc/16400/PG_17_202406281/5/7", 8, 4},
		{"pg_tblspc/16401/PG_17_202406281/5/7", 8, 8},
	} {
		if got := tk.keeps(c.path, c.least); got != c.want {
			t.Errorf("of %s, %d pages long, %d may be the parent's; want %d", c.path, c.least, got, c.want)
		}
	}
}
