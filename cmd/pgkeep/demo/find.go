package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/host"
)

const (
	oldest = 13
	newest = 18
)

// findPrograms gives the directory of initdb, pg_ctl and postgres, and their major version: of bindir when it is named,
// else of the newest version on this machine, or of the one that is wanted (0: any).
func findPrograms(ctx context.Context, bindir string, wanted int) (string, int, error) {
	if wanted != 0 && (wanted < oldest || wanted > newest) {
		return "", 0, &state.Error{Code: state.CodeVersion, Text: fmt.Sprintf("pgkeep speaks PostgreSQL %d to %d, not %d", oldest, newest, wanted)}
	}
	if bindir != "" {
		return named(ctx, bindir, wanted)
	}
	for major := newest; major >= oldest; major-- {
		if wanted != 0 && wanted != major {
			continue
		}
		dir, err := host.FindBinaries(ctx, major)
		if err == nil && lacks(dir) == "" {
			return dir, major, nil
		}
	}
	if err := context.Cause(ctx); err != nil {
		return "", 0, err
	}
	return "", 0, noPrograms(wanted)
}

func named(ctx context.Context, bindir string, wanted int) (string, int, error) {
	dir, err := filepath.Abs(bindir)
	if err != nil {
		return "", 0, fmt.Errorf("find %s: %w", bindir, err)
	}
	major, err := host.BinaryVersion(ctx, dir)
	switch {
	case err != nil:
		return "", 0, &state.Error{Code: state.CodeAbsent, Text: dir + " has no PostgreSQL server", Hint: "name the directory of initdb, pg_ctl and postgres with --bindir", Err: err}
	case lacks(dir) != "":
		return "", 0, &state.Error{Code: state.CodeAbsent, Text: dir + " has no " + lacks(dir), Hint: "name the directory of initdb, pg_ctl and postgres with --bindir"}
	case wanted != 0 && wanted != major:
		return "", 0, &state.Error{Code: state.CodeVersion, Text: fmt.Sprintf("%s has PostgreSQL %d, not %d", dir, major, wanted)}
	case major < oldest || major > newest:
		return "", 0, &state.Error{Code: state.CodeVersion, Text: fmt.Sprintf("%s has PostgreSQL %d; pgkeep speaks %d to %d", dir, major, oldest, newest)}
	}
	return dir, major, nil
}

// lacks names a program that the directory does not have; empty: it has all.
func lacks(dir string) string {
	for _, p := range []string{"postgres", "initdb", "pg_ctl"} {
		if info, err := os.Stat(filepath.Join(dir, p)); err != nil || info.IsDir() {
			return p
		}
	}
	return ""
}

// noPrograms says what to install.
func noPrograms(wanted int) error {
	version, what := "17", "PostgreSQL 13 to 18"
	if wanted != 0 {
		version, what = fmt.Sprint(wanted), fmt.Sprintf("PostgreSQL %d", wanted)
	}
	install := "install its server, for example from https://www.postgresql.org/download/"
	for _, d := range []struct{ mark, command string }{
		{"/etc/debian_version", "apt-get install postgresql  (or postgresql-" + version + "; a cluster that it starts is left alone)"},
		{"/etc/redhat-release", "dnf install postgresql-server  (or postgresql" + version + "-server)"},
		{"/etc/alpine-release", "apk add postgresql" + version},
		{"/etc/arch-release", "pacman -S postgresql"},
	} {
		if _, err := os.Stat(d.mark); err == nil {
			install = d.command
			break
		}
	}
	return &state.Error{
		Code: state.CodeAbsent, Text: "the demo needs the server programs of " + what + ", and this machine has none where they usually are",
		Hint: install + "; or pgkeep demo --bindir DIR",
	}
}

// findPgbench gives the pgbench beside the server's programs, or any other: it drives every version. Empty: there is none.
func findPgbench(ctx context.Context, bindir string) string {
	places := []string{bindir}
	for major := newest; major >= oldest; major-- {
		if dir, err := host.FindBinaries(ctx, major); err == nil {
			places = append(places, dir)
		}
	}
	for _, dir := range append(places, filepath.SplitList(os.Getenv("PATH"))...) {
		p := filepath.Join(dir, "pgbench")
		if info, err := os.Stat(p); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return p
		}
	}
	return ""
}

// serverUser gives the user that the servers run as: this process's, or, for root, postgres or nobody.
func serverUser() (host.Owner, error) {
	if os.Geteuid() != 0 {
		return host.LookupOwner(fmt.Sprint(os.Geteuid()))
	}
	var all error
	for _, name := range []string{"postgres", "nobody"} {
		o, err := host.LookupOwner(name)
		if err == nil && o.UID != 0 {
			return o, nil
		}
		all = errors.Join(all, err)
	}
	return host.Owner{}, &state.Error{Code: state.CodePermission, Text: "PostgreSQL refuses to run as root, and this machine has neither a user postgres nor nobody", Hint: "run pgkeep demo as an ordinary user", Err: all}
}
