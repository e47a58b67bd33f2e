package torture

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
)

// killHCL keeps two backups, so that every further one makes something to prune.
const killHCL = `
repository "main" {
  path = "@DIR@/repository"
}

server "orders" {
  conninfo     = "%s"
  repositories = [repository.main]

  receiver {
    spool = "@DIR@/spool"
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

// TestApplyKilled kills `pgkeep apply` with SIGKILL at random moments of plans that have much to do: slots that are gone
// or lost, receivers that died, backups whose writer died, backups and WAL to prune. The applies after it converge, the
// plan is empty then, and in the end a recovery brings back every commit. PGKEEP_ROUNDS says how many kills; by default
// 20. The seed is printed and taken back from PGKEEP_SEED.
func TestApplyKilled(t *testing.T) {
	k := &applyKiller{seed: seed()}
	t.Logf("PGKEEP_SEED=%d", k.seed)
	k.random = rand.New(rand.NewPCG(k.seed, 0)) // #nosec: a test's
	k.pg = pgtest.Start(t, pgtest.Options{Version: pgtest.SomeVersions(t, 15)[0], SegmentMB: 1, Settings: map[string]string{
		"max_slot_wal_keep_size": "4MB", "max_wal_size": "4MB", "min_wal_size": "2MB", "track_commit_timestamp": "on",
	}})
	k.pg.Exec(t, ledgerTable)
	k.site = newSite(t, fmt.Sprintf(killHCL, k.pg.Conninfo()))
	for i := range rounds(20) {
		k.round(t, i)
		if t.Failed() {
			t.Fatalf("round %d, PGKEEP_SEED=%d", i, k.seed)
		}
	}
	t.Logf("killed while: %v", k.killed)
	k.recoverAll(t)
	k.site.run(t, "receiver", "stop", "orders")
	nobodyRuns(t, k.site)
}

func seed() uint64 {
	if n, err := strconv.ParseUint(os.Getenv("PGKEEP_SEED"), 10, 64); err == nil {
		return n
	}
	return uint64(time.Now().UnixNano())
}

type applyKiller struct {
	seed   uint64
	random *rand.Rand
	pg     *pgtest.Server
	site   *site
	ledger ledger
	killed map[string]int // by the last step that had begun
}

// round disturbs the world, kills the apply that mends it, and has it mended.
func (k *applyKiller) round(t *testing.T, n int) {
	k.ledger.commit(t, k.pg)
	var done []string
	if n > 0 {
		for _, c := range k.chores() {
			if k.random.IntN(2) == 0 {
				done = append(done, c.name)
				c.do(t)
			}
		}
	}
	p := k.site.run(t, "plan")
	out, ended := k.kill(t, "apply", "--auto-approve")
	if k.killed == nil {
		k.killed = map[string]int{}
	}
	k.killed[lastBegun(out, ended)]++
	k.ledger.commit(t, k.pg)
	k.mend(t, fmt.Sprintf("after %v and a kill at %q of the plan\n%s", done, lastBegun(out, ended), p))
	if slots := k.pg.SQL(t, "select count(*) || ' ' || count(*) filter (where active and wal_status <> 'lost') from pg_replication_slots"); slots != "1 1" {
		t.Errorf("slots, and those that are streamed from: %s", slots)
	}
}

// mend applies until nothing is planned: a backup that bridges a gap can leave one more to prune.
func (k *applyKiller) mend(t *testing.T, after string) {
	t.Helper()
	for try := 0; ; try++ {
		said, code := k.site.try("apply", "--auto-approve")
		if code != 0 && code != 4 && code != 5 && code != 6 {
			t.Fatalf("%s: exit code %d\n%s", after, code, said)
		}
		p := k.site.run(t, "plan")
		if strings.Contains(p, "No changes. Your infrastructure matches the configuration.") && code == 0 {
			says(t, p, "You can restore orders ")
			return
		}
		if try == 4 {
			t.Fatalf("%s: after %d applies\n%s\nis still planned:\n%s", after, try+1, said, p)
		}
	}
}

type chore struct {
	name string
	do   func(t *testing.T)
}

// chores are what makes a plan long.
func (k *applyKiller) chores() []chore {
	return []chore{
		{"a backup", func(t *testing.T) { k.site.run(t, "backup", "orders") }},
		{"a backup that is killed", func(t *testing.T) { k.kill(t, "backup", "orders") }},
		{"more WAL", func(t *testing.T) {
			k.pg.Exec(t, "create table if not exists work (n int)")
			k.pg.Exec(t, "insert into work select generate_series(1, 20000); select pg_switch_wal()")
		}},
		{"the receiver dies", k.killReceiver},
		{"the slot goes", func(t *testing.T) {
			k.killReceiver(t)
			k.pg.Exec(t, `do $$ begin
				while exists (select from pg_replication_slots where active) loop perform pg_sleep(0.01); end loop;
				perform pg_drop_replication_slot(slot_name) from pg_replication_slots;
			end $$`)
		}},
		{"the slot is lost", func(t *testing.T) {
			k.killReceiver(t)
			k.pg.Exec(t, "create table if not exists work (n int)")
			for range 10 {
				k.pg.Exec(t, "insert into work select generate_series(1, 20000); select pg_switch_wal()")
			}
			k.pg.Exec(t, "checkpoint")
		}},
	}
}

func (k *applyKiller) killReceiver(t *testing.T) {
	t.Helper()
	if r := receiverOf(t, k.site); r.Running {
		if err := syscall.Kill(r.PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the receiver's end", func() bool { return !receiverOf(t, k.site).Running })
	}
}

// kill runs the program and kills it after a moment, most often one in which it is at work.
func (k *applyKiller) kill(t *testing.T, args ...string) (out string, ended bool) {
	t.Helper()
	path := filepath.Join(k.site.dir, "killed.out")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd := exec.Command(k.site.bin, append([]string{"--dir", k.site.dir}, args...)...)
	cmd.Stdout, cmd.Stderr = f, f
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	over := make(chan error, 1)
	go func() { over <- cmd.Wait() }()
	select {
	case <-time.After(time.Duration(k.random.IntN(1500)) * time.Millisecond):
		_ = cmd.Process.Kill()
		<-over
	case <-over:
		ended = true
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text), ended
}

// lastBegun gives the action that ran when the program was killed.
func lastBegun(out string, ended bool) string {
	if ended {
		return "ended before"
	}
	last := "looking"
	for line := range strings.Lines(out) {
		name, what, found := strings.Cut(strings.TrimSpace(line), ": ")
		verb, _, _ := strings.Cut(name, " ")
		switch {
		case found && what == "begins":
			last = verb
		case found && strings.HasPrefix(what, "done") && verb == last:
			last = "after " + verb
		}
	}
	return last
}

// recoverAll restores the end of the WAL and asks for every commit.
func (k *applyKiller) recoverAll(t *testing.T) {
	t.Helper()
	dir := filepath.Join(k.site.dir, "restored")
	k.site.run(t, "recover", "--server", "orders", "--into", dir, "--latest", "--action", "promote", "--owner", owner(), "--bindir", k.pg.Bin, "--yes")
	back := pgtest.StartDir(t, k.pg.Version, dir, pgtest.Options{Version: k.pg.Version})
	defer back.Stop(t, "fast")
	awaitPromotion(t, back)
	holds(t, back, len(k.ledger.entries))
}
