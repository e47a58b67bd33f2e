package torture

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
)

// aheadKilled kills whoever fetches ahead again and again, at random moments, while the shell serves what was fetched. PostgreSQL notices
// nothing: it recovers to the end, and has everything.
func (f *faulty) aheadKilled(t *testing.T) {
	g := *f
	g.t = t
	g.restore("ahead_killed", "")
	g.letTheShellServe()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	server := pgtest.StartDir(t, g.version, g.dir, pgtest.Options{Version: g.version})
	killed := 0
	eventually(t, "the end of recovery", func() bool {
		if ended(server) {
			t.Fatalf("it ended:\n%s", server.Log())
		}
		pids := programPIDs(g.site.bin, "--ahead")
		time.Sleep(time.Duration(random.IntN(30)) * time.Millisecond) // the moment is what is at random
		killPIDs(pids)
		killed += len(pids)
		out, err := server.Try("select pg_is_in_recovery()")
		return err == nil && out == "f"
	})
	t.Logf("%d times", killed)
	g.whole(server)
	server.Stop(t, "immediate")
}

// letTheShellServe gives the recovery its own restore_command back.
func (f *faulty) letTheShellServe() {
	f.t.Helper()
	path := filepath.Join(f.dir, "postgresql.auto.conf")
	if err := os.WriteFile(path, []byte(f.command), 0o600); err != nil {
		f.t.Fatal(err)
	}
	if !strings.Contains(f.command, "mv -f") {
		f.t.Errorf("the shell serves nothing:\n%s", f.command)
	}
}
