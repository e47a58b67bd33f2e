package repository

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/store/file"
)

const goldenLeasesDir = "testdata/golden/format1-leases"

// TestGoldenLeases opens a repository that was written once and for all, with a backup under way whose START names its
// machine and lock, and whose lease was renewed twice. Files have the times of a checkout: all are set to one here.
func TestGoldenLeases(t *testing.T) {
	dir := must(filepath.Abs(goldenLeasesDir))(t)
	if *update {
		check(t, os.RemoveAll(dir))
		writeGoldenLeases(t, dir)
		check(t, os.RemoveAll(filepath.Join(dir, ".pgkeep-tmp")))
	}
	copied := t.TempDir()
	check(t, os.CopyFS(copied, os.DirFS(dir)))
	check(t, filepath.WalkDir(copied, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chtimes(path, testNow, testNow)
	}))
	r := must(Open(t.Context(), openDirectory(t, copied, file.Options{})))(t)
	c := r.Cluster("orders.eu", "7335180256203400928")
	backups := must(c.Writers(t.Context(), nil, time.Time{}))(t)
	compareGolden(t, goldenLeasesDir+".json", append(must(json.MarshalIndent(backups, "", "  "))(t), '\n'))
	later := testNow.Add(LeaseExpiry)
	check(t, os.Chtimes(filepath.Join(copied, c.key.clusterFile()), later, later)) // somebody put something ten minutes later
	r = must(Open(t.Context(), openDirectory(t, copied, file.Options{})))(t)
	if b := must(r.Cluster("orders.eu", "7335180256203400928").Writers(t.Context(), nil, time.Time{}))(t)[0]; b.State != state.BackupAbandoned {
		t.Errorf("ten minutes later: %+v", b)
	}
}

func writeGoldenLeases(t *testing.T, dir string) {
	t.Helper()
	r := must(Create(t.Context(), openDirectory(t, dir, file.Options{}), CreateOptions{Now: testNow}))(t)
	c := r.Cluster("orders.eu", "7335180256203400928")
	check(t, c.Ensure(t.Context(), ClusterFacts{Major: 15, SegmentSize: 16 << 20, PageSize: 8192, PageChecksums: true}))
	lease := must(c.BeginBackup(t.Context(), leasedIntent(1)))(t).Lease()
	for n := range 2 {
		check(t, lease.Renew(t.Context(), testNow.Add(time.Duration(n)*LeaseRenewal)))
	}
}
