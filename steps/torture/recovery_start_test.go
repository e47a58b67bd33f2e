package torture

import (
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/pgkeep/pgkeep/state/host"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/steps/recovery"
)

// TestJourneyStart has pgkeep start what it restored, for every kind of target and action: it must say where recovery
// ended, and the server must stand there.
func TestJourneyStart(t *testing.T) {
	for _, version := range pgtest.SomeVersions(t, 15) {
		t.Run(strconv.Itoa(version), func(t *testing.T) {
			j := &journey{version: version}
			j.start(t)
			j.protect(t)
			j.work(t)
			for _, x := range j.targets() {
				for _, action := range actions(x) {
					t.Run(x.name+"_"+action, func(t *testing.T) { j.recoverStarted(t, x, action) })
				}
			}
			t.Run("wrong answer", func(t *testing.T) { j.answersWrong(t, j.targets()[0]) })
		})
	}
}

// actions gives what a target knows of: at the end of the WAL PostgreSQL promotes.
func actions(x target) []string {
	if x.name == "by_latest" {
		return []string{"promote"}
	}
	return []string{"pause", "promote", "shutdown"}
}

// recoverStarted lets `recover --start` do it all, and looks at what it left.
func (j *journey) recoverStarted(t *testing.T, x target, action string) {
	t.Helper()
	name := x.name + "_" + action
	port := freePort(t)
	hcl := strings.Replace(fmt.Sprintf(recoveryHCL, name, x.hcl, owner(), j.pg.Bin), `action = "promote"`, fmt.Sprintf("action = %q", action), 1)
	if action != "shutdown" { // nobody answers then
		hcl = asks(hcl, "count(*) from ledger", strconv.Itoa(x.want))
	}
	j.site.configure(t, j.hcl+hcl)
	dir := filepath.Join(j.site.dir, name)
	defer stopServer(t, dir)
	out := j.site.run(t, "recover", name, "--yes", "--start", "--port", strconv.Itoa(port))
	says(t, out, "target reached", "Recovered into "+dir)
	if action == "shutdown" {
		says(t, out, "the server shut down there", "recovery_target_action = 'promote'")
		if pid := serverIn(t, dir); pid != 0 {
			t.Errorf("server %d runs in %s", pid, dir)
		}
		return
	}
	says(t, out, map[string]string{"pause": "is paused there and can be read", "promote": "was promoted"}[action], "; 1 check holds", "psql -h ")
	socket, _ := recovery.Address(dir)
	back := &pgtest.Server{Version: j.version, SocketDir: socket, Port: port}
	if got := back.SQL(t, "select pg_is_in_recovery()"); got != map[string]string{"pause": "t", "promote": "f"}[action] {
		t.Errorf("pg_is_in_recovery: %s after %s", got, action)
	}
	if action == "pause" {
		says(t, out, fmt.Sprintf("the last transaction it holds is %s, committed at", back.SQL(t, "select xid from pg_last_committed_xact()")))
	}
	ledgerHolds(t, back, dir, x.want)
	again, code := j.site.try("recover", name, "--yes", "--start", "--port", strconv.Itoa(port))
	if x.name == "by_latest" && code != 0 { // the server wrote WAL meanwhile, and to another end it is another recovery
		says(t, again, "which this recovery did not start", "1 not done")
		return
	}
	says(t, again, "target reached", "0 done, 1 already so")
}

// asks adds a check to the last recovery block.
func asks(hcl, what, expect string) string {
	end := strings.LastIndex(hcl, "}")
	return fmt.Sprintf("%s  check \"rows\" {\n    database = \"postgres\"\n    sql      = \"select %s\"\n    expect   = %q\n  }\n}\n", hcl[:end], what, expect)
}

// answersWrong: a copy that is at its target, and has not what it should, is exit code 8; the same command asks again.
func (j *journey) answersWrong(t *testing.T, x target) {
	hcl := fmt.Sprintf(recoveryHCL, "wrong", x.hcl, owner(), j.pg.Bin)
	args := []string{"recover", "wrong", "--yes", "--start", "--port", strconv.Itoa(freePort(t))}
	j.site.configure(t, j.hcl+asks(hcl, "count(*) from ledger", "7777"))
	defer stopServer(t, filepath.Join(j.site.dir, "wrong"))
	out, code := j.site.try(args...)
	says(t, out, "E-CHECK", fmt.Sprintf(`check "rows" in database postgres gave "%d" and not "7777"`, x.want), "psql -h ")
	if code != 8 {
		t.Errorf("exit code %d", code)
	}
	j.site.configure(t, j.hcl+asks(hcl, "count(*) from ledger", strconv.Itoa(x.want)))
	says(t, j.site.run(t, args...), "; 1 check holds")
}

func ledgerHolds(t *testing.T, pg *pgtest.Server, dir string, want int) {
	t.Helper()
	got := pg.SQL(t, "select count(*) || ' of ' || coalesce(min(n), 0) || ' to ' || coalesce(max(n), 0) from ledger")
	if exact := fmt.Sprintf("%d of 1 to %d", want, want); got != exact {
		t.Errorf("the ledger in %s holds %s, want %s", dir, got, exact)
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func serverIn(t *testing.T, dir string) int {
	t.Helper()
	pid, err := host.Postmaster(dir)
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// stopServer ends what runs in a data directory.
func stopServer(t *testing.T, dir string) {
	t.Helper()
	pid := serverIn(t, dir)
	if pid == 0 {
		return
	}
	_ = syscall.Kill(pid, syscall.SIGQUIT) // it may have ended by itself
	eventually(t, "the end of the server in "+dir, func() bool { return serverIn(t, dir) == 0 })
}
