package torture

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
)

// build makes the program once for all tests of the package and gives its path.
var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "pgkeep-bin-")
	if err != nil {
		return "", err
	}
	if err := os.Chmod(dir, 0o755); err != nil { // the server's user runs `pgkeep wal-get`
		return "", err
	}
	bin := filepath.Join(dir, "pgkeep")
	out, err := exec.Command("go", "build", "-o", bin, "github.com/pgkeep/pgkeep/cmd/pgkeep").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build pgkeep: %w\n%s", err, out)
	}
	return bin, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if os.Getenv("PGKEEP_TEST_RECEIVER") != "" { // one of our own processes, perhaps with faults in its system calls: it builds nothing
		os.Exit(code)
	}
	if bin, err := build(); err == nil {
		if left := programPIDs(bin, ""); len(left) > 0 {
			fmt.Fprintf(os.Stderr, "FAIL: processes of %s outlived the tests: %v\n", bin, left)
			killPIDs(left)
			code = max(code, 1)
		}
		_ = os.RemoveAll(filepath.Dir(bin))
	}
	os.Exit(code)
}

// programPIDs finds the processes that run the program with an argument, by what the kernel says of them: a receiver that has
// lost its lock, or was never told of, is found too.
func programPIDs(bin, argument string) []int {
	links, _ := filepath.Glob("/proc/[0-9]*/exe")
	var pids []int
	for _, link := range links {
		exe, err := os.Readlink(link)
		if err != nil || strings.TrimSuffix(exe, " (deleted)") != bin {
			continue
		}
		line, err := os.ReadFile(filepath.Join(filepath.Dir(link), "cmdline"))
		if err != nil || argument != "" && !slices.Contains(strings.Split(string(line), "\x00"), argument) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(link))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

func killPIDs(pids []int) {
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// site is a machine with pgkeep on it: a folder with the configuration, a repository, a spool and room to restore.
type site struct {
	dir string
	bin string
}

func newSite(t *testing.T, hcl string) *site {
	t.Helper()
	bin, err := build()
	if err != nil {
		t.Fatal(err)
	}
	s := &site{dir: pgtest.TempDir(t), bin: bin}
	s.configure(t, hcl)
	t.Cleanup(func() {
		s.leaveNothing(t)
		if log, err := os.ReadFile(filepath.Join(s.dir, "spool", "orders", "receiver.log")); t.Failed() && err == nil {
			t.Logf("the receiver said:\n%s", log)
		}
	})
	return s
}

// patience bounds what only a test that fails waits for.
const patience = 4 * time.Minute

// stopLimit is how long a receiver that was told to stop may take; it gives the repositories five seconds, and a slow
// machine may take many more.
const stopLimit = 3 * time.Minute

// leaveNothing stops the site's receivers and fails the test unless every process of the site has ended by itself.
func (s *site) leaveNothing(t *testing.T) {
	t.Helper()
	out, code := s.try("receiver", "stop", "orders")
	for _, pid := range programPIDs(s.bin, s.dir) { // also those that the configuration does not name any more
		_ = syscall.Kill(pid, syscall.SIGTERM)
	}
	left := programPIDs(s.bin, s.dir)
	for limit := time.Now().Add(stopLimit); len(left) > 0 && time.Now().Before(limit); left = programPIDs(s.bin, s.dir) {
		time.Sleep(20 * time.Millisecond)
	}
	if len(left) > 0 {
		t.Errorf("processes %v of %s did not end within %s of `receiver stop` (exit code %d):\n%s", left, s.dir, stopLimit, code, out)
		killPIDs(left)
	}
}

// configure writes the configuration; @DIR@ stands for the site's folder.
func (s *site) configure(t *testing.T, hcl string) {
	t.Helper()
	text := strings.ReplaceAll(hcl, "@DIR@", s.dir)
	if err := os.WriteFile(filepath.Join(s.dir, "pgkeep.hcl"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// run runs the program and gives what it printed; anything but exit code 0 fails the test.
func (s *site) run(t *testing.T, args ...string) string {
	t.Helper()
	out, code := s.try(args...)
	if code != 0 {
		t.Fatalf("pgkeep %s: exit code %d\n%s", strings.Join(args, " "), code, out)
	}
	return out
}

// try runs the program and gives what it printed, both streams, and its exit code.
func (s *site) try(args ...string) (string, int) {
	var out bytes.Buffer
	cmd := exec.Command(s.bin, append([]string{"--dir", s.dir}, args...)...)
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if err != nil && cmd.ProcessState == nil {
		return err.Error(), -1
	}
	return out.String(), cmd.ProcessState.ExitCode()
}
