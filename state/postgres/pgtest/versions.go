package pgtest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Supported lists the major versions that pgkeep speaks to.
func Supported() []int { return []int{13, 14, 15, 16, 17, 18} }

// Versions gives the major versions to test with, installing what is missing: all of Supported, or those that PGKEEP_PG
// names ("13,15"; "all" is all). It skips the test only when PGKEEP_PG is "none".
func Versions(tb testing.TB) []int {
	tb.Helper()
	return chosen(tb, Supported())
}

// SomeVersions is Versions for a slow test: the majors given here, unless PGKEEP_PG chooses others.
func SomeVersions(tb testing.TB, usual ...int) []int {
	tb.Helper()
	return chosen(tb, usual)
}

func chosen(tb testing.TB, usual []int) []int {
	tb.Helper()
	want := os.Getenv("PGKEEP_PG")
	switch want {
	case "":
		return usual
	case "all":
		return Supported()
	case "none":
		tb.Skip("PGKEEP_PG=none")
	}
	var out []int
	for _, field := range strings.Split(want, ",") {
		v, err := strconv.Atoi(strings.TrimSpace(field))
		if err != nil || !slices.Contains(Supported(), v) {
			tb.Fatalf("PGKEEP_PG=%q: %q is not one of 13 to 18", want, field)
		}
		out = append(out, v)
	}
	return out
}

// Bin gives the folder that holds postgres and initdb of a major version, installing it when it is missing.
func Bin(tb testing.TB, version int) string {
	tb.Helper()
	dir, err := FindBin(version)
	if err != nil {
		tb.Fatalf("find PostgreSQL %d: %v", version, err)
	}
	return dir
}

// Client gives the path of one of Debian's PostgreSQL 15 programs: psql, pgbench, pg_verifybackup.
func Client(tb testing.TB, program string) string {
	tb.Helper()
	return filepath.Join(Bin(tb, 15), program)
}

// FindBin is Bin for programs that are not tests.
func FindBin(version int) (string, error) {
	root, err := repositoryRoot()
	if err != nil {
		return "", err
	}
	cmd := exec.Command(filepath.Join(root, "state", "postgres", "pgtest", "install.sh"), strconv.Itoa(version))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("run install.sh: %w\n%s", err, stderr.Bytes())
	}
	for line := range strings.Lines(string(out)) {
		if major, dir, ok := strings.Cut(strings.TrimSpace(line), " "); ok && major == strconv.Itoa(version) {
			return dir, nil
		}
	}
	return "", fmt.Errorf("install.sh named no folder for %d: %q", version, out)
}

// repositoryRoot walks up from the working directory, which go test sets to the package's own.
func repositoryRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		b, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && bytes.HasPrefix(b, []byte("module github.com/pgkeep/pgkeep\n")) {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("no go.mod of pgkeep above the working directory")
		}
		dir = up
	}
}
