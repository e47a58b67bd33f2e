package torture

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/state/repository/store/file"
)

// TestCopiesKilled kills `pgkeep apply` with SIGKILL at random moments while it brings a second repository what the first one holds: a
// backup and its WAL. After each kill nothing is listed there that is not whole; after one to three of them an apply goes on, the
// plan is empty, and all of the second repository is proved. PGKEEP_ROUNDS says how often; by default 6 times. The seed is printed and taken back
// from PGKEEP_SEED.
func TestCopiesKilled(t *testing.T) {
	n := seed()
	t.Logf("PGKEEP_SEED=%d", n)
	k := &copyKiller{random: rand.New(rand.NewPCG(n, 0))} // #nosec: a test's
	k.pg = pgtest.Start(t, pgtest.Options{Version: pgtest.SomeVersions(t, 15)[0], SegmentMB: 1})
	k.pg.Bench(t, "-i", "-q", "-s", "3")
	one := fmt.Sprintf(killHCL, k.pg.Conninfo())
	two := strings.Replace(one, "[repository.main]", "[repository.main, repository.second]", 1) + "\nrepository \"second\" {\n  path = \"@DIR@/second\"\n}\n"
	k.site = newSite(t, one)
	k.site.run(t, "apply", "--auto-approve")
	k.pg.Exec(t, "create table work as select generate_series(1, 100000) n; select pg_switch_wal()")
	k.site.configure(t, two)
	began := time.Now()
	k.converge(t)
	k.usual = time.Since(began)
	for i := range rounds(6) {
		if err := os.RemoveAll(k.second()); err != nil {
			t.Fatal(err)
		}
		for range 1 + k.random.IntN(3) {
			k.kill(t)
		}
		k.converge(t)
		if t.Failed() {
			t.Fatalf("round %d, PGKEEP_SEED=%d", i, n)
		}
	}
	t.Logf("killed while: %v; %d copies went on with what another had stored", k.killed, k.wentOn)
}

type copyKiller struct {
	random *rand.Rand
	pg     *pgtest.Server
	site   *site
	usual  time.Duration // that an apply takes which nobody kills
	killed map[string]int
	wentOn int
}

func (k *copyKiller) second() string { return filepath.Join(k.site.dir, "second") }

// kill begins an apply and kills it, and looks what is listed then.
func (k *copyKiller) kill(t *testing.T) {
	t.Helper()
	path := filepath.Join(k.site.dir, "killed.out")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd := exec.Command(k.site.bin, "--dir", k.site.dir, "apply", "--auto-approve")
	cmd.Stdout, cmd.Stderr = f, f
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	over := make(chan error, 1)
	go func() { over <- cmd.Wait() }()
	ended := false
	select {
	case <-time.After(time.Duration(k.random.Int64N(int64(k.usual)))):
		_ = cmd.Process.Kill()
		<-over
	case <-over:
		ended = true
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if k.killed == nil {
		k.killed = map[string]int{}
	}
	k.killed[lastBegun(string(text), ended)]++
	k.nothingBad(t)
}

// nothingBad fails the test when the second repository lists a backup that is not whole.
func (k *copyKiller) nothingBad(t *testing.T) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(k.second(), "REPOSITORY.json")); err != nil {
		return // it was killed before
	}
	st, err := file.Open(k.second(), file.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	repo, err := repository.Open(t.Context(), st)
	if err != nil {
		t.Fatal(err)
	}
	c := repo.Cluster("orders", k.pg.SQL(t, "select system_identifier from pg_control_system()"))
	backups, err := c.Backups(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range backups {
		switch b.State { //nolint:exhaustive // every other state is wrong
		case state.BackupRunning:
		case state.BackupCommitted:
			err := c.VerifyBackup(t.Context(), b.ID, true, func(f repository.Finding) { t.Errorf("%s: %s: %s", b.ID, f.Object, f.Text) })
			if err != nil {
				t.Error(err)
			}
		default:
			t.Errorf("after a kill %s is %s: %s", b.ID, b.State, b.Failure)
		}
	}
}

// converge applies until nothing is planned, and proves both repositories.
func (k *copyKiller) converge(t *testing.T) {
	t.Helper()
	for try := 0; ; try++ {
		said, code := k.site.try("apply", "--auto-approve")
		if regexp.MustCompile(`a copy that was killed has left`).MatchString(strings.Join(strings.Fields(said), " ")) {
			k.wentOn++
		}
		p := k.site.run(t, "plan")
		if code == 0 && strings.Contains(p, "No changes. Your infrastructure matches the configuration.") {
			break
		}
		if try == 4 {
			t.Fatalf("after %d applies\n%s\nis still planned:\n%s", try+1, said, p)
		}
	}
	k.nothingBad(t)
	says(t, k.site.run(t, "verify", "--server", "orders", "--level", "full"), "orders")
}
