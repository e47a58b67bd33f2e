package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
)

// TestInitFromServer looks at real servers of each version and kind.
func TestInitFromServer(t *testing.T) {
	if testing.Short() {
		t.Skip("starts servers")
	}
	for _, version := range pgtest.SomeVersions(t, 15) {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			t.Run("usual", func(t *testing.T) { initUsual(t, version) })
			t.Run("unfit", func(t *testing.T) { initUnfit(t, version) })
		})
	}
}

// initUsual takes a role with LOGIN and REPLICATION alone, then takes that away, then the hba line.
func initUsual(t *testing.T, version int) {
	s := pgtest.Start(t, pgtest.Options{Version: version, Settings: map[string]string{"cluster_name": "shop"}, HBA: []string{"host replication nohba all reject"}})
	s.Exec(t, "create role pgkeep login replication password 'hunter2'")
	s.Exec(t, "create role plain login; create role nohba login replication")
	at := func(role string) string {
		return fmt.Sprintf("host=127.0.0.1 port=%d user=%s dbname=postgres sslmode=disable password=hunter2", s.Port, role)
	}
	out, dir := initialize(t, 0, at("pgkeep"))
	wants(t, out, `server "shop": its cluster_name`, "LOGIN and REPLICATION", "Nothing is missing on the server.", `GRANT pg_monitor TO "pgkeep";`,
		fmt.Sprintf("127.0.0.1:%d:*:pgkeep:PASSWORD", s.Port), fmt.Sprintf("PostgreSQL %d.", version))
	file := read(t, filepath.Join(dir, "pgkeep.hcl"))
	if strings.Contains(file+out, "hunter2") {
		t.Errorf("the password is shown:\n%s\n%s", out, file)
	}
	if code, text := pgkeep(t, "-C", dir, "fmt", "--check"); code != 0 {
		t.Errorf("fmt would change the file: %s", text)
	}
	if code, text := pgkeep(t, "-C", dir, "plan"); code != 0 || !strings.Contains(text, "Plan: 4 to add, 0 to change, 0 to destroy.") {
		t.Errorf("plan ends with %d:\n%s", code, text)
	}
	if code, text := pgkeep(t, "-C", dir, "init", "--from-server", at("pgkeep")); code != 1 || !strings.Contains(text, "exists already") {
		t.Errorf("a second init ends with %d: %s", code, text)
	}
	out, _ = initialize(t, 0, at("plain"))
	wants(t, out, "LOGIN without REPLICATION", `ALTER ROLE "plain" REPLICATION;`)
	out, _ = initialize(t, 0, at("nohba"))
	wants(t, out, "host  replication  nohba  127.0.0.1/32  scram-sha-256", "SELECT pg_reload_conf();", "pg_hba.conf")
	code, text := pgkeep(t, "-C", t.TempDir(), "init", "--from-server", at("nobody"))
	if code != 1 || !strings.Contains(text, "E-ROLE") || strings.Contains(text, "hunter2") {
		t.Errorf("an unknown role ends with %d: %s", code, text)
	}
}

// initUnfit looks at a server that cannot be protected as it is, with another's slot and archiving.
func initUnfit(t *testing.T, version int) {
	s := pgtest.Start(t, pgtest.Options{Version: version, NoChecksums: true, Settings: map[string]string{"wal_level": "minimal", "max_wal_senders": "0"}})
	out, dir := initialize(t, 0, s.Conninfo())
	wants(t, out, "ALTER SYSTEM SET wal_level = 'replica';", "ALTER SYSTEM SET max_wal_senders = 10;", "no data checksums", `server "main"`, "superuser")
	if file := read(t, filepath.Join(dir, "pgkeep.hcl")); !strings.Contains(file, "check_page_checksums = false") {
		t.Errorf("page checksums are wanted of a cluster without:\n%s", file)
	}
	if strings.Contains(out, "Nothing is missing") {
		t.Errorf("something is missing:\n%s", out)
	}
}

func initialize(t *testing.T, want int, dsn string) (out, dir string) {
	t.Helper()
	dir = t.TempDir()
	code, out := pgkeep(t, "-C", dir, "init", "--from-server", dsn, "--repository", filepath.Join(dir, "repository"), "--spool", spoolDir(t))
	if code != want {
		t.Fatalf("init ends with %d:\n%s", code, out)
	}
	return out, dir
}

// spoolDir is on a disk: a spool on tmpfs is refused.
func spoolDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "pgkeep-init-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "spool")
}

// pgkeep runs a command in this process and gives its code and what it wrote.
func pgkeep(t *testing.T, args ...string) (int, string) {
	t.Helper()
	var out bytes.Buffer
	a := &app{in: strings.NewReader(""), out: &out, err: &out, env: map[string]string{"HOME": t.TempDir()}, now: time.Now, version: "0.1.0", width: 200}
	code := run(context.Background(), a, args)
	return code, out.String()
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func wants(t *testing.T, text string, all ...string) {
	t.Helper()
	for _, w := range all {
		if !strings.Contains(text, w) {
			t.Errorf("%q is not in:\n%s", w, text)
		}
	}
}
