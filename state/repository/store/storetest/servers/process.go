package servers

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// program gives the path of a server, installing it when it is not there.
func program(tb testing.TB, name string) string {
	tb.Helper()
	_, file, _, _ := runtime.Caller(0)
	cmd := exec.Command(filepath.Join(filepath.Dir(file), "install.sh"), name)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		tb.Fatalf("install %s: %v\n%s", name, err, stderr.Bytes())
	}
	path, ok := strings.CutPrefix(strings.TrimSpace(string(out)), name+" ")
	if !ok {
		tb.Fatalf("install.sh said %q of %s", out, name)
	}
	return path
}

// startTries bounds how often a server is started on another port because somebody took the one it was given.
const startTries = 5

// listen starts a server on a free port and waits until it takes connections. make gives the command for a port.
func listen(tb testing.TB, make func(port int) *exec.Cmd) (address string, kill func()) {
	tb.Helper()
	var why string
	for range startTries {
		port := freePort(tb)
		address = fmt.Sprintf("127.0.0.1:%d", port)
		cmd := make(port)
		var log bytes.Buffer
		cmd.Stdout, cmd.Stderr = &log, &log
		done := start(tb, cmd)
		if answers(address, done) {
			kill = func() { _ = cmd.Process.Kill(); <-done }
			tb.Cleanup(kill)
			return address, kill
		}
		_ = cmd.Process.Kill()
		<-done
		why = log.String()
	}
	tb.Fatalf("the server does not start:\n%s", why)
	return "", nil
}

// start runs the command from a thread that lives as long as the command does: a dead test leaves no server.
func start(tb testing.TB, cmd *exec.Cmd) <-chan struct{} {
	tb.Helper()
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig, cmd.SysProcAttr.Setsid = syscall.SIGKILL, true
	done, started := make(chan struct{}), make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
		close(done)
	}()
	if err := <-started; err != nil {
		tb.Fatalf("start %s: %v", cmd.Path, err)
	}
	return done
}

// startLimit is generous: machines of CI are slow.
const startLimit = 2 * time.Minute

func answers(address string, done <-chan struct{}) bool {
	limit := time.After(startLimit)
	for {
		c, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			c.Close()
			return true
		}
		select {
		case <-done:
			return false
		case <-limit:
			return false
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// freePort gives a port below those that the kernel hands out to clients.
func freePort(tb testing.TB) int {
	tb.Helper()
	for range 100 {
		port := 18000 + rand.IntN(14000)
		l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			l.Close()
			return port
		}
	}
	tb.Fatal("no free port between 18000 and 32000")
	return 0
}

func environment(more ...string) []string {
	return append([]string{"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent", "LC_ALL=C"}, more...)
}
