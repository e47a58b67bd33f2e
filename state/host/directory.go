package host

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Directory is what stands at a path.
type Directory struct {
	Exists bool // something is there
	IsDir  bool // and it is a directory, or a link to one
	Empty  bool // of nothing but lost+found
	Owner  int  // user id
}

// LookAt looks at a path without following into it. A path that is absent is not an error.
func LookAt(path string) (Directory, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Directory{}, nil
	}
	if err != nil {
		return Directory{}, fmt.Errorf("look at %s: %w", path, err)
	}
	d := Directory{Exists: true, IsDir: info.IsDir()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		d.Owner = int(st.Uid)
	}
	if !d.IsDir {
		return d, nil
	}
	d.Empty, err = isEmpty(path)
	return d, err
}

func isEmpty(path string) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, fmt.Errorf("look into %s: %w", path, err)
	}
	defer f.Close()
	for {
		names, err := f.Readdirnames(16)
		for _, name := range names {
			if name != "lost+found" {
				return false, nil
			}
		}
		if errors.Is(err, io.EOF) {
			return true, nil
		}
		if err != nil {
			return false, fmt.Errorf("look into %s: %w", path, err)
		}
	}
}

// Postmaster gives the process id of the PostgreSQL server that lives in a data directory; 0 when none does. A
// postmaster.pid that names no live process, or one that works elsewhere, is a leftover.
func Postmaster(dataDir string) (int, error) {
	content, err := os.ReadFile(filepath.Join(dataDir, "postmaster.pid"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read the lock file of PostgreSQL: %w", err)
	}
	line, _, _ := strings.Cut(string(content), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil || pid == 0 {
		return 0, nil
	}
	if pid < 0 { // a single-user backend writes its id negated
		pid = -pid
	}
	if !alive(pid) {
		return 0, nil
	}
	// A postmaster's working directory is its data directory. Where that cannot be read, a live process of that id
	// must be taken for it.
	if _, err := os.Readlink(worksIn(pid)); err == nil && !sameFile(worksIn(pid), dataDir) {
		return 0, nil
	}
	return pid, nil
}

// worksIn gives the working directory of a process as the kernel follows it: the name that it has in a container says nothing
// here.
func worksIn(pid int) string { return fmt.Sprintf("/proc/%d/cwd", pid) }

func sameFile(a, b string) bool {
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	return errX == nil && errY == nil && os.SameFile(x, y)
}

// alive tells whether a process of this id exists, ours or not.
func alive(pid int) bool {
	err := syscall.Kill(pid, 0)
	return err == nil || errors.Is(err, syscall.EPERM)
}

// ServerIn gives a process of PostgreSQL that works in a data directory, whatever its lock file says, and in whatever container
// it does; 0: none that can be seen.
func ServerIn(dataDir string) (int, error) {
	return serverThat(func(pid int) bool { return sameFile(worksIn(pid), dataDir) })
}

// ServerWith gives a process of PostgreSQL that has a directory as a tablespace; 0: none that can be seen.
func ServerWith(tablespace string) (int, error) {
	return serverThat(func(pid int) bool {
		links := filepath.Join(worksIn(pid), "pg_tblspc")
		entries, _ := os.ReadDir(links) // it may be gone
		for _, e := range entries {
			target, err := os.Readlink(filepath.Join(links, e.Name()))
			if err == nil && sameFile(filepath.Join(fmt.Sprintf("/proc/%d/root", pid), target), tablespace) {
				return true
			}
		}
		return false
	})
}

func serverThat(is func(pid int) bool) (int, error) {
	entries, err := os.ReadDir("/proc")
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("look for servers: %w", err)
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)) // it may be gone
		if n := strings.TrimSpace(string(name)); n != "postgres" && n != "postmaster" {
			continue
		}
		if is(pid) {
			return pid, nil
		}
	}
	return 0, nil
}

// ClusterOf gives the system identifier of the cluster whose data directory this is, from its pg_control; empty: there is none.
func ClusterOf(dataDir string) (string, error) {
	c, err := readControl(dataDir)
	if c == nil || err != nil {
		return "", err
	}
	return strconv.FormatUint(binary.NativeEndian.Uint64(c[:]), 10), nil
}

// LastWrite tells when a server wrote the pg_control of a data directory last, and on which timeline the checkpoint is that it names;
// zero: there is none.
func LastWrite(dataDir string) (at time.Time, timeline uint32, err error) {
	c, err := readControl(dataDir)
	if c == nil || err != nil {
		return at, 0, err
	}
	return time.Unix(int64(binary.NativeEndian.Uint64(c[controlTime:])), 0).UTC(), binary.NativeEndian.Uint32(c[controlTimeline:]), nil
}

// Offsets in ControlFileData, from pg_control.h, the same in 13 to 18: time, and checkPointCopy.ThisTimeLineID.
const (
	controlTime     = 24
	controlTimeline = 48
	controlRead     = 52
)

// readControl gives the beginning of pg_control; nil: there is none.
func readControl(dataDir string) (*[controlRead]byte, error) {
	f, err := os.OpenFile(filepath.Join(dataDir, "global", "pg_control"), os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look whose data directory %s is: %w", dataDir, err)
	}
	defer f.Close()
	var c [controlRead]byte
	if _, err := io.ReadFull(f, c[:]); err != nil {
		return nil, fmt.Errorf("look whose data directory %s is: %w", dataDir, err)
	}
	return &c, nil
}
