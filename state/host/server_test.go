package host

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// startAs runs a shell that is called postgres, says when it is where it was sent, and waits.
func startAs(t *testing.T, attr *syscall.SysProcAttr, script string, args ...string) *exec.Cmd {
	t.Helper()
	shell, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "postgres")
	content, err := os.ReadFile(shell)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, content, 0o755); err != nil { // #nosec: of a test
		t.Fatal(err)
	}
	cmd := exec.Command(program, append([]string{"-c", script + " && echo there && read never", "sh"}, args...)...)
	cmd.SysProcAttr = attr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() }) // read ends
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "there\n" {
		rest, _ := io.ReadAll(out)
		t.Fatalf("%q %s %v %s", line, rest, err, said.String())
	}
	return cmd
}

// TestServerInAContainer: there, a data directory has another name, and the lock file another process id.
func TestServerInAContainer(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root mounts")
	}
	outside, inside := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "postmaster.pid"), []byte("1\n/var/lib/postgresql/data\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	private := &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if err := (&exec.Cmd{Path: "/bin/true", SysProcAttr: private}).Run(); errors.Is(err, syscall.EPERM) {
		t.Skip("this root makes no name space of mounts")
	}
	cmd := startAs(t, private, `mount --bind "$1" "$2" && cd "$2"`, outside, inside)
	if pid, err := ServerIn(outside); pid != cmd.Process.Pid || err != nil {
		t.Errorf("%d %v, not %d", pid, err, cmd.Process.Pid)
	}
	if pid, err := ServerIn(inside); pid != 0 || err != nil {
		t.Errorf("the mount point, which is empty outside: %d %v", pid, err)
	}
}

func TestServerWithATablespace(t *testing.T) {
	data, space, other := t.TempDir(), t.TempDir(), t.TempDir()
	if err := os.Mkdir(filepath.Join(data, "pg_tblspc"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(space, filepath.Join(data, "pg_tblspc", "16400")); err != nil {
		t.Fatal(err)
	}
	cmd := startAs(t, nil, `cd "$1"`, data)
	if pid, err := ServerWith(space); pid != cmd.Process.Pid || err != nil {
		t.Errorf("%d %v, not %d", pid, err, cmd.Process.Pid)
	}
	if pid, err := ServerWith(other); pid != 0 || err != nil {
		t.Errorf("nobody's directory: %d %v", pid, err)
	}
}
