package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
)

// TestScope runs the stories of testdata/scope, each against a server of its own: what is asked for by flags, recorded
// observations, output for programs, the journal, and exit codes that need a server.
func TestScope(t *testing.T) {
	if testing.Short() {
		t.Skip("starts servers")
	}
	version := newest(pgtest.Versions(t))
	root, err := os.MkdirTemp("/var/tmp", "pgkeep-") // a spool on tmpfs is refused, and /tmp may be one
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	servers := map[string]*pgtest.Server{} // by story
	for _, story := range storiesIn(t, "testdata/scope") {
		servers["script-"+story] = pgtest.Start(t, pgtest.Options{Version: version})
	}
	server := func(ts *testscript.TestScript) *pgtest.Server { return ts.Value(serverKey{}).(*pgtest.Server) }
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/scope",
		WorkdirRoot:   root,
		UpdateScripts: os.Getenv("PGKEEP_UPDATE") != "",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exit": exitWith,
			"sql": func(ts *testscript.TestScript, _ bool, args []string) {
				runSQL(ts, server(ts), strings.Join(args, " "))
			},
			"jsonlines": checkLines,
			"interrupt": interruptWhen,
			"dropslot":  func(ts *testscript.TestScript, _ bool, _ []string) { dropSlot(ts, server(ts)) },
			"locked":    func(ts *testscript.TestScript, _ bool, args []string) { holdLock(ts, server(ts), args) },
		},
		Setup: func(e *testscript.Env) error {
			s := servers[filepath.Base(e.WorkDir)]
			e.Values[serverKey{}] = s
			e.Setenv("PGKEEP_VAR_conninfo", s.Conninfo()+" password=hunter2")
			e.Setenv("PGKEEP_VAR_work", e.WorkDir)
			e.Setenv("HOME", e.WorkDir)
			program, err := exec.LookPath("pgkeep")
			e.Defer(func() { stopReceivers(t, program, err, e) })
			return nil
		},
	})
}

type serverKey struct{}

// storiesIn gives the names of a folder's stories.
func storiesIn(tb testing.TB, dir string) []string {
	tb.Helper()
	paths, err := filepath.Glob(dir + "/*.txtar")
	if err != nil || len(paths) == 0 {
		tb.Fatalf("no stories in %s: %v", dir, err)
	}
	out := make([]string, len(paths))
	for i, p := range paths {
		out[i] = strings.TrimSuffix(filepath.Base(p), ".txtar")
	}
	return out
}

// interruptWhen starts a command, sends it a signal once a line of its output holds a text, and compares its exit code:
// interrupt 130 INT '"event":"started"' pgkeep apply --json.
func interruptWhen(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 4 {
		ts.Fatalf("usage: interrupt CODE SIGNAL TEXT COMMAND [ARG...]")
	}
	signal := syscall.SIGINT
	if args[1] == "TERM" {
		signal = syscall.SIGTERM
	}
	program, err := exec.LookPath(args[3])
	ts.Check(err)
	cmd := exec.Command(program, args[4:]...)
	cmd.Dir = ts.Getenv("WORK")
	for _, name := range []string{"PATH", "HOME", "PGKEEP_VAR_conninfo", "PGKEEP_VAR_work", "TESTSCRIPT_COMMAND"} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	out, err := cmd.StdoutPipe()
	ts.Check(err)
	cmd.Stderr = cmd.Stdout
	ts.Check(cmd.Start())
	var said strings.Builder
	sent := false
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		said.WriteString(lines.Text() + "\n")
		if !sent && strings.Contains(lines.Text(), args[2]) {
			sent = true
			ts.Check(cmd.Process.Signal(signal))
		}
	}
	_ = cmd.Wait()
	ts.Check(os.WriteFile(ts.MkAbs("interrupted"), []byte(said.String()), 0o600))
	if code := fmt.Sprint(cmd.ProcessState.ExitCode()); code != args[0] || !sent {
		ts.Fatalf("it ended with %s, want %s; signal sent: %v\n%s", code, args[0], sent, said.String())
	}
}

// holdLock takes the advisory lock of a name on the server until the story ends, as another pgkeep would.
func holdLock(ts *testscript.TestScript, s *pgtest.Server, args []string) {
	conninfo, err := postgres.ParseConninfo(s.Conninfo(), nil, nil)
	ts.Check(err)
	ctx := context.Background()
	conn, err := postgres.Connect(ctx, conninfo, postgres.ConnectOptions{ApplicationName: "another pgkeep", Timeout: 5 * time.Minute})
	ts.Check(err)
	_, err = conn.TryLock(ctx, strings.Join(args, " "))
	ts.Check(err)
	ts.Defer(func() { _ = conn.Close() })
}

func runSQL(ts *testscript.TestScript, s *pgtest.Server, sql string) string {
	out, err := s.Try(sql)
	ts.Check(err)
	return out
}

// dropSlot drops the server's slot once nobody streams from it any more.
func dropSlot(ts *testscript.TestScript, s *pgtest.Server) {
	for deadline := time.Now().Add(10 * time.Minute); time.Now().Before(deadline); {
		if runSQL(ts, s, "select count(*) from pg_replication_slots where active") == "0" {
			runSQL(ts, s, "select pg_drop_replication_slot('pgkeep_shop')")
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	ts.Fatalf("the slot is still in use")
}
