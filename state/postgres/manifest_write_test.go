package postgres_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/wal"
)

// TestManifestWriter: what is written is read back, in both versions, with names that JSON and UTF-8 make hard.
func TestManifestWriter(t *testing.T) {
	at := time.Date(2026, 2, 10, 21, 16, 17, 0, time.UTC)
	want := postgres.Manifest{WALRanges: []wal.Range{{Timeline: 3, From: 0x16B374D848, To: 0x16B374D950}}}
	for _, name := range []string{"PG_VERSION", `a "quoted" \ name`, "bytes \xff\xfe", "<html>&", "base/16384/PG_VERSION", "\u2028"} {
		want.Files = append(want.Files, postgres.ManifestFile{Path: name, Size: int64(len(name)), ModTime: at, Algorithm: "CRC32C", Checksum: postgres.ManifestCRC32C(0x12345678)})
	}
	for major, version := range map[int]int{13: 1, 16: 1, 17: 2, 18: 2} {
		for n := range len(want.Files) + 1 {
			want := want
			want.Version, want.Files = version, want.Files[:n]
			if version == 2 {
				want.SystemID = "7335180256203400928"
			}
			var text bytes.Buffer
			m, err := postgres.NewManifestWriter(&text, major, "7335180256203400928")
			for _, f := range want.Files {
				if err == nil {
					err = m.File(f)
				}
			}
			if err == nil {
				err = m.Close(want.WALRanges)
			}
			if err != nil {
				t.Fatal(err)
			}
			got, err := postgres.ParseManifest(strings.NewReader(text.String()))
			if err != nil {
				t.Fatalf("%v\n%s", err, text.String())
			}
			if n == 0 {
				want.Files = nil
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%d: %s", major, diff)
			}
		}
	}
}
