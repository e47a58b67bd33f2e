package recovery

import (
	"bytes"
	"iter"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/wal"
)

// TestCheckAfterFilesCameInPart: the manifest of a backup that was laid over another names files by the parts that came.
func TestCheckAfterFilesCameInPart(t *testing.T) {
	dir := t.TempDir()
	put := func(path string, size int) {
		t.Helper()
		name := filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("base/5/16384", 3*8192)
	put("base/5/16385", 8192+7)
	put("base/5/16387", 8192)
	put("base/5/16388", 100)
	if err := os.Mkdir(filepath.Join(dir, "pg_tblspc"), 0o700); err != nil {
		t.Fatal(err)
	}
	var files iter.Seq2[postgres.ManifestFile, error] = func(yield func(postgres.ManifestFile, error) bool) {
		for _, f := range []postgres.ManifestFile{
			{Path: "base/5/INCREMENTAL.16384", Size: 12},
			{Path: "base/5/INCREMENTAL.16385", Size: 12},
			{Path: "base/5/INCREMENTAL.16386", Size: 12},
			{Path: "base/5/16387", Size: 8192},
			{Path: "base/5/16388", Size: 200},
		} {
			f.ModTime = time.Unix(0, 0)
			if !yield(f, nil) {
				return
			}
		}
	}
	var manifest bytes.Buffer
	err := postgres.ComposeManifest(&manifest, postgres.Manifest{SystemID: "7", WALRanges: []wal.Range{{Timeline: 1, From: 1, To: 2}}}, files)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Check(t.Context(), dir, &manifest, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []Difference{
		{"base/5/16385", "it came in part, and is of 8199 bytes"},
		{"base/5/16386", "it is missing"},
		{"base/5/16388", "it has 100 bytes, the manifest says 200"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
