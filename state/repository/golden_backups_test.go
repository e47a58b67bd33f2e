package repository

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/seal"
	"github.com/pgkeep/pgkeep/state/repository/store/file"
)

const goldenBackupsDir = "testdata/golden/format1-backups"

// goldenMembers are what every golden backup was made of.
func goldenMembers() []member { return randomMembers(rand.New(rand.NewPCG(42, 1)), 12, 30_000) }

// TestGoldenBackups opens a repository that was written once and for all: a full backup with each compression, an
// incremental, a held, a tombed, an aborted and an open one.
func TestGoldenBackups(t *testing.T) {
	dir := must(filepath.Abs(goldenBackupsDir))(t)
	if *update {
		check(t, os.RemoveAll(dir))
		writeGoldenBackups(t, dir)
		check(t, os.RemoveAll(filepath.Join(dir, ".pgkeep-tmp")))
	}
	r := must(Open(t.Context(), openDirectory(t, dir, file.Options{})))(t)
	c := r.Cluster("orders.eu", "7335180256203400928")
	backups := must(c.Backups(t.Context()))(t)
	compareGolden(t, goldenBackupsDir+".json", append(must(json.MarshalIndent(backups, "", "  "))(t), '\n'))
	for _, b := range backups {
		if b.State != state.BackupCommitted && b.State != state.BackupDeleted {
			continue
		}
		check(t, c.VerifyBackup(t.Context(), b.ID, true, func(f Finding) { t.Errorf("%+v", f) }))
		readGoldenBackup(t, must(c.OpenBackup(t.Context(), b.ID))(t))
	}
}

func readGoldenBackup(t *testing.T, b *BackupReader) {
	t.Helper()
	got := readBack(t, b)
	for _, m := range goldenMembers() {
		if m.Type != RegularFile {
			continue
		}
		want := bytes.Clone(m.data)
		if b.Info().Kind == KindIncremental && len(want) >= pageSize {
			copy(want, bytes.Repeat([]byte{byte(b.rec.start.Began.Hour())}, pageSize))
		}
		if !bytes.Equal(got[m.Path], want) {
			t.Errorf("backup %s: %s differs", b.rec.id, m.Path)
		}
	}
	if b.Info().Kind == KindIncremental {
		return
	}
	if label := must(b.BackupLabel(t.Context()))(t); string(label) != "START WAL LOCATION" {
		t.Errorf("backup_label %q", label)
	}
	if m := must(b.PGManifest(t.Context()))(t); string(m) != "{the manifest}\n" {
		t.Errorf("manifest %q", m)
	}
}

func writeGoldenBackups(t *testing.T, dir string) {
	t.Helper()
	r := must(Create(t.Context(), openDirectory(t, dir, file.Options{}), CreateOptions{Now: testNow}))(t)
	c := r.Cluster("orders.eu", "7335180256203400928")
	check(t, c.Ensure(t.Context(), ClusterFacts{Major: 15, SegmentSize: 16 << 20, PageSize: 8192, PageChecksums: true}))
	for i, a := range []seal.Algorithm{seal.Zstd, seal.Gzip, seal.LZ4} {
		takeBackup(t, testIntent(i+1), seal.Codec{Algorithm: a}, goldenMembers(), 8000, c)
	}
	must(referBackup(t, c, childIntent(4, testIntent(3).ID)))(t)
	check(t, c.Hold(t.Context(), testIntent(1).ID, state.Hold{Reason: "audit", Expires: testNow.Add(time.Hour)}, testNow))
	check(t, c.Tomb(t.Context(), testIntent(2).ID, testNow))
	check(t, c.RecordVerification(t.Context(), Verification{ID: testIntent(3).ID, At: testNow, Full: true, Took: time.Second}))
	must(c.BeginBackup(t.Context(), testIntent(5)))(t)
	must(c.AbortBackup(t.Context(), testIntent(5).ID, "interrupted", testNow))(t)
	must(c.BeginBackup(t.Context(), testIntent(6)))(t)
}
