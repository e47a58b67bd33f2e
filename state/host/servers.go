package host

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// ServersIn gives the PostgreSQL processes that work in a data directory, its postmaster first where it is known: also one that
// has not written its lock file yet, or whose lock file was lost. Processes that this user may not look at are left out.
func ServersIn(dataDir string) ([]int, error) {
	first, err := Postmaster(dataDir)
	if err != nil {
		return nil, err
	}
	var out []int
	if first != 0 {
		out = append(out, first)
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == first {
			continue
		}
		cwd, err := os.Readlink(filepath.Join("/proc", e.Name(), "cwd"))
		if err != nil || !sameFile(cwd, dataDir) {
			continue
		}
		program, err := os.Readlink(filepath.Join("/proc", e.Name(), "exe"))
		if err == nil && filepath.Base(program) == "postgres" {
			out = append(out, pid)
		}
	}
	return out, nil
}
