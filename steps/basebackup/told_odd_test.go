package basebackup

import (
	"fmt"
	"testing"

	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
)

// TestToldOddities takes a chain over databases and tablespaces that are copied and moved, files that are empty or cut to nothing, and
// relations that become logged, and compares every page with a full backup. Page checksums and wal_log_hints are off, so that hints are
// in no WAL.
func TestToldOddities(t *testing.T) {
	summarizing(t, func(t *testing.T, version int) {
		s := pgtest.Start(t, pgtest.Options{Version: version, Settings: map[string]string{"summarize_wal": "on", "autovacuum": "off"}})
		for _, name := range []string{"one", "two"} {
			s.Exec(t, fmt.Sprintf("create tablespace %s location '%s'", name, s.Dir(t, name)))
		}
		s.Exec(t, "create database origin")
		s.Exec(t, "create table kept as select i, md5(i::text) m from generate_series(1, 20000) i")
		s.Exec(t, "create table moved as select i, md5(i::text) m from generate_series(1, 20000) i")
		s.Exec(t, "create unlogged table fleeting as select i, md5(i::text) m from generate_series(1, 20000) i")
		s.Exec(t, "create table hollow (i int)")
		s.Exec(t, "create sequence counting")
		l := newLinks(t, s)
		l.take("")
		for _, round := range [][]string{
			{"create database copied template origin strategy file_copy", "create database logged template origin strategy wal_log", "alter table moved set tablespace one", "insert into hollow values (1)"},
			{"alter database copied set tablespace two", "alter table fleeting set logged", "alter table moved set tablespace two", "delete from hollow", "vacuum hollow", "select nextval('counting')"},
			{"drop database copied", "create database copied template origin strategy file_copy tablespace one", "alter table moved set tablespace pg_default", "alter table fleeting set unlogged", "insert into hollow select generate_series(1, 5000)"},
			{"alter database logged set tablespace one", "alter table kept set unlogged", "alter table kept set logged", "truncate hollow", "update moved set m = 'x' where i % 700 = 0"},
		} {
			for _, sql := range round {
				s.Exec(t, sql)
			}
			s.Exec(t, "checkpoint")
			if r := l.take(l.last); !r.told() {
				t.Fatalf("%+v", r)
			}
			parent := l.last
			l.equal(parent)
			l.last = parent
		}
	})
}
