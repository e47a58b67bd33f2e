package host

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
)

// BinaryVersion gives the major version of the postgres program in a directory of PostgreSQL's programs.
func BinaryVersion(ctx context.Context, binDir string) (int, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(binDir, "postgres"), "--version")
	cmd.Env = []string{"LC_ALL=C"}
	out, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("ask %s for its version: %w", cmd.Path, err)
	}
	major := versionMajor(string(out))
	if major == 0 {
		return 0, fmt.Errorf("ask %s for its version: it answered %q", cmd.Path, out)
	}
	return major, nil
}

func versionMajor(banner string) int {
	m := regexp.MustCompile(`\(PostgreSQL\) (\d+)`).FindStringSubmatch(banner)
	if m == nil {
		return 0
	}
	major, err := strconv.Atoi(m[1])
	if err != nil {
		return 0
	}
	return major
}

// FindBinaries gives the directory of PostgreSQL's programs of a major version: where Debian, Red Hat and others keep
// them, and on PATH. The error names every place that was looked at.
func FindBinaries(ctx context.Context, major int) (string, error) {
	places := binaryPlaces(major)
	for _, dir := range places {
		if v, err := BinaryVersion(ctx, dir); err == nil && v == major {
			return dir, nil
		}
	}
	return "", fmt.Errorf("find the programs of PostgreSQL %d: none in %v", major, places)
}

func binaryPlaces(major int) []string {
	v := strconv.Itoa(major)
	places := []string{
		"/usr/lib/postgresql/" + v + "/bin",
		"/usr/pgsql-" + v + "/bin",
		"/usr/lib/postgresql" + v + "/bin",
		"/opt/homebrew/opt/postgresql@" + v + "/bin",
		"/usr/local/pgsql/bin",
	}
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		if filepath.IsAbs(dir) && !slices.Contains(places, dir) {
			places = append(places, dir)
		}
	}
	return places
}
