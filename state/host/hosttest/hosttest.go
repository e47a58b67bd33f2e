// Package hosttest is what tests ask of the machine they run on: programs, the rights of root, file systems of their own.
//
// Where something is missing, a test is skipped on a desk and fails in continuous integration (CI=true), where nobody
// would see that it was skipped. state/postgres/pgtest/install.sh installs the programs.
package hosttest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// Need lets a test go on when missing is nil; else the test ends here, skipped or, in continuous integration, failed.
func Need(tb testing.TB, missing error) {
	tb.Helper()
	if !Can(tb, missing) {
		tb.Skip(missing)
	}
}

// Can is Need for a part of a test: it tells whether the part can run. In continuous integration what cannot fails the
// test.
func Can(tb testing.TB, missing error) bool {
	tb.Helper()
	if missing == nil {
		return true
	}
	if os.Getenv("CI") == "true" {
		tb.Fatalf("%v: in continuous integration every test must run", missing)
	}
	tb.Logf("not tested here: %v", missing)
	return false
}

// Root says what is missing for a test that only root can run: nil for root.
func Root() error {
	if os.Geteuid() != 0 {
		return errors.New("the tests are not run by root")
	}
	return nil
}

// Program says what is missing for a test that calls a program of this name, which is its Debian package's too.
func Program(name string) error {
	if _, err := exec.LookPath(name); err != nil {
		return fmt.Errorf("%s is not installed. Run, as root:  apt-get install -y %s", name, name)
	}
	return nil
}

// FUSE says what is missing for a test that mounts a FUSE file system of its own.
func FUSE() error {
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("no FUSE here: %w", err)
	}
	_ = f.Close()
	if Root() == nil {
		return nil // who mounts by mount(2)
	}
	for _, helper := range []string{"fusermount3", "fusermount"} {
		if _, err := exec.LookPath(helper); err == nil {
			return nil
		}
	}
	return errors.New("no fusermount here, without which only root mounts a FUSE file system")
}

// Tmpfs mounts an empty tmpfs of this many KiB, until the test ends, and gives its directory, which has mode 0700. It is
// Need of what that takes.
func Tmpfs(tb testing.TB, kib int) string {
	tb.Helper()
	dir := tb.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dk,mode=0700", kib)); err != nil {
		Need(tb, fmt.Errorf("a tmpfs cannot be mounted here: %w", err))
	}
	tb.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// Grow gives a mounted tmpfs this many KiB.
func Grow(tb testing.TB, dir string, kib int) {
	tb.Helper()
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, fmt.Sprintf("size=%dk", kib)); err != nil {
		tb.Fatal(err)
	}
}
