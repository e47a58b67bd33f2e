package torture_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state/host/hosttest"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
)

// inject lets the next receivers run with faults in their system calls ("fsync:error=EIO:when=3"). strace counts the
// calls of each thread by itself. The receiver is the child of this process, and strace its grandchild.
func (x *site) inject(faults ...string) (trace string) {
	x.t.Helper()
	trace = filepath.Join(x.t.TempDir(), "trace")
	var calls []string
	x.wrap = []string{"strace", "-D", "-f", "-qq", "-o", trace}
	for _, f := range faults {
		call, _, _ := strings.Cut(f, ":")
		calls = append(calls, call)
		x.wrap = append(x.wrap, "-e", "inject="+f)
	}
	x.wrap = append(x.wrap, "-e", "trace=close,"+strings.Join(calls, ","))
	return trace
}

func injected(t *testing.T, trace string) int {
	t.Helper()
	b, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(b), "(INJECTED)")
}

const faultStep = 7

// spoolCalls are the system calls by which WAL becomes durable in the spool and in a repository, and after how many of
// them the fault comes again. Their remainders go through all numbers, so that each call fails once.
func spoolCalls(remainder int) map[string]string {
	calls := map[string]string{}
	for _, call := range []string{"pwrite64", "fdatasync", "fsync", "renameat", "linkat", "ftruncate", "unlinkat"} {
		calls[call] = fmt.Sprintf("when=%d+%d", remainder+1, faultStep)
	}
	calls["openat"] = fmt.Sprintf("when=%d+701", 150+100*remainder) // thousands of them: every name below a root is one
	return calls
}

// Fault A4: every n-th write, fsync, rename, link, open and cut fails. The receiver never acknowledges what is not durable,
// does not fsync a file again whose fsync failed, and goes on by itself. PGKEEP_ROUNDS=7 goes through all n (by default
// every seventh, which takes long enough); PGKEEP_ERRNOS="EIO ENOSPC EDQUOT EROFS EMFILE" names the errors (default:
// the first two).
func TestEverySyscallFails(t *testing.T) {
	hosttest.Need(t, hosttest.Program("strace"))
	t.Parallel()
	errnos := os.Getenv("PGKEEP_ERRNOS")
	if errnos == "" {
		errnos = "EIO ENOSPC"
	}
	for _, errno := range strings.Fields(errnos) {
		t.Run(errno, func(t *testing.T) { t.Parallel(); everySyscallFails(t, errno) })
	}
}

func everySyscallFails(t *testing.T, errno string) {
	x := newSite(t, pgtest.Options{SegmentMB: 1})
	x.server.Exec(t, "create table filler (h text)")
	faults := 0
	for remainder := range min(rounds(t, 1), faultStep) {
		trace := x.injectEach(errno, remainder)
		cmd, again := x.start(), 0
		for range 2 {
			x.write(4000)
			at := x.flushed()
			await(t, "it goes on", func() bool {
				if ended(cmd) { // a supervisor starts it again; what kept it from starting has gone by then
					again++
					faults += injected(t, trace)
					trace = x.injectEach(errno, remainder+again*faultStep)
					cmd = x.start()
				}
				return x.refuseLoss(errno) >= at
			})
		}
		kill(cmd)
		before := faults
		if faults += injected(t, trace); faults == 0 {
			t.Errorf("no call failed with remainder %d", remainder)
		}
		refuseSecondSync(t, trace)
		t.Logf("%s: %d faults, the receiver was started again %d times", errno, faults-before, again)
	}
	x.wrap = nil
	stop := x.run()
	x.awaitArchived(x.flushed())
	stop()
	x.compare()
	t.Logf("%s: %d calls failed, 0 acknowledged positions lost", errno, faults)
}

func (x *site) injectEach(errno string, remainder int) (trace string) {
	var faults []string
	for call, when := range spoolCalls(remainder) {
		faults = append(faults, call+":error="+errno+":"+when)
	}
	return x.inject(faults...)
}

