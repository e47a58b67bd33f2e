package torture

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/wal"
)

// journeyHCL is one server with one repository. Its receiver pushes nothing by itself: what a recovery finds, it asked for.
const journeyHCL = `
repository "main" {
  path = "@DIR@/repository"
}

server "orders" {
  conninfo     = "%s"
  repositories = [repository.main]

  receiver {
    spool      = "@DIR@/spool"
    push_every = "1h"
  }

  backup {
    checkpoint = "fast"
  }
}

retention "standard" {
  servers    = [server.orders]
  redundancy = 2
}
`

const recoveryHCL = `
recovery "%[1]s" {
  server = server.orders

  target {
    %[2]s
    action = "promote"
  }

  destination {
    path        = "@DIR@/%[1]s"
    owner       = "%[3]s"
    bindir      = "%[4]s"
    tablespaces = { fast = "@DIR@/%[1]s_fast", archive = "@DIR@/%[1]s_archive" }
  }
}
`

// TestJourney is what a user does: protect a server, lose something, get it back, at every kind of target.
func TestJourney(t *testing.T) {
	for _, version := range pgtest.SomeVersions(t, 13, 15, 18) {
		t.Run(strconv.Itoa(version), func(t *testing.T) { (&journey{version: version}).walk(t) })
	}
}

type journey struct {
	version int
	pg      *pgtest.Server
	site    *site
	ledger  ledger
	hcl     string
}

func (j *journey) walk(t *testing.T) {
	j.start(t)
	j.protect(t)
	j.work(t)
	for _, x := range j.targets() {
		t.Run(x.name, func(t *testing.T) { j.recover(t, x) })
	}
	t.Run("receiver_killed", j.receiverKilled)
	t.Run("repository_alone", j.repositoryAlone)
}

func (j *journey) start(t *testing.T) {
	j.pg = pgtest.Start(t, pgtest.Options{Version: j.version, Settings: ledgerSettings})
	for _, name := range []string{"fast", "archive"} {
		j.pg.Exec(t, fmt.Sprintf("create tablespace %s location '%s'", name, j.pg.Dir(t, name)))
	}
	j.pg.Exec(t, ledgerTable+" tablespace fast")
	j.pg.Bench(t, "-i", "-q", "-s", "1", "--tablespace=archive")
	j.hcl = fmt.Sprintf(journeyHCL, j.pg.Conninfo())
	j.site = newSite(t, j.hcl)
}

// protect applies a first plan, after which the server can be restored and nothing is left to do.
func (j *journey) protect(t *testing.T) {
	t.Helper()
	says(t, j.site.run(t, "plan"), "create-repository", "create-slot", "start-receiver", "take-backup", "Plan: 4 to add, 0 to change, 0 to destroy.")
	says(t, j.site.run(t, "apply", "--auto-approve"), "can be restored", "Apply: 4 done, 0 already so, 0 failed, 0 not done.")
	says(t, j.site.run(t, "plan"), "No changes. Your infrastructure matches the configuration.", "You can restore orders ")
	if status := j.site.run(t, "status"); strings.Contains(status, "E-TARGET") || !strings.Contains(status, "You can restore orders") {
		t.Errorf("status after the first apply:\n%s", status)
	}
}

// work is 20 commits, a backup, 41 more and a restore point, all while pgbench runs.
func (j *journey) work(t *testing.T) {
	t.Helper()
	stop := load(t, j.pg)
	j.ledger.upTo(t, j.pg, 20)
	says(t, j.site.run(t, "backup", "orders"), "can be restored")
	j.ledger.upTo(t, j.pg, 40)
	j.pg.Exec(t, "select pg_create_restore_point('before_the_party')")
	j.ledger.upTo(t, j.pg, 60)
	stop()
	j.ledger.upTo(t, j.pg, 61)
}

type target struct {
	name, hcl string
	want      int // the ledger's last number
}

func (j *journey) targets() []target {
	at := func(e time.Time) string { return fmt.Sprintf("time = %q", e.Format(time.RFC3339Nano)) }
	all := []target{
		{"by_time", at(j.ledger.at(30).next), 30},
		{"by_time_exclusive", at(j.ledger.at(25).committed) + "\ninclusive = false", 24},
		{"by_xid", "xid = " + j.ledger.at(35).xid, 35},
		{"by_xid_exclusive", "xid = " + j.ledger.at(35).xid + "\ninclusive = false", 34},
		{"by_lsn", fmt.Sprintf("lsn = %q", j.ledger.at(45).lsn), 45},
		{"by_name", `name = "before_the_party"`, 40},
		{"immediate", "immediate = true", 20},
		{"by_latest", "latest = true", 61},
	}
	if os.Getenv("PGKEEP_PG") == "" && j.version != 15 {
		return []target{all[0], all[len(all)-1]} // the others of every version when versions are asked for
	}
	return all
}

