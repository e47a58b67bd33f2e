package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgkeep/pgkeep/state"
)

// TestMain lets this program play the detached process: it takes a lock, writes what it read, and waits for SIGTERM.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "hold" {
		hold(os.Args[2])
		return
	}
	os.Exit(m.Run())
}

func hold(path string) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil || unix.Flock(int(f.Fd()), unix.LOCK_EX) != nil {
		fmt.Println("no lock", err)
		return
	}
	input := make([]byte, 100)
	n, _ := os.Stdin.Read(input)
	sid, _ := unix.Getsid(0)
	asked := make(chan os.Signal, 1)
	if len(os.Args) > 3 {
		signal.Notify(asked, unix.SIGTERM)
	}
	fmt.Printf("input %q leader %v env %v\n", input[:n], sid == os.Getpid(), os.Environ())
	select {
	case <-asked: // it gives its lock back, and has not ended
		f.Close()
		time.Sleep(300 * time.Millisecond)
	case <-time.After(time.Minute):
	}
}

func TestIsHere(t *testing.T) {
	for _, c := range []struct {
		configured, here string
		want             bool
	}{
		{"", "backup1", true},
		{"backup1", "backup1", true},
		{"Backup1", "backup1", true},
		{"backup1", "backup1.example.com", true},
		{"backup1.example.com", "backup1", true},
		{"backup1.example.com", "backup1.example.org", false},
		{"backup1", "backup2", false},
		{"backup1", "", false},
	} {
		if got := IsHere(c.configured, c.here); got != c.want {
			t.Errorf("IsHere(%q, %q) = %v", c.configured, c.here, got)
		}
	}
}

