package recovery

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/gofrs/flock"
)

// While PostgreSQL replays one segment, a process of its own fetches the next ones into the state directory, where the shell line of
// restore_command finds them, and wal-get when they are on their way. It is started by wal-get, ends when PostgreSQL does or asks
// for nothing any more, and takes with it what nobody came for. Everything that it does wal-get can do without it.
const (
	aheadDir      = "ahead"
	aheadBytes    = 128 << 20 // what lies there at most, or two segments,
	aheadMost     = 8         // or so many segments
	aheadSpare    = 512 << 20 // of free space that PostgreSQL keeps for itself
	aheadFetches  = 2         // at once
	aheadIdle     = 30 * time.Second
	aheadLook     = 10 * time.Millisecond
	aheadPatience = 10 * time.Second // how long wal-get waits for a segment that is on its way
)

// ahead is the directory for one route. What has a segment's name there is whole, was compared with its SHA-256 and is fsynced, so it may be
// handed out whoever put it there, and when: a torn segment would end PostgreSQL's recovery early.
type ahead struct {
	dir  string
	data string // the data directory that is recovered
}

// aheadOf gives the directory of a route; ok is false where nothing can be fetched ahead.
func aheadOf(route string) (a ahead, ok bool) {
	content, err := os.ReadFile(route)
	data, beside := strings.CutSuffix(filepath.Dir(route), stateSuffix)
	if err != nil || !beside || !filepath.IsAbs(route) {
		return ahead{}, false
	}
	return ahead{dir: aheadPath(route, content), data: data}, true
}

// aheadPath names the directory after what the route file says: what was fetched for another route is never met.
func aheadPath(route string, content []byte) string {
	return filepath.Join(filepath.Dir(route), aheadDir, fmt.Sprintf("%x", sha256.Sum256(content))[:16])
}

// recovers tells whether PostgreSQL runs in the data directory and has not ended its recovery.
func (a ahead) recovers() bool {
	exists := func(name string) bool {
		_, err := os.Lstat(filepath.Join(a.data, name))
		return err == nil
	}
	return exists("postmaster.pid") && (exists("recovery.signal") || exists("standby.signal"))
}

func (a ahead) path(name string) string { return filepath.Join(a.dir, name) }

// workLock is held by whoever fetches ahead.
const workLock = "lock"

func (a ahead) lock() *flock.Flock {
	return flock.New(a.path(workLock), flock.SetPermissions(0o600))
}

// held tells whether somebody fetches ahead now.
func (a ahead) held() bool {
	if _, err := os.Lstat(a.path(workLock)); err != nil {
		return false
	}
	l := a.lock()
	free, err := l.TryLock()
	return err == nil && !free || l.Unlock() != nil
}

// serve moves a segment that was fetched ahead to where PostgreSQL wants it, and waits for one that is on its way.
func (a ahead) serve(ctx context.Context, name, into string) bool {
	limit := time.Now().Add(aheadPatience)
	for {
		_, err := os.Lstat(a.path(name + unfinished))
		if a.take(name, into) {
			return true
		}
		if err != nil || time.Now().After(limit) || !a.held() {
			return false
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(aheadLook / 5):
		}
	}
}

// unfinished ends the names of segments that are being fetched.
const unfinished = ".new"

func (a ahead) take(name, into string) bool {
	err := os.Rename(a.path(name), into)
	if !errors.Is(err, syscall.EXDEV) {
		return err == nil
	}
	from, err := os.Open(a.path(name))
	if err != nil {
		return false
	}
	defer from.Close()
	to, err := create(into)
	if err != nil {
		return false
	}
	_, err = io.Copy(to, from)
	if errors.Join(err, to.Close()) != nil {
		_ = os.Remove(into)
		return false
	}
	return os.Remove(a.path(name)) == nil
}

// start has a process of its own fetch what follows a segment. That it cannot be started costs time only.
func (a ahead) start(program, route, after string) {
	if program == "" || !a.recovers() || a.held() {
		return
	}
	c := exec.Command(program, "wal-get", "--route", route, "--ahead", after)
	c.Dir, c.SysProcAttr = "/", &syscall.SysProcAttr{Setsid: true}
	if c.Start() == nil {
		_ = c.Process.Release()
	}
}