// recover carries out one recovery of the configuration and asks the server that starts from it what it knows.
func (j *journey) recover(t *testing.T, x target, flags ...string) {
	t.Helper()
	j.site.configure(t, j.hcl+fmt.Sprintf(recoveryHCL, x.name, x.hcl, owner(), j.pg.Bin))
	out := j.site.run(t, append([]string{"recover", x.name, "--yes"}, flags...)...)
	j.prove(t, filepath.Join(j.site.dir, x.name), backupIn(t, out), x.want)
}

// prove checks the files of a restored directory against PostgreSQL's manifest, starts a server in it and asks that.
func (j *journey) prove(t *testing.T, dir, backup string, want int) {
	t.Helper()
	verify(t, j.pg, filepath.Join(j.site.dir, "repository"), backup, dir)
	back := pgtest.StartDir(t, j.version, dir, pgtest.Options{Version: j.version})
	defer back.Stop(t, "fast")
	awaitPromotion(t, back)
	holds(t, back, want)
	balanced(t, back)
	for _, name := range []string{"fast", "archive"} {
		if at := back.SQL(t, fmt.Sprintf("select pg_tablespace_location(oid) from pg_tablespace where spcname = '%s'", name)); at != dir+"_"+name {
			t.Errorf("tablespace %s of the copy is at %s", name, at)
		}
	}
}

// receiverKilled loses the receiver without a word while WAL is in its spool only.
func (j *journey) receiverKilled(t *testing.T) {
	j.ledger.upTo(t, j.pg, 70)
	last, err := wal.ParseLSN(j.ledger.at(70).lsn)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "WAL of the last commit in the spool", func() bool { return j.receiver(t).Flushed >= last })
	r := j.receiver(t)
	if r.Archived >= last {
		t.Fatalf("the receiver archived up to %s unasked, and was to do so in an hour", r.Archived)
	}
	if err := syscall.Kill(r.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the receiver's end", func() bool { return !j.receiver(t).Running })
	x := target{"after_a_kill", "latest = true", 70}
	j.site.configure(t, j.hcl+fmt.Sprintf(recoveryHCL, x.name, x.hcl, owner(), j.pg.Bin))
	says(t, j.site.run(t, "plan", "--recover="+x.name), "is in its spool and not archived yet; pgkeep recover pushes it first")
	j.recover(t, x, "--accept-loss") // of what the server may have written on by itself since
	says(t, j.site.run(t, "apply", "--auto-approve"), "start-receiver")
}

// repositoryAlone restores with nothing but the repository: no configuration, no server that is known.
func (j *journey) repositoryAlone(t *testing.T) {
	dir := filepath.Join(j.site.dir, "alone")
	elsewhere := &site{dir: t.TempDir(), bin: j.site.bin}
	out := elsewhere.run(t, "recover", "--repository", filepath.Join(j.site.dir, "repository"), "--server", "orders", "--into", dir,
		"--to-name", "before_the_party", "--action", "promote", "--owner", owner(), "--bindir", j.pg.Bin,
		"--tablespace", "fast="+dir+"_fast", "--tablespace", "archive="+dir+"_archive", "--yes")
	j.prove(t, dir, backupIn(t, out), 40)
}

// receiver gives what the program says of the receiver.
func (j *journey) receiver(t *testing.T) state.Receiver {
	t.Helper()
	return receiverOf(t, j.site)
}

func receiverOf(t *testing.T, s *site) state.Receiver {
	t.Helper()
	out, code := s.try("receiver", "status", "orders", "--json")
	var all map[string]state.Receiver
	if err := json.Unmarshal([]byte(out), &all); err != nil || code != 0 && code != 8 {
		t.Fatalf("receiver status: exit code %d, %v\n%s", code, err, out)
	}
	return all["orders"]
}

// says fails the test unless the output holds each of the texts, whatever its lines are broken into.
func says(t *testing.T, out string, texts ...string) {
	t.Helper()
	flat := strings.Join(strings.Fields(out), " ")
	for _, text := range texts {
		if !strings.Contains(flat, text) {
			t.Errorf("it does not say %q:\n%s", text, out)
		}
	}
}
