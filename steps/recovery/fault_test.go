package recovery

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state/host/hosttest"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
)

// TestRestoreUnderFaults is fault D1: a restore is killed, finds the disk full or gets errors from it, at a random moment,
// and is run again until it is through. What is there then is what PostgreSQL's manifest says, and until then nothing starts
// from it. PGKEEP_ROUNDS is how many faults (10; 200 before a release), PGKEEP_SEED repeats a run.
func TestRestoreUnderFaults(t *testing.T) {
	faults := 10
	if n, err := strconv.Atoi(os.Getenv("PGKEEP_ROUNDS")); err == nil {
		faults = n
	}
	seed := uint64(time.Now().UnixNano())
	if n, err := strconv.ParseUint(os.Getenv("PGKEEP_SEED"), 10, 64); err == nil {
		seed = n
	}
	t.Logf("seed %d", seed)
	f := &faulted{t: t, world: newWorld(t, 15, nil), random: rand.New(rand.NewPCG(seed, 0)), met: map[string]int{}}
	f.commit(1)
	f.backup = f.take()
	kinds := f.kinds()
	for turn := 0; f.total < faults; {
		f.begin()
		for through := false; !through && f.total < faults; turn++ {
			through = f.suffer(kinds[turn%len(kinds)])
			f.half(through)
		}
		f.end()
	}
	t.Logf("met %v", f.met)
}

// restoreFault is one way in which a restore is disturbed: how the program is run, and what must be done before and after.
type restoreFault struct {
	name   string
	wrap   func() []string
	before func() (undo func())
	life   func() time.Duration // until it is killed; nil: it is not
}

// faulted is a server's backup that is restored again and again.
type faulted struct {
	*world
	t      *testing.T
	random *rand.Rand
	backup string
	order  string // what the restoring process is told
	dir    string // data directory
	route  Options
	disk   string // mount point of a small file system; empty: not mounted
	total  int
	met    map[string]int
}

// calls are those by which a restore writes; not write, by which the runtime wakes itself up.
var calls = []string{"pwrite64", "fsync", "openat", "ftruncate", "mkdirat", "fchown", "fchmod", "renameat", "symlinkat"}

func (f *faulted) kinds() []restoreFault {
	out := []restoreFault{{name: "kill", life: func() time.Duration { return time.Duration(f.random.Int64N(int64(900 * time.Millisecond))) }}}
	if hosttest.Can(f.t, hosttest.Root()) {
		out = append(out, restoreFault{name: "disk full", before: f.fill})
	}
	if hosttest.Can(f.t, hosttest.Program("strace")) {
		for _, errno := range []string{"EIO", "ENOSPC"} {
			out = append(out, restoreFault{name: errno, wrap: func() []string {
				call := calls[f.random.IntN(len(calls))]
				at := 1 + f.random.IntN(400) // strace counts the calls of each thread by itself
				return []string{"strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=" + call, "-e", fmt.Sprintf("inject=%s:error=%s:when=%d", call, errno, at)}
			}})
		}
	}
	return out
}

// begin chooses a new destination, on a file system of its own where this process may mount one.
func (f *faulted) begin() {
	t := f.t
	t.Helper()
	target := hclspec.Target{Latest: true}
	route := f.world.route(target, f.target(target), f.backup)
	home := filepath.Dir(route.Destination.Path)
	check(t, os.MkdirAll(home, 0o755)) // #nosec: of a test
	if os.Geteuid() == 0 {
		check(t, syscall.Mount("tmpfs", home, "tmpfs", 0, "size=256m,mode=0755"))
		f.disk = home
		t.Cleanup(f.unmount)
	}
	f.route = f.options(route)
	f.dir = route.Destination.Path
	b, err := json.Marshal(child{Route: f.route.Route, Repo: f.world.dir})
	check(t, err)
	f.order = filepath.Join(t.TempDir(), "order.json")
	check(t, os.WriteFile(f.order, b, 0o600))
}

func (f *faulted) unmount() {
	if f.disk != "" {
		_ = syscall.Unmount(f.disk, syscall.MNT_DETACH)
		f.disk = ""
	}
}

// fill leaves a random part of what the restore needs.
func (f *faulted) fill() (undo func()) {
	var st syscall.Statfs_t
	check(f.t, syscall.Statfs(f.disk, &st))
	free := int64(st.Bavail) * int64(st.Bsize)
	ballast := filepath.Join(f.disk, "ballast")
	file, err := os.Create(ballast)
	check(f.t, err)
	leave := f.random.Int64N(f.route.Backup.Info().DataBytes)
	err = syscall.Fallocate(int(file.Fd()), 0, 0, max(free-leave, 1))
	check(f.t, errors.Join(err, file.Close()))
	return func() { check(f.t, os.Remove(ballast)) }
}

// suffer runs the restore once with a fault; it tells whether the restore came through all the same.
func (f *faulted) suffer(k restoreFault) bool {
	t := f.t
	t.Helper()
	args := []string{f.program, "restore-child", f.order}
	if k.wrap != nil {
		args = append(k.wrap(), args...)
	}
	if k.before != nil {
		defer k.before()()
	}
	cmd := exec.Command(args[0], args[1:]...)
	var said strings.Builder
	cmd.Stderr = &said
	check(t, cmd.Start())
	if k.life != nil {
		timer := time.AfterFunc(k.life(), func() { _ = cmd.Process.Kill() })
		defer timer.Stop()
	}
	err := cmd.Wait()
	if err == nil {
		return true
	}
	f.total++
	f.met[k.name]++
	var exited *exec.ExitError
	killed := errors.As(err, &exited) && !exited.Exited()
	if !killed && (k.life != nil || said.Len() == 0 || strings.Contains(said.String(), "goroutine ")) {
		t.Errorf("%s: %v: %s", strings.Join(args, " "), err, said.String())
	}
	done, err := Restored(f.route.Route) // killed, or failed, when all was done
	check(t, err)
	return done
}

// half makes sure that nothing starts from a restore that was cut short.
func (f *faulted) half(through bool) {
	f.t.Helper()
	done, err := Restored(f.route.Route)
	check(f.t, err)
	if done != through {
		f.t.Errorf("it counts as complete: %t, and was through: %t", done, through)
	}
}

// end completes the restore, undisturbed, and proves what is there.
func (f *faulted) end() {
	t := f.t
	t.Helper()
	if done, err := Restored(f.route.Route); err != nil || !done {
		out, err := exec.Command(f.program, "restore-child", f.order).CombinedOutput()
		if err != nil {
			t.Fatalf("the restore does not go on: %v\n%s", err, out)
		}
	}
	f.prove(f.route.Route)
	if f.met["started"] == 0 { // once: what the files say, they say every time
		f.met["started"]++
		s := pgtest.StartDir(t, 15, f.dir, pgtest.Options{Version: 15})
		awaitPromotion(t, s)
		if got := rows(t, s); got != "1" {
			t.Errorf("the ledger has %q", got)
		}
		s.Stop(t, "immediate")
	}
	if f.disk != "" {
		f.unmount()
		return
	}
	check(t, os.RemoveAll(filepath.Dir(f.dir)))
}
