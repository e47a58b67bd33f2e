package torture

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/repository/store/storetest/servers"
	"github.com/pgkeep/pgkeep/state/wal"
)

// TestObjectStore is the journey with the repository in a bucket of a real S3 service: protect, back up, lose everything
// but the bucket, recover from its URL alone. The credentials come from the environment, and stand nowhere.
func TestObjectStore(t *testing.T) {
	bucket := servers.S3(t)
	place := strings.Replace(bucket.Bucket(t, "backups"), "?", "/pg/orders?", 1)
	pg := pgtest.Start(t, pgtest.Options{Version: 15, Settings: ledgerSettings})
	pg.Exec(t, ledgerTable)
	keys := filepath.Join(pg.Dir(t, "keys"), "aws") // wal-get runs as the server's user, who must be able to read it
	bucket.WriteCredentials(t, keys)
	place += "&credentials_file=" + keys
	site := newSite(t, fmt.Sprintf(strings.Replace(journeyHCL, `path = "@DIR@/repository"`, `url = "`+place+`"`, 1), pg.Conninfo()))
	var all strings.Builder
	run := func(args ...string) string {
		out := site.run(t, args...)
		all.WriteString(out)
		return out
	}

	says(t, run("plan"), "create-repository", "s3://backups/pg/orders", "Plan: 4 to add, 0 to change, 0 to destroy.")
	says(t, run("apply", "--auto-approve"), "can be restored", "Apply: 4 done, 0 already so, 0 failed, 0 not done.")
	says(t, run("plan"), "No changes. Your infrastructure matches the configuration.")
	var l ledger
	l.upTo(t, pg, 20)
	says(t, run("backup", "orders"), "can be restored")
	l.upTo(t, pg, 30)
	says(t, run("status"), "You can restore orders")
	says(t, run("check", "--repository", "main"), "is there", "can be written", "credentials")
	says(t, run("backups", "list"), "usable")

	dir := filepath.Join(site.dir, "alone")
	run("wal", "switch", "orders")
	last, err := wal.ParseLSN(l.at(30).lsn)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "WAL of the last commit in the bucket", func() bool { return receiverOf(t, site).Archived >= last })
	elsewhere := &machine{dir: t.TempDir(), bin: site.bin}
	out := elsewhere.run(t, "recover", "--repository", place, "--server", "orders", "--into", dir, "--to-lsn", l.at(29).lsn, "--action", "promote",
		"--owner", owner(), "--bindir", pg.Bin, "--yes")
	all.WriteString(out)
	backupIn(t, out)
	back := pgtest.StartDir(t, 15, dir, pgtest.Options{Version: 15})
	awaitPromotion(t, back)
	holds(t, back, 29)
	back.Stop(t, "fast")
	noSecret(t, site.dir, all.String())
}

// machine is another machine, on which no configuration survived.
type machine = site

// noSecret looks for the secret key in what was printed and in every file that pgkeep wrote.
func noSecret(t *testing.T, dir, printed string) {
	t.Helper()
	if strings.Contains(printed, servers.S3Secret) {
		t.Error("the secret key was printed")
	}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || filepath.Base(path) == "aws" {
			return err
		}
		b, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(b), servers.S3Secret) {
			t.Errorf("the secret key stands in %s", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
