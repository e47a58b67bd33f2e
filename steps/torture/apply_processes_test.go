package torture

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// rounds gives how many of a long series are run: PGKEEP_ROUNDS, or the default.
func rounds(usual int) int {
	if n, err := strconv.Atoi(os.Getenv("PGKEEP_ROUNDS")); err == nil && n > 0 {
		return n
	}
	return usual
}

// nobodyRuns fails the test when a process still has the site's folder on its command line: a receiver that outlived
// its stop, or an apply that outlived its kill.
func nobodyRuns(t *testing.T, s *site) {
	t.Helper()
	for _, p := range processesOf(s) {
		t.Errorf("it still runs: %s", p)
	}
}

// processesOf gives the command lines of living processes that name the site's folder.
func processesOf(s *site) []string {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	var out []string
	for _, f := range files {
		line, err := os.ReadFile(f)
		if err != nil || !bytes.Contains(line, []byte(s.dir)) { // a zombie has no command line
			continue
		}
		out = append(out, fmt.Sprintf("%s %s", filepath.Base(filepath.Dir(f)), bytes.ReplaceAll(line, []byte{0}, []byte{' '})))
	}
	return out
}
