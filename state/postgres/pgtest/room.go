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
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

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
		if err != nil || syscall.Kill(n, 0) != syscall.ESRCH {
			continue
		}
		_ = os.RemoveAll(dir) // of another user: refused
	}
}
