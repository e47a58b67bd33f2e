package recovery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
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
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/state/repository/store/file"
)

// cut is a backup whose reading fails after some pieces.
type cut struct {
	Backup
	left int
}

var errCut = errors.New("cut")

func (c *cut) Pieces(ctx context.Context, o repository.PieceOptions, write func(repository.Piece) error) error {
	o.Workers = 1
	return c.Backup.Pieces(ctx, o, func(p repository.Piece) error {
		if c.left--; c.left < 0 {
			return errCut
		}
		return write(p)
	})
}

func TestARestoreThatWasCutIsCompleted(t *testing.T) {
	w := newWorld(t, 15, nil)
	w.commit(1)
	cutAndCompleted(w, w.take(), "1")
}

// TestARestoreOfWhatWasToldIsCompleted: files that came in part have no checksum of the whole, which a restore that goes on, and its
// proof, do without.
func TestARestoreOfWhatWasToldIsCompleted(t *testing.T) {
	w := newWorld(t, 17, map[string]string{"summarize_wal": "on"})
	w.commit(1)
	full := w.take()
	w.commit(2)
	next := w.takeOn(full)
	w.commit(3)
	cutAndCompleted(w, w.takeOn(next), "1 2 3")
}

func cutAndCompleted(w *world, backup, want string) {
	t := w.t
	t.Helper()
	target := hclspec.Target{Latest: true}
	route := w.route(target, w.target(target), backup)
	o := w.options(route)
	for _, left := range []int{0, 1, 2, 50, 100} {
		first := o
		first.Backup = &cut{Backup: o.Backup, left: left}
		if _, err := Restore(t.Context(), first); !errors.Is(err, errCut) {
			t.Fatalf("cut after %d pieces: %v", left, err)
		}
		if _, err := os.Stat(filepath.Join(route.Destination.Path, controlPath)); err == nil {
			t.Fatal("a half restore has a pg_control")
		}
		if done, err := Restored(o.Route); done || err != nil {
			t.Fatalf("a half restore is taken as complete: %v", err)
		}
	}
	other := o
	other.Route.Destination.Tablespaces = map[string]string{"fast": filepath.Join(t.TempDir(), "elsewhere")}
	if _, err := Restore(t.Context(), other); state.CodeOf(err) != state.CodeDestination {
		t.Fatalf("another restore goes on with it: %v", err)
	}
	damage(t, filepath.Join(route.Destination.Path, "PG_VERSION"))
	evidence, err := Restore(t.Context(), o)
	check(t, err)
	if !evidence.Resumed {
		t.Error("it began anew")
	}
	w.prove(o.Route)
	if done, err := Restored(o.Route); !done || err != nil {
		t.Errorf("it is not taken as complete: %v", err)
	}
	if _, err := Restore(t.Context(), o); state.CodeOf(err) != state.CodeDestination {
		t.Errorf("a complete restore is restored over: %v", err)
	}
	s := pgtest.StartDir(t, w.Version, route.Destination.Path, pgtest.Options{Version: w.Version})
	awaitPromotion(t, s)
	if got := rows(t, s); got != want {
		t.Errorf("the ledger has %q, not %q", got, want)
	}
	s.Stop(t, "fast")
	check(t, os.RemoveAll(route.Destination.Path))
	if done, err := Restored(o.Route); done || err != nil {
		t.Errorf("a restore that somebody removed is taken as complete: %v", err)
	}
}

// damage changes a byte of a file and nothing of its length.
func damage(t testing.TB, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	check(t, err)
	b[0] ^= 1
	check(t, os.WriteFile(path, b, 0o600))
}

// child is what the test's own program is told to restore.
type child struct {
	Route plan.Route
	Repo  string
}

// restoreChild restores in a process of its own, to be killed.
func restoreChild(path string) int {
	err := func() error {
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var c child
		if err := json.Unmarshal(b, &c); err != nil {
			return err
		}
		st, err := file.Open(c.Repo, file.Options{})
		if err != nil {
			return err
		}
		repo, err := repository.Open(context.Background(), st)
		if err != nil {
			return err
		}
		backup, err := repo.Cluster(c.Route.Server, c.Route.SystemID).OpenBackup(context.Background(), c.Route.Backup)
		if err != nil {
			return err
		}
		_, err = Restore(context.Background(), Options{
			Route: c.Route, Backup: backup, Places: []Place{{Label: "main", Path: c.Repo}}, Program: os.Args[0], Now: time.Now,
		})
		return err
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 1
	}
	_, _ = os.Stdout.Write(status)
	return 0
}

