package torture

import (
	"encoding/json"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/steps/recovery"
)

// TestFindTheDrop drops a table and a database by accident among other transactions, 2,000 by default and 10,000 with
// PGKEEP_ROUNDS=10000. `wal find` names them, and the commands that it prints bring them back with every row that was
// committed before, and none of after.
func TestFindTheDrop(t *testing.T) {
	for _, version := range pgtest.SomeVersions(t, 15) {
		t.Run(strconv.Itoa(version), func(t *testing.T) {
			j := &journey{version: version}
			j.start(t)
			j.protect(t)
			others := strconv.Itoa(rounds(2000) / 2)
			j.pg.Exec(t, "create table noise (n int)")
			j.pg.Exec(t, "create procedure make_noise(much int) language plpgsql as $$ begin for i in 1..much loop insert into noise values (i); commit; end loop; end $$")
			j.pg.Exec(t, "create table victim as select generate_series(1, 500) n")
			j.pg.Exec(t, "create database lost")
			j.site.run(t, "backup", "orders")
			j.pg.Exec(t, "insert into victim select generate_series(501, 700)")
			j.pg.Exec(t, "call make_noise("+others+")")
			j.pg.Exec(t, "drop table victim")
			j.pg.Exec(t, "call make_noise("+others+")")
			noise := j.pg.SQL(t, "select count(*) from noise")
			j.pg.Exec(t, "drop database lost")
			j.pg.Exec(t, "insert into noise values (0)")
			j.site.run(t, "wal", "switch", "orders")

			rows := j.recoverFound(t, finding{
				name: "postgres.public.victim", ask: []string{"--drop-table", "victim"},
				sql: "select (select count(*) from victim) || ' ' || (select count(*) from noise)",
			})
			if rows != "700 "+others {
				t.Errorf("rows of the table that was dropped, and of the others: %s, want 700 %s", rows, others)
			}
			databases := j.recoverFound(t, finding{
				name: "lost", ask: []string{"--drop-database"},
				sql: "select (select count(*) from pg_database where datname = 'lost' and datconnlimit >= -1) || ' ' || (select count(*) from noise)",
			})
			if databases != "1 "+noise {
				t.Errorf("databases that can be connected to, and rows of the others: %s, want 1 %s", databases, noise)
			}
		})
	}
}

// finding is what `wal find` is asked, what it must find, and what the copy is asked then.
type finding struct {
	name string
	ask  []string
	sql  string
}

// recoverFound runs the command that `wal find` prints for the one thing that it must find, starts what it restored, and
// gives the copy's answer.
func (j *journey) recoverFound(t *testing.T, f finding) string {
	t.Helper()
	var found struct {
		Moments []struct {
			Recover   string `json:"recover"`
			Relations []struct {
				Name string `json:"name"`
			} `json:"relations"`
		} `json:"moments"`
	}
	out := j.site.run(t, append([]string{"wal", "find", "--server", "orders", "--json"}, f.ask...)...)
	if err := json.Unmarshal([]byte(out[max(0, strings.Index(out, "{")):]), &found); err != nil { // the notes are before it
		t.Fatalf("%v:\n%s", err, out)
	}
	if len(found.Moments) != 1 || len(found.Moments[0].Relations) == 0 || found.Moments[0].Relations[0].Name != f.name {
		t.Fatalf("wal find %v does not find just %s:\n%s", f.ask, f.name, out)
	}
	port := freePort(t)
	dir := filepath.Join(j.site.dir, "found"+f.ask[0])
	defer stopServer(t, dir)
	printed := strings.Fields(strings.Replace(found.Moments[0].Recover, "DIR", dir, 1))[1:]
	j.site.run(t, append(printed, "--tablespace", "fast="+dir+"-fast", "--tablespace", "archive="+dir+"-archive",
		"--bindir", j.pg.Bin, "--owner", owner(), "--port", strconv.Itoa(port), "--start", "--yes")...)
	socket, _ := recovery.Address(dir)
	back := &pgtest.Server{Version: j.version, SocketDir: socket, Port: port}
	return back.SQL(t, f.sql)
}
