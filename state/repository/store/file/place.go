package file

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pgkeep/pgkeep/state/repository/store"
)

// Look is store.Place's.
func (s *Store) Look(ctx context.Context) (store.PlaceFacts, error) {
	facts := store.PlaceFacts{Path: s.path}
	if err := ctx.Err(); err != nil {
		return facts, err
	}
	names, err := readNames(s.path)
	switch {
	case err == nil:
		facts.Exists, facts.Entries = true, entries(names)
		facts.Empty = len(facts.Entries) == 0
	case !errors.Is(err, fs.ErrNotExist):
		return facts, fmt.Errorf("look at store: %w", err)
	default:
		facts.Empty = true
	}
	near := nearest(s.path)
	if facts.Free, facts.Total, err = space(near); err != nil {
		return facts, fmt.Errorf("ask for free space of %s: %w", near, err)
	}
	facts.FstabMount, err = s.unmounted()
	return facts, err
}

func readNames(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Readdirnames(-1)
}

// entries leaves out what appears in a directory by itself.
func entries(names []string) []string {
	names = slices.DeleteFunc(names, func(name string) bool { return name == tempDir || name == "lost+found" })
	slices.Sort(names)
	return names[:min(len(names), store.MaxEntries)]
}

// nearest gives the path or the closest directory above it that exists, without symbolic links.
func nearest(path string) string {
	for ; ; path = filepath.Dir(path) {
		if real, err := filepath.EvalSymlinks(path); err == nil {
			return real
		}
		if path == filepath.Dir(path) {
			return path
		}
	}
}

func space(dir string) (free, total int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, 0, err
	}
	return int64(st.Bavail) * int64(st.Bsize), int64(st.Blocks) * int64(st.Bsize), nil
}

// unmounted gives the deepest mount point of fstab at or above the path when nothing is mounted there or deeper.
func (s *Store) unmounted() (string, error) {
	wanted, err := mountPoints(s.o.Fstab, 1)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	mounted, err := mountPoints(s.o.Mounts, 4)
	if err != nil {
		return "", err
	}
	real := nearest(s.path)
	if rest, err := filepath.Rel(nearestName(s.path), s.path); err == nil {
		real = filepath.Join(real, rest)
	}
	want, have := deepest(wanted, real), deepest(mounted, real)
	if len(want) > len(have) {
		return want, nil
	}
	return "", nil
}

// nearestName gives the path or the closest directory above it that exists, as it is written.
func nearestName(path string) string {
	for ; path != filepath.Dir(path); path = filepath.Dir(path) {
		if _, err := os.Stat(path); err == nil {
			break
		}
	}
	return path
}

func deepest(points []string, path string) string {
	best := ""
	for _, p := range points {
		if rel, err := filepath.Rel(p, path); err == nil && filepath.IsLocal(rel) && len(p) > len(best) {
			best = p
		}
	}
	return best
}

// mountPoints reads the absolute paths in one column of a file of the form of fstab(5) or proc_pid_mountinfo(5), which write
// space, tab, newline and backslash as octal escapes.
func mountPoints(file string, column int) ([]string, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read mount points: %w", err)
	}
	defer f.Close()
	var out []string
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) <= column || strings.HasPrefix(fields[0], "#") {
			continue
		}
		if p := unescape(fields[column]); filepath.IsAbs(p) {
			out = append(out, filepath.Clean(p))
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read mount points of %s: %w", file, err)
	}
	return out, nil
}

func unescape(s string) string {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				out.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		out.WriteByte(s[i])
	}
	return out.String()
}
