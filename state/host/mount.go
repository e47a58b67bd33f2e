package host

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// UnmountedAbove gives the deepest mount point of /etc/fstab at or above path that is not mounted now; empty when there
// is none. Such a directory is the empty shell of a file system that is elsewhere.
func UnmountedAbove(path string) (string, error) {
	fstab, err := os.ReadFile("/etc/fstab")
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read the table of file systems: %w", err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", fmt.Errorf("read the mounts of this process: %w", err)
	}
	return unmountedAbove(resolved(path), fstab, mounts), nil
}

// resolved follows the symlinks of the part of path that exists, because mounts are listed by real path.
func resolved(path string) string {
	path = filepath.Clean(path)
	rest := ""
	for at := path; ; at = filepath.Dir(at) {
		if real, err := filepath.EvalSymlinks(at); err == nil {
			return filepath.Join(real, rest)
		}
		if at == filepath.Dir(at) {
			return path
		}
		rest = filepath.Join(filepath.Base(at), rest)
	}
}

func unmountedAbove(path string, fstab, mountinfo []byte) string {
	mounted := map[string]bool{}
	for _, fields := range tableLines(mountinfo) {
		if len(fields) > 4 {
			mounted[unescape(fields[4])] = true
		}
	}
	deepest := ""
	for _, fields := range tableLines(fstab) {
		if len(fields) < 3 || fields[2] == "swap" || !strings.HasPrefix(fields[1], "/") {
			continue
		}
		point := filepath.Clean(unescape(fields[1]))
		if !mounted[point] && isAtOrAbove(point, path) && len(point) > len(deepest) {
			deepest = point
		}
	}
	return deepest
}

func isAtOrAbove(point, path string) bool {
	return point == path || point == "/" || strings.HasPrefix(path, point+"/")
}

func tableLines(table []byte) [][]string {
	var out [][]string
	for lines := bufio.NewScanner(bytes.NewReader(table)); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) > 0 && !strings.HasPrefix(fields[0], "#") {
			out = append(out, fields)
		}
	}
	return out
}

// unescape undoes the octal escapes of blanks in fstab(5) and proc(5).
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+4 <= len(s) {
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
