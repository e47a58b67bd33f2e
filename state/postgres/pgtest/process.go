package pgtest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// process is one life of a postmaster.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // of Wait; read after done
}

// startLimit is generous: a restored directory may have hours of WAL to replay on a busy machine.
const startLimit = 5 * time.Minute

// freePort gives a port below those that the kernel hands out to clients, on which nobody listens.
func freePort() (int, error) {
	for range 100 {
		port := 18000 + rand.IntN(14000)
		l, err := net.Listen("tcp4", "127.0.0.1:"+strconv.Itoa(port))
		if err != nil {
			continue
		}
		return port, l.Close()
	}
	return 0, errors.New("no free port between 18000 and 32000")
}

func (s *Server) launch(tb testing.TB) {
	tb.Helper()
	if err := s.tryLaunch(tb); err != nil {
		tb.Fatalf("start PostgreSQL %d: %v\n%s", s.Version, err, s.Log())
	}
}

// tryLaunch starts the postmaster and waits until it takes connections.
func (s *Server) tryLaunch(tb testing.TB) error {
	tb.Helper()
	_ = os.Remove(filepath.Join(s.DataDir, "postmaster.pid"))                                         // left by a kill; nobody else uses this directory
	log, err := os.OpenFile(filepath.Join(s.root, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644) // #nosec: of a test
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(filepath.Join(s.Bin, "postgres"), append([]string{"-D", s.DataDir}, s.args...)...)
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = cleanEnv(), "/", log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential: s.account.credential(),
		Setsid:     true,            // a Ctrl-C at the test is not one at the server
		Pdeathsig:  syscall.SIGQUIT, // a dead test leaves no server
	}
	p, err := run(cmd)
	if err != nil {
		return err
	}
	s.process = p
	s.starts++
	if s.starts == 1 {
		tb.Cleanup(func() { s.end(syscall.SIGQUIT) })
	}
	return s.awaitReady()
}

// run starts the command from a thread that lives as long as the command: Pdeathsig is about the thread.
func run(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, <-started
}

// awaitReady polls the last line of postmaster.pid, as pg_ctl does.
func (s *Server) awaitReady() error {
	limit := time.After(startLimit)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-s.process.done:
			return fmt.Errorf("the server ended: %v", s.process.cmd.ProcessState)
		case <-limit:
			return fmt.Errorf("no answer within %s", startLimit)
		case <-tick.C:
		}
		b, err := os.ReadFile(filepath.Join(s.DataDir, "postmaster.pid"))
		if err != nil {
			continue
		}
		lines := strings.Split(string(b), "\n")
		if len(lines) < 8 || lines[0] != strconv.Itoa(s.process.cmd.Process.Pid) {
			continue
		}
		if state := strings.TrimSpace(lines[7]); state == "ready" || state == "standby" {
			return nil
		}
	}
}

// end sends a signal to the postmaster, if it lives, and waits for its end.
func (s *Server) end(sig syscall.Signal) {
	if s.process == nil {
		return
	}
	select {
	case <-s.process.done:
		return
	default:
	}
	_ = s.process.cmd.Process.Signal(sig)
	<-s.process.done
}

// PID gives the postmaster's process id.
func (s *Server) PID() int { return s.process.cmd.Process.Pid }

// Done is closed when the server's process has ended.
func (s *Server) Done() <-chan struct{} { return s.process.done }

// Signal sends a signal to the postmaster and does not wait: SIGTERM is a smart, SIGINT a fast, SIGQUIT an immediate
// shutdown, SIGHUP reads the configuration again.
func (s *Server) Signal(tb testing.TB, sig syscall.Signal) {
	tb.Helper()
	if err := s.process.cmd.Process.Signal(sig); err != nil {
		tb.Fatalf("signal the server: %v", err)
	}
}

// Stop shuts the server down, "fast" or "immediate", and waits for its end.
func (s *Server) Stop(tb testing.TB, mode string) {
	tb.Helper()
	sig, ok := map[string]syscall.Signal{"smart": syscall.SIGTERM, "fast": syscall.SIGINT, "immediate": syscall.SIGQUIT}[mode]
	if !ok {
		tb.Fatalf("no stop mode %q", mode)
	}
	s.end(sig)
}

// Kill9 kills the postmaster and every process of the cluster with SIGKILL and waits for their end.
func (s *Server) Kill9(tb testing.TB) {
	tb.Helper()
	pid := s.PID()
	// Backends are stopped first, so that none does more work after the postmaster died.
	children := childrenOf(pid)
	for _, child := range children {
		_ = syscall.Kill(child, syscall.SIGSTOP)
	}
	s.end(syscall.SIGKILL)
	for _, child := range append(children, childrenOf(pid)...) {
		_ = syscall.Kill(child, syscall.SIGKILL)
	}
	for _, child := range children {
		for syscall.Kill(child, 0) == nil && !zombie(child) {
			time.Sleep(time.Millisecond)
		}
	}
}

func childrenOf(pid int) []int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return nil
	}
	var out []int
	for _, f := range strings.Fields(string(b)) {
		if child, err := strconv.Atoi(f); err == nil {
			out = append(out, child)
		}
	}
	return out
}

// zombie tells whether a process has ended and only waits for its parent to ask.
func zombie(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return strings.HasPrefix(rest, "Z")
}

// StartAgain starts a stopped or killed server on the same port.
func (s *Server) StartAgain(tb testing.TB) {
	tb.Helper()
	s.launch(tb)
}
