package pgtest

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// memoryDir is a file system in memory, on which making and removing a cluster's thousand small files costs nothing.
const memoryDir = "/dev/shm"

// enoughMemory is how many free bytes memoryDir must have to be used.
const enoughMemory = 6 << 30

// room makes the folder of a server: in memory when there is plenty of it and the server need not be durable or big,
// else in the temporary directory. It also removes what dead tests have left.
func room(tb testing.TB, onDisk bool) string {
	tb.Helper()
	top := os.TempDir()
	if !onDisk && plenty(memoryDir) {
		top = memoryDir
	}
	sweep(top)
	dir, err := openDir(top, fmt.Sprintf("%s%d-", roomPrefix, os.Getpid()))
	if err != nil {
		tb.Fatal(err)
	}
	alive, err := claim(dir)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = os.RemoveAll(dir)
		_ = alive.Close()
	})
	return dir
}

// claim holds a lock on a room for as long as its process lives: that can be told from any process namespace.
func claim(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, claimName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// claimed tells whether a living process holds a room.
func claimed(dir string) bool {
	f, err := os.Open(filepath.Join(dir, claimName))
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == syscall.EWOULDBLOCK
}

const claimName = "claim"

const roomPrefix = "pgkeep-server-"

func plenty(dir string) bool {
	var s syscall.Statfs_t
	if syscall.Statfs(dir, &s) != nil {
		return false
	}
	const tmpfs = 0x01021994
	return s.Type == tmpfs && s.Bavail*uint64(s.Bsize) >= enoughMemory
}

// sweep removes the folders of this user's processes that are no more: a killed test cannot clean up.
func sweep(top string) {
	left, err := filepath.Glob(filepath.Join(top, roomPrefix+"*"))
	if err != nil {
		return
	}
	for _, dir := range left {
		pid, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), roomPrefix), "-")
		n, err := strconv.Atoi(pid)
		if err != nil || syscall.Kill(n, 0) != syscall.ESRCH || claimed(dir) {
			continue
		}
		_ = os.RemoveAll(dir) // of another user: refused
	}
}
