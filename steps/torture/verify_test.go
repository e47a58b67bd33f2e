package torture

import (
	"bytes"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/state/repository/store/file"
	"github.com/pgkeep/pgkeep/steps/recovery"
)

// backupLine is how a planned recovery names its backup.
var backupLine = regexp.MustCompile(`(?m)^\s+backup +(\S+) in repository`)

// backupIn gives the id of the backup that a recovery was made from.
func backupIn(t *testing.T, out string) string {
	t.Helper()
	m := backupLine.FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("no backup is named in:\n%s", out)
	}
	return m[1]
}

// verify compares a restored directory, before a server starts in it, with the manifest that PostgreSQL sent: by our own
// check, and by pg_verifybackup 15, which knows the manifests of servers up to 16.
func verify(t *testing.T, pg *pgtest.Server, repositoryDir, backup, dir string) {
	t.Helper()
	manifest := manifestOf(t, pg, repositoryDir, backup)
	differences, err := recovery.Check(t.Context(), dir, bytes.NewReader(manifest), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range differences {
		t.Errorf("%s/%s: %s", dir, d.Path, d.Why)
	}
	if pg.Version > 16 {
		return
	}
	path := filepath.Join(t.TempDir(), "backup_manifest")
	if err := os.WriteFile(path, manifest, 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"--no-parse-wal", "--quiet", "--manifest-path", path, dir}
	if out, err := exec.Command(pgtest.Client(t, "pg_verifybackup"), args...).CombinedOutput(); err != nil {
		t.Errorf("pg_verifybackup %s: %v\n%s", dir, err, out)
	}
}

func manifestOf(t *testing.T, pg *pgtest.Server, repositoryDir, backup string) []byte {
	t.Helper()
	st, err := file.Open(repositoryDir, file.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	repo, err := repository.Open(t.Context(), st)
	if err != nil {
		t.Fatal(err)
	}
	b, err := repo.Cluster("orders", pg.SQL(t, "select system_identifier from pg_control_system()")).OpenBackup(t.Context(), backup)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := b.PGManifest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return manifest
}

// owner is the user who must own a data directory that these tests start.
func owner() string {
	if os.Geteuid() == 0 {
		return "postgres"
	}
	u, err := user.Current()
	if err != nil {
		return os.Getenv("USER")
	}
	return u.Username
}
