package torture

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
)

// TestFindTheDrop drops a table and a database by accident among other transactions, 500 by default and 10,000 with
// PGKEEP_ROUNDS=10000. `wal find` names them, and the commands that it prints, run as they are, bring them back with every
// row that was committed before, and none of after.
func TestFindTheDrop(t *testing.T) {
	for _, version := range pgtest.SomeVersions(t, 15) {
		t.Run(strconv.Itoa(version), func(t *testing.T) {
			j := &journey{version: version}
			j.start(t)
			j.protect(t)
			others := rounds(500)
			half := strconv.Itoa(others / 2)
			j.pg.Exec(t, "create table noise (n int)")
			j.pg.Exec(t, "create procedure make_noise(much int) language plpgsql as $$ begin for i in 1..much loop insert into noise values (i); commit; end loop; end $$")
			j.pg.Exec(t, "create table victim as select n, md5(n::text) what from generate_series(1, 500) n")
			j.pg.Exec(t, "create database lost")
			j.site.run(t, "backup", "orders")
			j.pg.Exec(t, "insert into victim select n, md5(n::text) from generate_series(501, 700) n")
			j.pg.Exec(t, "call make_noise("+half+")")
			const content = "select (select count(*) || ' ' || md5(string_agg(v::text, ',' order by n)) from victim v) || ' ' || (select count(*) || ' ' || sum(n) from noise)"
			was := j.pg.SQL(t, content)
			j.pg.Exec(t, "drop table victim")
			j.pg.Exec(t, "call make_noise("+half+")")
			const databases = "select (select count(*) from pg_database where datname = 'lost' and datconnlimit >= -1) || ' ' || (select count(*) from noise)"
			had := j.pg.SQL(t, databases)
			j.pg.Exec(t, "drop database lost")
			j.pg.Exec(t, "insert into noise values (0)")
			j.site.run(t, "wal", "switch", "orders")

			if n := strings.Count(j.site.run(t, "wal", "commits", "--from", "1h", "--json"), `"xid":`); n < others {
				t.Errorf("wal commits lists %d transactions of more than %d", n, others)
			}
			if got := j.recoverFound(t, finding{"again", "--drop-table", "dropped table postgres.public.victim", content}); got != was {
				t.Errorf("the copy has %s, before the table was dropped there was %s", got, was)
			}
			if got := j.recoverFound(t, finding{"once_more", "--drop-database", "dropped database lost", databases}); got != had {
				t.Errorf("the copy has %s, before the database was dropped there was %s", got, had)
			}
		})
	}
}

// finding is what `wal find` is asked, what it must say of the one thing that it finds, and what the copy is asked then.
type finding struct {
	recovery, ask, says, sql string
}

// recoverFound types what `wal find` prints for the one thing that it finds, starts what was restored, and gives the copy's
// answer.
func (j *journey) recoverFound(t *testing.T, f finding) string {
	t.Helper()
	j.site.configure(t, j.hcl+fmt.Sprintf(recoveryHCL, f.recovery, "latest = true", owner(), j.pg.Bin))
	out := j.site.typed(t, "pgkeep wal find --server orders "+f.ask)
	var lines []string
	after := strings.Split(out, f.says)
	for line := range strings.Lines(after[len(after)-1]) {
		if printed, ok := strings.CutPrefix(strings.TrimSpace(line), "→ pgkeep recover "); ok {
			lines = append(lines, "pgkeep recover "+printed)
		}
	}
	if len(after) != 2 || len(lines) != 1 {
		t.Fatalf("wal find %s does not find one thing that %s:\n%s", f.ask, f.says, out)
	}
	t.Logf("%s\n$ %s", out, lines[0])
	j.site.typed(t, lines[0])
	back := pgtest.StartDir(t, j.version, filepath.Join(j.site.dir, f.recovery), pgtest.Options{Version: j.version})
	defer back.Stop(t, "fast")
	awaitPromotion(t, back)
	return back.SQL(t, f.sql)
}

// typed runs a line as somebody who types it into a terminal in the site's folder, and answers y to what is asked there.
func (s *site) typed(t *testing.T, line string) string {
	t.Helper()
	master, slave := terminal(t)
	cmd := exec.Command("sh", "-c", line)
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = s.dir, slave, slave, slave
	cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(s.bin)+":"+os.Getenv("PATH"), "NO_COLOR=1")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = slave.Close()
	if _, err := io.WriteString(master, "y\n"); err != nil {
		t.Fatal(err)
	}
	shown, _ := io.ReadAll(master) // ends with an error when nobody has the other end
	out := strings.ReplaceAll(string(shown), "\r\n", "\n")
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
	return out
}

// terminal gives both ends of a terminal of its own.
func terminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = master.Close() })
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return master, slave
}
