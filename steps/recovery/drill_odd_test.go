package recovery

import (
	"slices"
	"strings"
	"testing"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
)

// odd is what a server may have that makes a sound copy hard to ask.
const odd = `
create table parted (d int, note text) partition by range (d);
create table parted_1 partition of parted for values from (0) to (100);
create table parted_2 partition of parted for values from (100) to (200);
insert into parted select n, 'note' from generate_series(0, 199) n;
create table "we""ird
'; drop table harm; --" as select 1 as n;
create function refuse() returns event_trigger language plpgsql as $$ begin
  if current_setting('listen_addresses') = '' and current_setting('autovacuum') = 'off' then raise exception 'no extension is made here'; end if; end $$;
create event trigger refuse on ddl_command_start execute function refuse();
alter event trigger refuse enable always;
create role nobody;
alter role postgres in database open set role = 'nobody';
alter role postgres in database open set statement_timeout = '1ms';
alter database open set session_preload_libraries = 'no_such_library'`

// TestDrillOfAnOddServer: settings of roles and databases, event triggers that always fire, databases that take no connections, names of any
// kind and partitions that come and go are no damage.
func TestDrillOfAnOddServer(t *testing.T) {
	for _, version := range pgtest.SomeVersions(t, 15) {
		w := newDrilled(t, version)
		w.Exec(t, "create database closed allow_connections = false")
		w.Exec(t, "create database open")
		w.Exec(t, odd)
		w.backup = w.take()
		w.checks = []hclspec.Check{{Name: "me", Database: "open", SQL: "select current_user", Expect: "postgres"}}
		d := w.run(t, hclspec.Target{Latest: true}, nil)
		if !d.Passed || d.Amcheck.Databases != 3 || d.Amcheck.Indexes < 100 || d.Amcheck.Skipped != "" && version > 13 {
			t.Errorf("PostgreSQL %d: %q %+v", version, d.Failures, d.Amcheck)
		}
		if !slices.ContainsFunc(d.Notes, func(n string) bool { return strings.Contains(n, "database closed takes no connections") }) {
			t.Errorf("PostgreSQL %d: %q", version, d.Notes)
		}
		rows := func(d state.Drill, table string) int64 {
			i := slices.IndexFunc(d.Rows, func(r state.DrillRows) bool { return r.Table == table })
			if i < 0 {
				return -1
			}
			return d.Rows[i].Rows
		}
		if rows(d, "public.parted") != 200 || rows(d, "public.parted_1") != -1 || rows(d, "public.\"we\"\"ird\n'; drop table harm; --\"") != 1 {
			t.Errorf("PostgreSQL %d: %+v", version, d.Rows)
		}
		w.partitionsGo(t, d)
	}
}

// partitionsGo drops a partition: of its table less is gone than may be. Then more is. A moment before that of the drill before is
// compared with nothing.
func (w *drilled) partitionsGo(t *testing.T, before state.Drill) {
	t.Helper()
	w.Exec(t, "drop table parted_1")
	w.backup = w.take()
	before.Rows = append(before.Rows, state.DrillRows{Database: "postgres", Table: "public.parted_2", Rows: 100}) // as partitions were counted once
	w.before = &before
	w.checks = nil
	if d := w.run(t, hclspec.Target{Latest: true}, nil); !d.Passed {
		t.Errorf("a partition was dropped: %q", d.Failures)
	}
	w.Exec(t, "truncate parted_2")
	w.backup = w.take()
	d := w.run(t, hclspec.Target{Latest: true}, nil)
	if text := strings.Join(d.Failures, "\n"); d.Passed || !strings.Contains(text, "table public.parted of database postgres has 0 rows and had 200") {
		t.Errorf("every partition is empty: %q", text)
	}
	before.End = d.End + 1
	if d := w.run(t, hclspec.Target{Latest: true}, nil); !d.Passed {
		t.Errorf("an older moment: %q", d.Failures)
	}
}