// TestMemoryIsBounded restores a table of some size and looks at the most memory that the process ever had.
func TestMemoryIsBounded(t *testing.T) {
	megabytes := 128
	if n, err := strconv.Atoi(os.Getenv("PGKEEP_BIG_MB")); err == nil {
		megabytes = n
	}
	w := newWorld(t, 15, map[string]string{"wal_level": "replica", "max_wal_size": "8GB"})
	w.Exec(t, fmt.Sprintf("create table big as select i, md5(i::text) || md5((i + 1)::text) t from generate_series(1, %d) i", megabytes*10_000))
	backup := w.take()
	target := hclspec.Target{Immediate: true}
	o := w.options(w.route(target, w.target(target), backup))
	b, err := json.Marshal(child{Route: o.Route, Repo: w.dir})
	check(t, err)
	order := filepath.Join(t.TempDir(), "order.json")
	check(t, os.WriteFile(order, b, 0o600))
	began := time.Now()
	out, err := exec.Command(w.program, "restore-child", order).Output()
	check(t, err)
	for _, line := range strings.Split(string(out), "\n") {
		if kilobytes, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(kilobytes), " kB"))
			check(t, err)
			t.Logf("%d MiB of data restored in %.1f s, at most %d MiB of memory", o.Backup.Info().DataBytes>>20, time.Since(began).Seconds(), n>>10)
			if n>>10 > 192 {
				t.Errorf("%d MiB of memory", n>>10)
			}
			return
		}
	}
	t.Error("no VmHWM")
}

// TestKill9 kills restores at random moments until one is through.
func TestKill9(t *testing.T) {
	rounds := 2
	if n, err := strconv.Atoi(os.Getenv("PGKEEP_ROUNDS")); err == nil {
		rounds = n
	}
	w := newWorld(t, 15, nil)
	w.commit(1)
	backup := w.take()
	target := hclspec.Target{Latest: true}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	kills := 0
	for range rounds {
		o := w.options(w.route(target, w.target(target), backup))
		b, err := json.Marshal(child{Route: o.Route, Repo: w.dir})
		check(t, err)
		order := filepath.Join(t.TempDir(), "order.json")
		check(t, os.WriteFile(order, b, 0o600))
		for life := 50 * time.Millisecond; ; life = life * 3 / 2 {
			through, err := killedAfter(w.program, order, time.Duration(random.Int64N(int64(life))))
			done, errDone := Restored(o.Route) // it may have been killed when all was done
			check(t, errDone)
			if done {
				break
			}
			check(t, err)
			if through {
				break
			}
			kills++
		}
		w.prove(o.Route)
		w.soundCopy(o.Route)
		check(t, os.RemoveAll(filepath.Dir(o.Route.Destination.Path)))
	}
	t.Logf("%d rounds, %d kills", rounds, kills)
}

// killedAfter tells whether the child was through before it was killed.
func killedAfter(program, order string, life time.Duration) (bool, error) {
	cmd := exec.Command(program, "restore-child", order)
	var errs strings.Builder
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		return false, err
	}
	timer := time.AfterFunc(life, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	err := cmd.Wait()
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		if status, ok := failed.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			return false, nil
		}
		return false, errors.New(errs.String())
	}
	return err == nil, err
}

// forged is a backup that says what no honest one does.
type forged struct {
	Backup
	add repository.File
}

func (f forged) Files(ctx context.Context) iter.Seq2[repository.File, error] {
	return func(yield func(repository.File, error) bool) {
		for x, err := range f.Backup.Files(ctx) {
			if !yield(x, err) {
				return
			}
		}
		yield(f.add, nil)
	}
}

func TestForgedNamesAreRefused(t *testing.T) {
	w := newWorld(t, 15, nil)
	backup := w.take()
	target := hclspec.Target{Latest: true}
	route := w.route(target, w.target(target), backup)
	outside := filepath.Join(t.TempDir(), "outside")
	precious(t, outside)
	for name, f := range map[string]repository.File{
		"up":                 {Path: "../escaped", Type: repository.RegularFile},
		"absolute":           {Path: outside + "/escaped", Type: repository.RegularFile},
		"newline":            {Path: "a\nb", Type: repository.RegularFile},
		"link in tablespace": {Folder: 4711, Path: "x", Type: repository.SymbolicLink, Link: outside},
		"through a link":     {Path: "pg_tblspc/OID/escaped", Type: repository.RegularFile},
		"unknown folder":     {Folder: 4712, Path: "x", Type: repository.RegularFile},
	} {
		t.Run(name, func(t *testing.T) {
			r := route
			r.Destination.Path = filepath.Join(t.TempDir(), "data")
			o := w.options(r)
			if name == "through a link" {
				check(t, os.MkdirAll(filepath.Join(r.Destination.Path), 0o700))
				f.Path = "x/escaped"
				o.Backup = forged{forged{o.Backup, repository.File{Path: "x", Type: repository.SymbolicLink, Link: outside}}, f}
			} else {
				o.Backup = forged{o.Backup, f}
			}
			before := listing(t, outside)
			_, err := Restore(t.Context(), o)
			if err == nil {
				t.Error("it was restored")
			}
			if listing(t, outside) != before {
				t.Error("something was written outside")
			}
		})
	}
}
