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

const goldenCutDir = "testdata/golden/format2-cut"

// goldenTablespace is what came of a tablespace before the backup was cut.
func goldenTablespace() []member {
	members := bigMembers(2, 6)
	for i := range members {
		members[i].Path = []string{"PG_15_202209061/5/24576", "PG_15_202209061/5/24577"}[i]
	}
	return members
}

// TestGoldenCut opens a repository that was written once and for all: a backup that was cut behind a tablespace, and one that goes on with it.
func TestGoldenCut(t *testing.T) {
	dir := must(filepath.Abs(goldenCutDir))(t)
	if *update {
		check(t, os.RemoveAll(dir))
		writeGoldenCut(t, dir)
		check(t, os.RemoveAll(filepath.Join(dir, ".pgkeep-tmp")))
	}
	r := must(Open(t.Context(), openDirectory(t, dir, file.Options{})))(t)
	c := r.Cluster("orders.eu", "7335180256203400928")
	backups := must(c.Backups(t.Context()))(t)
	compareGolden(t, goldenCutDir+".json", append(must(json.MarshalIndent(backups, "", "  "))(t), '\n'))
	cut, last := backups[0], backups[1]
	if cut.State != state.BackupCut || last.State != state.BackupCommitted || len(last.Refs) != 1 || last.Refs[0] != cut.ID {
		t.Fatalf("%+v", backups)
	}
	for _, f := range verified(t, c) {
		t.Errorf("%+v", f)
	}
	holdsMembers(t, must(c.OpenBackup(t.Context(), last.ID))(t), append(goldenTablespace(), goldenMembers()...))
	if p := must(c.OpenCut(t.Context(), cut.ID))(t); p.Reusable() != cut.Reusable {
		t.Errorf("%d of %d can be gone on with", p.Reusable(), cut.Reusable)
	}
}

func writeGoldenCut(t *testing.T, dir string) {
	t.Helper()
	r := must(Create(t.Context(), openDirectory(t, dir, file.Options{}), CreateOptions{Now: testNow}))(t)
	c := r.Cluster("orders.eu", "7335180256203400928")
	check(t, c.Ensure(t.Context(), ClusterFacts{Major: 15, SegmentSize: 16 << 20, PageSize: 8192, PageChecksums: true}))
	one, two := testIntent(1), continuing(2, testIntent(1).ID)
	s := beginAgain(t, c, one, r.Compression())
	writeFolder(t, s.Folder(16385, "/srv/fast"), goldenTablespace(), 50_000)
	sendPart(t, s.Folder(0, ""), goldenMembers(), 5000)
	for there := false; !there; _, there, _ = c.lastMark(t.Context(), one.ID) {
		time.Sleep(time.Millisecond)
	}
	s.Abort(t.Context(), "the line was cut", one.Now)
	s = beginAgain(t, c, two, r.Compression())
	writeFolder(t, s.Folder(16385, "/srv/fast"), goldenTablespace(), 50_000)
	finish(t, s, goldenMembers())
}