// ended tells whether a receiver process has ended by itself, and collects it.
func ended(cmd *exec.Cmd) bool {
	var status syscall.WaitStatus
	pid, err := syscall.Wait4(cmd.Process.Pid, &status, syscall.WNOHANG, nil)
	if err != nil || pid == 0 {
		return false
	}
	_ = cmd.Process.Release()
	return true
}

// refuseSecondSync fails the test when a file whose fsync failed was fsynced again before it was closed: the kernel may
// have dropped what it could not write and say that all is well.
func refuseSecondSync(t *testing.T, trace string) {
	t.Helper()
	b, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	call := regexp.MustCompile(`\b(fsync|fdatasync|close)\((\d+)`)
	failed := map[string]bool{} // by descriptor
	for _, line := range strings.Split(string(b), "\n") {
		m := call.FindStringSubmatch(line)
		switch {
		case m == nil:
		case m[1] == "close":
			delete(failed, m[2])
		case failed[m[2]]:
			t.Errorf("a file was fsynced again after its fsync had failed: %s", line)
		case strings.Contains(line, "(INJECTED)"):
			failed[m[2]] = true
		}
	}
}

// Fault A2: the receiver is killed at each of its points: cut and pad, write, fsync, rename, fsync of the directory,
// upload, acknowledgement, index, forgetting. Once each by default, at the n-th call of a random n; PGKEEP_ROUNDS=0 kills at
// each n from 1 until none fires, three times.
func TestKilledAtEveryPoint(t *testing.T) {
	hosttest.Need(t, hosttest.Program("strace"))
	t.Parallel()
	random := dice(t)
	n := rounds(t, 1)
	x := newSite(t, pgtest.Options{SegmentMB: 1, Settings: map[string]string{"wal_level": "logical"}})
	x.server.Exec(t, "create table filler (h text)")
	kills := map[string]int{}
	points := []string{"ftruncate", "pwrite64", "fdatasync", "renameat", "fsync", "linkat", "write", "unlinkat"}
	for _, point := range points {
		for round := 0; n > 0 && round < n; round++ {
			for at := 1 + random.IntN(8); ; at = max(1, at/2) {
				if x.liveUntil(point, at) {
					kills[point]++
					break
				}
				if at == 1 {
					t.Fatalf("a receiver lived, and never came to %s", point)
				}
			}
		}
		for at := 1; n == 0; at++ {
			before := kills[point]
			for range 3 {
				if x.liveUntil(point, at) {
					kills[point]++
				}
			}
			if kills[point] == before {
				break
			}
		}
	}
	x.wrap = nil
	x.server.Exec(t, "select pg_switch_wal()")
	stop := x.run()
	x.awaitArchived(x.flushed())
	stop()
	x.compare()
	total := 0
	for _, point := range points {
		total += kills[point]
	}
	t.Logf("%d kills: %v", total, kills)
}

// liveUntil lets a receiver live that is killed at its n-th call of a kind, with two segments to receive and archive; it
// tells whether it was.
func (x *site) liveUntil(call string, n int) bool {
	x.t.Helper()
	x.inject(call + ":signal=KILL:when=" + strconv.Itoa(n))
	x.server.Exec(x.t, "insert into filler select md5(g::text) from generate_series(1, 3000) g; select pg_switch_wal()")
	x.server.Exec(x.t, "select pg_logical_emit_message(true, 'x', repeat('y', 2500000))") // a record of several segments
	x.write(3000)
	end := x.flushed()
	cmd := x.start()
	defer kill(cmd)
	for limit := time.Now().Add(patience); time.Now().Before(limit); time.Sleep(5 * time.Millisecond) {
		x.refuseLoss(fmt.Sprintf("killed at %s %d", call, n))
		if ended(cmd) {
			return true
		}
		if r := x.look().Receiver; r.Running && r.Archived >= end {
			if cmd.Process.Signal(syscall.SIGTERM) != nil { // its last words have points too
				return ended(cmd)
			}
			state, err := cmd.Process.Wait()
			cmd.ProcessState = state
			return err == nil && state.Sys().(syscall.WaitStatus).Signaled()
		}
	}
	x.t.Fatalf("with a kill at %s %d it neither ended nor came to %s", call, n, end)
	return false
}
