package torture

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/steps/recovery"
)

// TestRecoveryStartInterrupted stops `recover --start` while PostgreSQL is on its way: by Ctrl-C, by kill -9 of pgkeep, and
// because the server itself breaks off. What is left is known each time, and the same command goes on from there.
func TestRecoveryStartInterrupted(t *testing.T) {
	f := newFaulty(t, 15)
	f.port = freePort(t)
	f.restore("by_start", "")
	defer stopServer(t, f.dir)

	t.Run("broke_off", func(t *testing.T) {
		f.t = t
		f.write("fault", "exit 7")
		out, code := f.site.try("recover", "by_start", "--yes", "--accept-loss", "--start")
		if code != 8 {
			t.Fatalf("exit code %d\n%s", code, out)
		}
		says(t, out, "E-MISSED", "recovery broke off", "nothing is lost", "exit code 255")
		if serverIn(t, f.dir) != 0 {
			t.Error("a server runs")
		}
	})
	t.Run("interrupted", func(t *testing.T) {
		f.t = t
		f.hold()
		cmd, out := f.started(t)
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // its exit code is looked at
		if code := cmd.ProcessState.ExitCode(); code != 130 {
			t.Errorf("exit code %d\n%s", code, out)
		}
		says(t, out.String(), "interrupted; the server in "+f.dir+" was shut down in segment", "the same command goes on from there")
		if serverIn(t, f.dir) != 0 {
			t.Error("a server runs")
		}
	})
	t.Run("killed_and_waited_for_again", func(t *testing.T) {
		f.t = t
		f.hold()
		cmd, _ := f.started(t)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // killed
		pid := serverIn(t, f.dir)
		if pid == 0 {
			t.Fatal("the server ended with pgkeep")
		}
		f.remove("hold")
		out := f.site.run(t, "recover", "by_start", "--yes", "--accept-loss", "--start")
		says(t, out, "target reached", "was promoted")
		if again := serverIn(t, f.dir); again != pid {
			t.Errorf("server %d runs, and it was %d", again, pid)
		}
		socket, port := recovery.Address(f.dir)
		ledgerHolds(t, &pgtest.Server{Version: 15, SocketDir: socket, Port: port}, f.dir, f.last)
	})
}

// hold has the stand-in stop at the call of the fault until the file is removed.
func (f *faulty) hold() {
	f.write("fault", "")
	f.write("hold", "")
	f.write("calls", "0")
	if f.has("reached") {
		f.remove("reached")
	}
}

// started runs `recover --start` in the background until wal-get is held.
func (f *faulty) started(t *testing.T) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	out := &bytes.Buffer{}
	cmd := exec.Command(f.site.bin, "--dir", f.site.dir, "recover", "by_start", "--yes", "--accept-loss", "--start")
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the call of wal-get that is held", func() bool { return f.has("reached") })
	if log, err := os.ReadFile(filepath.Join(f.dir+".pgkeep", "server.log")); err != nil || !strings.Contains(string(log), "restored log file") {
		t.Errorf("the log is not where it should be: %v\n%s", err, log)
	}
	return cmd, out
}
