package sftp

import (
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"

	"github.com/pgkeep/pgkeep/state/repository/store"
)

// Where a server tells what is to be mounted and what is. One that does not let them be read (chroot, another system) tells
// nothing, and then an empty directory is an empty directory.
const (
	fstabFile  = "/etc/fstab"
	mountsFile = "/proc/self/mounts"
)

// maxTable bounds what is read of either.
const maxTable = 1 << 20

// mounted refuses a directory of the server at or above which a file system should be mounted and is not: what is missing there may
// be on it.
func (b *backend) mounted(s *session) error {
	fstab, err := readTable(s, b.fstab)
	if err != nil {
		return nil // see above
	}
	mounts, err := readTable(s, mountsFile)
	if err != nil {
		return nil
	}
	real, err := s.RealPath(b.at.Path)
	if err != nil {
		real = b.at.Path
	}
	want := deepest(fstab, real)
	if want == "/" || len(want) <= len(deepest(mounts, real)) { // a root is there, also one that is no mount point
		return nil
	}
	return b.trouble(store.Missing, fmt.Sprintf("%s is not mounted there, so what %s holds is unknown", want, b.at.Path), "mount it there: mount "+want, nil)
}

func readTable(s *session, name string) (string, error) {
	f, err := s.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxTable))
	return string(text), err
}

// deepest gives the longest mount point of a table, as fstab(5) and /proc/mounts write it, that the path lies at or below.
func deepest(table, file string) string {
	best := ""
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) < 2 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		at := unescape(fields[1])
		if !path.IsAbs(at) {
			continue
		}
		at = path.Clean(at)
		if inside := at == "/" || file == at || strings.HasPrefix(file, at+"/"); inside && len(at) > len(best) {
			best = at
		}
	}
	return best
}

// unescape reads the octal escapes with which these tables write space, tab, newline and backslash.
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
