package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
)

// TestServer runs each story of testdata/server against a real server of its own, whose conninfo is a sensitive variable.
func TestServer(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server")
	}
	version := newest(pgtest.Versions(t))
	// A spool on tmpfs is refused, and /tmp may be one.
	root, err := os.MkdirTemp("/var/tmp", "pgkeep-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	servers := map[string]*pgtest.Server{} // by story: they leave slots behind, and lose them
	for _, story := range storiesIn(t, "testdata/server") {
		o := pgtest.Options{Version: version}
		if story == "meta_host" && version >= 17 { // there the server tells what changed
			o.Settings = map[string]string{"summarize_wal": "on"}
		}
		servers["script-"+story] = pgtest.Start(t, o)
	}
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/server",
		WorkdirRoot:   root,
		UpdateScripts: os.Getenv("PGKEEP_UPDATE") != "",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exit":   exitWith,
			"newest": newestBackup,
			"sql": func(ts *testscript.TestScript, _ bool, args []string) {
				runSQL(ts, ts.Value(serverKey{}).(*pgtest.Server), strings.Join(args, " "))
			},
		},
		Setup: func(e *testscript.Env) error {
			s := servers[filepath.Base(e.WorkDir)]
			e.Values[serverKey{}] = s
			e.Setenv("PGKEEP_VAR_conninfo", s.Conninfo()+" password=hunter2")
			e.Setenv("PGKEEP_VAR_work", e.WorkDir)
			e.Setenv("PGKEEP_VAR_bindir", s.Bin)
			e.Setenv("HOME", e.WorkDir)
			program, err := exec.LookPath("pgkeep")
			e.Defer(func() { stopReceivers(t, program, err, e) })
			return nil
		},
	})
}

// newestBackup puts the id of the newest backup into $BACKUP.
func newestBackup(ts *testscript.TestScript, _ bool, _ []string) {
	if err := ts.Exec("pgkeep", "backups", "list"); err != nil {
		ts.Fatalf("list the backups: %v", err)
	}
	ids := regexp.MustCompile(`[0-9]{8}T[0-9]{6}Z-F-[0-9a-f]+`).FindAllString(ts.ReadFile("stdout"), -1)
	if len(ids) == 0 {
		ts.Fatalf("there is no backup")
	}
	ts.Setenv("BACKUP", ids[len(ids)-1])
}

// stopReceivers leaves no process behind, also when a story broke off.
func stopReceivers(t *testing.T, program string, err error, e *testscript.Env) {
	t.Helper()
	leaveNoReceiver(t, program, err, e, "shop")
}

func leaveNoReceiver(t *testing.T, program string, err error, e *testscript.Env, name string) {
	t.Helper()
	if err != nil {
		return
	}
	stop := exec.Command(program, "-C", e.WorkDir, "receiver", "stop", name)
	stop.Env = e.Vars
	if out, err := stop.CombinedOutput(); err != nil && !strings.Contains(string(out), "No receiver") && !strings.Contains(string(out), "No configuration") {
		t.Logf("stop the receiver of %s: %v\n%s", filepath.Base(e.WorkDir), err, out)
	}
}

func newest(versions []int) int {
	best := 0
	for _, v := range versions {
		best = max(best, v)
	}
	return best
}
