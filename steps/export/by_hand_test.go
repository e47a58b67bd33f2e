package export

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/repository/seal"
)

const script = "../../docs/restore-without-pgkeep.sh"

// TestWithoutPgkeep restores with the script of docs/: sh, tar and a decompressor, with each compression. PostgreSQL starts
// and holds what was written until the end of the WAL, after the backup.
func TestWithoutPgkeep(t *testing.T) {
	text, err := os.ReadFile(script)
	check(t, err)
	if n := strings.Count(string(text), "\n"); n > 100 {
		t.Errorf("the procedure has %d lines, and 100 are promised", n)
	}
	for _, algorithm := range []seal.Algorithm{seal.Zstd, seal.Gzip, seal.LZ4} {
		t.Run(fmt.Sprint(algorithm), func(t *testing.T) {
			w := newWorld(t, pgtest.SomeVersions(t, 15)[0])
			w.compressed(algorithm)
			full := w.take("")
			w.Exec(t, "insert into ledger select g, 'after the backup' from generate_series(1, 300) g")
			w.Exec(t, "select pg_switch_wal()")
			w.Exec(t, "delete from many where n % 3 = 0")
			want := w.SQL(t, contents)
			w.archive()
			at := pgtest.TempDir(t)
			data, cluster := filepath.Join(at, "data"), filepath.Join(w.dir, "c", "orders.eu", w.systemID)
			out, err := exec.Command("sh", script, cluster, full, data, fmt.Sprintf("%d=%s", w.fast, filepath.Join(at, "fast"))).CombinedOutput()
			if err != nil || !strings.HasPrefix(string(out), "Restored. ") {
				t.Fatalf("%v\n%s", err, out)
			}
			check(t, exec.Command("chown", "--reference="+w.DataDir, "-R", at).Run())
			s := pgtest.StartDir(t, w.Version, data, pgtest.Options{})
			for s.SQL(t, "select pg_is_in_recovery()") != "f" { // it answers before it has recovered
				time.Sleep(20 * time.Millisecond)
			}
			if got := s.SQL(t, contents); got != want {
				t.Errorf("it holds %s, the server held %s", got, want)
			}
			s.Stop(t, "immediate")
			refuseByHand(t, cluster, full, data)
		})
	}
}

// refuseByHand: nothing is written over what is there, and an incremental backup is not taken for a whole one.
func refuseByHand(t *testing.T, cluster, full, data string) {
	t.Helper()
	for want, args := range map[string][]string{
		"is there already":                    {cluster, full, data},
		"is no full backup":                   {cluster, strings.Replace(full, "-F-", "-I-", 1), data + "2"},
		"was never completed":                 {cluster, full + "0", data + "2"},
		"has no directory: add":               {cluster, full, data + "3"},
		"CLUSTER BACKUP DATA [OID=DIRECTORY ": {cluster},
	} {
		out, err := exec.Command("sh", append([]string{script}, args...)...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), want) {
			t.Errorf("%v: %v\n%s", args[1:], err, out)
		}
	}
	volume := filepath.Join(cluster, "b", full, "v", "base", "000000")
	info, err := os.Stat(volume)
	check(t, err)
	check(t, os.Truncate(volume, info.Size()/2))
	if out, err := exec.Command("sh", script, cluster, full, data+"4").CombinedOutput(); err == nil {
		t.Errorf("a volume that was cut short is restored:\n%s", out)
	}
}
