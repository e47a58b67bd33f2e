package basebackup

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/state/repository/seal"
)

// TestClusterChangesUnderABackup drops, creates, truncates, extends and moves relations, and adds and drops tablespaces, while a
// backup is taken. What is restored by hand and replayed to the end of WAL is the same, and amcheck finds nothing.
func TestClusterChangesUnderABackup(t *testing.T) {
	for _, version := range pgtest.SomeVersions(t, 15) {
		t.Run(fmt.Sprint(version), func(t *testing.T) { changeUnderBackup(t, version) })
	}
}

func changeUnderBackup(t *testing.T, version int) {
	s, tablespace, oid := ordersServer(t, version)
	s.Exec(t, "alter system set wal_keep_size = '2GB'") // the copy is replayed from pg_wal
	s.Reload(t)
	gone := s.Dir(t, "gone")
	s.Exec(t, fmt.Sprintf("create tablespace gone location '%s'", gone))
	goneOID := s.SQL(t, "select oid from pg_tablespace where spcname = 'gone'")
	s.Exec(t, "create extension amcheck")
	for _, name := range []string{"dropped", "cut", "grown", "moved", "rewritten"} {
		s.Exec(t, fmt.Sprintf("create table %s as select i, md5(i::text) m from generate_series(1, 40000) i", name))
		s.Exec(t, fmt.Sprintf("create index on %s (m)", name))
	}
	s.Exec(t, "create unlogged table fleeting as select generate_series(1, 1000) i")
	late := s.Dir(t, "late")
	changes := []string{
		fmt.Sprintf("create tablespace late location '%s'", late), // first, so that its link is mostly not yet sent
		"drop tablespace gone",
		"drop table dropped",
		"create table created as select i, md5(i::text) m from generate_series(1, 20000) i",
		"create index on created (m)",
		"truncate cut",
		"insert into cut select i, 'again' from generate_series(1, 100) i",
		"insert into grown select i, md5(i::text) from generate_series(40001, 90000) i",
		"update grown set m = 'x' || m where i % 3 = 0",
		"delete from grown where i % 7 = 0",
		"vacuum grown",
		"create unlogged table brief as select generate_series(1, 1000) i",
		"create temp table passing as select generate_series(1, 1000) i",
		"alter table moved set tablespace late",
		"alter table rewritten alter i type bigint",
		"insert into fleeting select generate_series(1, 5000)",
		"checkpoint",
	}
	begin, changed := make(chan struct{}), make(chan error, 1)
	go func() {
		<-begin
		for _, sql := range changes {
			if out, err := s.Try(sql); err != nil {
				changed <- fmt.Errorf("%s: %w %s", sql, err, out)
				return
			}
		}
		changed <- nil
	}()
	conn := walsender(t, s)
	system, err := conn.IdentifySystem(t.Context())
	check(t, err)
	repo, dir := newRepository(t, seal.Codec{})
	o := testOptions(t)
	o.MaxRate, o.Now = 8<<20, stepping()
	started, waited := false, false
	o.Report = func(p Progress) {
		if p.Phase != PhaseCopying {
			return
		}
		if !started {
			started = true
			close(begin)
		}
		if !waited && p.Done > p.Total*3/4 {
			waited = true
			check(t, <-changed)
		}
	}
	c := clusterIn(t, repo, s, system.ID)
	result, err := Take(t.Context(), conn, []*repository.Cluster{c}, o)
	check(t, err)
	if !waited || len(result.Damaged)+len(result.Suspects) > 0 {
		t.Fatalf("changed meanwhile %v, %+v", waited, result)
	}
	check(t, c.VerifyBackup(t.Context(), result.ID, true, func(f repository.Finding) { t.Errorf("%+v", f) }))
	asked := []string{
		"select md5(string_agg(m, '' order by i)) from grown", "select count(*) from cut", "select count(*), min(m) from created",
		"select sum(i) from moved", "select max(i), pg_typeof(max(i)) from rewritten", "select count(*), sum(length(note)) from orders",
		"select count(*) from pg_class where relname in ('dropped', 'passing')", "select string_agg(spcname, ' ' order by oid) from pg_tablespace",
	}
	want := map[string]string{}
	for _, q := range asked {
		want[q] = s.SQL(t, q)
	}
	s.Stop(t, "fast") // the copy's replay makes the new tablespace at the very same place
	restored := replayByHand(t, s, filepath.Join(dir, "c", "orders.eu", system.ID, "b", result.ID), map[string]string{oid: tablespace, goneOID: gone})
	for _, q := range asked {
		if got := restored.SQL(t, q); got != want[q] {
			t.Errorf("%s: %s, want %s", q, got, want[q])
		}
	}
	if got := restored.SQL(t, "select (select count(*) from fleeting) + (select count(*) from brief)"); got != "0" {
		t.Errorf("%s rows of unlogged tables came back", got)
	}
	amcheck(t, restored)
}

// replayByHand restores with tar, and replays all WAL of the server, which has stopped. The folders of tablespaces, by oid, come under names of their own.
func replayByHand(t *testing.T, s *pgtest.Server, backup string, tablespaces map[string]string) *pgtest.Server {
	t.Helper()
	target := s.Dir(t, "byhand")
	run := func(command string, args ...string) {
		t.Helper()
		if out, err := exec.Command("bash", append([]string{"-euo", "pipefail", "-c", command, "-"}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", command, err, out)
		}
	}
	run(`cat "$1"/v/base/* | zstd -dc | tar x -C "$2" --exclude='pg_tblspc/*'`, backup, target)
	for oid := range tablespaces {
		own := s.Dir(t, "byhand-"+oid)
		if _, err := os.Stat(filepath.Join(backup, "v", oid)); err == nil {
			run(`cat "$1"/v/"$2"/* | zstd -dc | tar x -C "$3"`, backup, oid, own)
		}
		run(`ln -s "$1" "$2"/pg_tblspc/"$3"`, own, target, oid)
	}
	check(t, os.WriteFile(filepath.Join(target, "recovery.signal"), nil, 0o600))
	f, err := os.OpenFile(filepath.Join(target, "postgresql.auto.conf"), os.O_APPEND|os.O_WRONLY, 0)
	check(t, err)
	_, err = fmt.Fprintf(f, "\nrestore_command = 'cp %s/pg_wal/%%f %%p'\nrecovery_target_action = 'promote'\n", s.DataDir)
	check(t, err)
	check(t, f.Close())
	return pgtest.StartDir(t, s.Version, target, pgtest.Options{})
}

// amcheck looks at every B-tree, and from 14 on at every heap.
func amcheck(t *testing.T, s *pgtest.Server) {
	t.Helper()
	trees := `from pg_index i join pg_class c on c.oid = i.indexrelid join pg_am a on a.oid = c.relam
		where a.amname = 'btree' and c.relpersistence = 'p' and i.indisvalid`
	if n := s.SQL(t, "select count(bt_index_check(c.oid, true)::text) "+trees); strings.TrimSpace(n) == "0" {
		t.Error("no index was checked")
	}
	if s.Version >= 14 {
		heaps := "select count(*) from pg_class c, lateral verify_heapam(c.oid) where c.relkind in ('r', 't', 'm') and c.relpersistence = 'p'"
		if n := s.SQL(t, heaps); n != "0" {
			t.Errorf("amcheck finds %s things wrong", n)
		}
	}
}