func TestSpaceOfAPathThatDoesNotExistYet(t *testing.T) {
	s, err := SpaceAt(filepath.Join(t.TempDir(), "a", "b", "c"))
	if err != nil || s.Total <= 0 || s.Free > s.Total || s.FileSystem == "" {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := SpaceAt("/proc/self/mem/x"); err == nil {
		t.Error("a path below a file has space")
	}
}

func TestLookAt(t *testing.T) {
	dir := t.TempDir()
	if d, err := LookAt(filepath.Join(dir, "absent")); err != nil || d.Exists {
		t.Errorf("absent: %+v, %v", d, err)
	}
	if err := os.Mkdir(filepath.Join(dir, "lost+found"), 0o700); err != nil {
		t.Fatal(err)
	}
	if d, err := LookAt(dir); err != nil || !d.IsDir || !d.Empty {
		t.Errorf("lost+found alone: %+v, %v", d, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if d, err := LookAt(dir); err != nil || d.Empty {
		t.Errorf("a file: %+v, %v", d, err)
	}
}

func TestPostmasterIsTheProcessThatWorksThere(t *testing.T) {
	dir := t.TempDir()
	sleep := exec.Command("sleep", "3600")
	sleep.Dir = dir
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sleep.Process.Kill(); _ = sleep.Wait() }()
	for name, c := range map[string]struct {
		content string
		want    int
	}{
		"living here":      {fmt.Sprintf("%d\n%s\n", sleep.Process.Pid, dir), sleep.Process.Pid},
		"single user":      {fmt.Sprintf("-%d\n", sleep.Process.Pid), sleep.Process.Pid},
		"living elsewhere": {fmt.Sprintf("%d\n", os.Getpid()), 0},
		"dead":             {"4194303\n", 0},
		"torn":             {"", 0},
	} {
		if err := os.WriteFile(filepath.Join(dir, "postmaster.pid"), []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		if pid, err := Postmaster(dir); err != nil || pid != c.want {
			t.Errorf("%s: process %d, %v", name, pid, err)
		}
	}
}

func TestLockNamesItsHolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock", "x.lock")
	since := time.Date(2026, 2, 10, 21, 0, 0, 0, time.UTC)
	unlock, err := Lock(path, Holder{PID: 42, Who: "alice@backup1", What: "repository main", Since: since})
	if err != nil {
		t.Fatal(err)
	}
	_, err = Lock(path, Holder{PID: 43, Who: "bob@backup1", What: "repository main"})
	want := "repository main is locked by alice@backup1 (process 42) since 2026-02-10T21:00:00Z, lock " + path
	if state.CodeOf(err) != state.CodeLocked || err.Error() != want {
		t.Errorf("%v\nwant %s", err, want)
	}
	if held, err := IsLocked(path); err != nil || !held {
		t.Errorf("held %v, %v", held, err)
	}
	unlock()
	if held, err := IsLocked(path); err != nil || held {
		t.Errorf("after unlock: held %v, %v", held, err)
	}
	again, err := Lock(path, Holder{PID: 43})
	if err != nil {
		t.Fatal(err)
	}
	again()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func startHolder(t *testing.T, dir string, more ...string) (pid int, lock, log string) {
	t.Helper()
	lock, log = filepath.Join(dir, "held.lock"), filepath.Join(dir, "logs", "receiver.log")
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	pid, err = StartDetached(Detached{
		Program: program, Args: append([]string{"hold", lock}, more...), Env: []string{"LANG=C"}, Input: []byte("secret"), Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
	for {
		content, _ := os.ReadFile(log)
		if strings.HasSuffix(string(content), "\n") {
			return pid, lock, log
		}
		time.Sleep(time.Millisecond)
		if t.Context().Err() != nil {
			t.Fatal("it never began")
		}
	}
}

func TestDetachedProcessIsAloneAndKeepsSecretsToItself(t *testing.T) {
	pid, _, log := startHolder(t, t.TempDir())
	content, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(content), "input \"secret\" leader true env [LANG=C]\n"; got != want {
		t.Errorf("it says %q, want %q", got, want)
	}
	for _, file := range []string{"cmdline", "environ"} {
		listed, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
		if err != nil || strings.Contains(string(listed), "secret") {
			t.Errorf("%s: %q, %v", file, listed, err)
		}
	}
	if info, err := os.Stat(log); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("log has mode %v, %v", info.Mode().Perm(), err)
	}
}

func TestStopSignalsOnlyTheHolder(t *testing.T) {
	pid, lock, _ := startHolder(t, t.TempDir())
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	bystander := exec.Command("sleep", "3600")
	if err := bystander.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = bystander.Process.Kill(); _ = bystander.Wait() }()
	if err := Stop(ctx, bystander.Process.Pid, lock); state.CodeOf(err) != state.CodeLocked {
		t.Errorf("a process that does not hold the lock: %v", err)
	}
	if err := bystander.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the bystander was hurt: %v", err)
	}
	short, stop := context.WithTimeout(ctx, time.Nanosecond)
	defer stop()
	<-short.Done()
	if err := awaitFree(short, lock); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting for a holder that stays: %v", err)
	}
	if err := Stop(ctx, pid, lock); err != nil {
		t.Errorf("stop: %v", err)
	}
	if held, err := IsLocked(lock); err != nil || held {
		t.Errorf("held %v, %v", held, err)
	}
	if err := Stop(ctx, pid, lock); err != nil {
		t.Errorf("stop again: %v", err)
	}
}

// TestStopWaitsForTheProcess has one give its lock back long before it ends.
func TestStopWaitsForTheProcess(t *testing.T) {
	pid, lock, _ := startHolder(t, t.TempDir(), "linger")
	process, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(process)
	if err := Stop(t.Context(), pid, lock); err != nil {
		t.Fatal(err)
	}
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(process), Events: unix.POLLIN}}, 0); n != 1 || err != nil {
		t.Errorf("it was said to have ended, and lives: %v", err)
	}
}

func TestVersionMajor(t *testing.T) {
	for banner, want := range map[string]int{
		"postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n": 15, "postgres (PostgreSQL) 18beta1\n": 18, "bash 5": 0, "": 0,
	} {
		if got := versionMajor(banner); got != want {
			t.Errorf("%q: %d", banner, got)
		}
	}
}

func TestOwnerOfNobodyAndOfUs(t *testing.T) {
	if _, err := LookupOwner("no-such-user-here"); err == nil {
		t.Error("an absent user was found")
	}
	us, err := LookupOwner("")
	if err != nil || us.UID != os.Geteuid() || !CanGiveTo(us) {
		t.Errorf("%+v, %v", us, err)
	}
}
