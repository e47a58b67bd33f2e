package repository

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/seal"
	"github.com/pgkeep/pgkeep/state/repository/store/file"
	"github.com/pgkeep/pgkeep/state/wal"
)

// -update writes testdata/golden anew. Only a new format version is a reason to: the repositories there are what released
// versions wrote.
var update = flag.Bool("update", false, "write testdata/golden anew")

const goldenDir = "testdata/golden/format1"

// TestGoldenRepository opens a repository that was written once and for all, and reads every object of its archive.
func TestGoldenRepository(t *testing.T) {
	if *update {
		if err := os.RemoveAll(goldenDir); err != nil {
			t.Fatal(err)
		}
		writeGoldenArchive(t, goldenDir)
		if err := os.RemoveAll(filepath.Join(goldenDir, ".pgkeep-tmp")); err != nil {
			t.Fatal(err)
		}
	}
	dir, err := filepath.Abs(goldenDir)
	if err != nil {
		t.Fatal(err)
	}
	st := openDirectory(t, dir, file.Options{})
	seen := Look(t.Context(), st, ObserveOptions{Location: "golden"})
	if seen.Unknown != nil {
		t.Fatalf("%+v", seen.Unknown)
	}
	seen.Free, seen.Total, seen.Now, seen.FstabMount = 0, 0, time.Time{}, ""
	got, err := json.MarshalIndent(seen, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	compareGolden(t, goldenDir+".json", append(got, '\n'))
	r, err := Open(t.Context(), st)
	if err != nil {
		t.Fatal(err)
	}
	readGoldenArchive(t, r.Cluster(archiveName, archiveID))
	if _, err := os.Stat(filepath.Join(goldenDir, ".pgkeep-tmp")); err == nil {
		t.Error("reading a repository wrote to it")
	}
}

func compareGolden(t *testing.T, name string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("%s (-want +got):\n%s", name, d)
	}
}

// goldenSegment is the n-th segment of the golden archive: enough pattern to be told from others.
func goldenSegment(seg wal.Segment) []byte {
	b := plainSegment(seg, mib)
	for i := range 4096 {
		b[8192+i] = byte(i*int(seg.Number) + i>>8)
	}
	return b
}

// writeGoldenArchive writes one of everything, and a segment with each compression.
func writeGoldenArchive(t *testing.T, dir string) {
	path, err := filepath.Abs(dir)
	if err != nil {
		t.Fatal(err)
	}
	st := openDirectory(t, path, file.Options{})
	c := newArchive(t, st, mib)
	for i, a := range []seal.Algorithm{seal.Zstd, seal.Gzip, seal.LZ4} {
		r, err := c.repo.WithCompression(seal.Codec{Algorithm: a})
		if err != nil {
			t.Fatal(err)
		}
		c = r.Cluster(archiveName, archiveID)
		seg := wal.Segment{Timeline: 1, Number: uint64(4094 + i)}
		sum := summaryOf(seg, mib)
		sum.RestorePoints = []wal.RestorePoint{{Name: "before " + string(a), LSN: seg.Start(mib) + 100, Time: archiveEpoch}}
		if err := c.PutSegment(t.Context(), seg, sum, bytes.NewReader(goldenSegment(seg))); err != nil {
			t.Fatal(err)
		}
		part := wal.Segment{Timeline: wal.Timeline(i + 1), Number: 4097}
		if err := c.PutPartial(t.Context(), part, part.Start(mib)+wal.LSN(8192*(i+2)), bytes.NewReader(goldenSegment(part))); err != nil {
			t.Fatal(err)
		}
		if err := c.PutHistory(t.Context(), wal.Timeline(i+2), fmt.Appendf(nil, "1\t1/%d00100\tno recovery target specified\n", i+1)); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.WriteIndex(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	gap := state.Gap{Range: wal.Range{Timeline: 1, From: 0x1000000, To: 0xFFE00000}, Reason: "slot pgkeep_orders was lost", Recorded: archiveEpoch}
	if err := c.RecordGap(t.Context(), gap); err != nil {
		t.Fatal(err)
	}
	if err := c.PutJournal(t.Context(), archiveEpoch, map[string]string{"step": "server.orders/slot"}); err != nil {
		t.Fatal(err)
	}
	if err := c.PutEvidence(t.Context(), archiveEpoch, map[string]int{"commits": 42}); err != nil {
		t.Fatal(err)
	}
}

func readGoldenArchive(t *testing.T, c *Cluster) {
	for n := range uint64(3) {
		seg := wal.Segment{Timeline: 1, Number: 4094 + n}
		w, err := c.OpenSegment(t.Context(), seg)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(w)
		w.Close()
		if err != nil || !bytes.Equal(got, goldenSegment(seg)) || len(w.Summary().RestorePoints) != 1 {
			t.Errorf("segment %d: %d bytes, %+v, %v", seg.Number, len(got), w.Summary(), err)
		}
		part := wal.Segment{Timeline: wal.Timeline(n + 1), Number: 4097}
		w, end, err := c.OpenPartial(t.Context(), part)
		if err != nil {
			t.Fatal(err)
		}
		got, err = io.ReadAll(w)
		w.Close()
		if err != nil || !bytes.Equal(got, goldenSegment(part)[:8192*(n+2)]) || end != part.Start(mib)+wal.LSN(8192*(n+2)) {
			t.Errorf("partial of timeline %d: %d bytes to %s, %v", part.Timeline, len(got), end, err)
		}
	}
	var notes []string
	for n, err := range c.Journal(t.Context(), time.Time{}) {
		if err != nil {
			t.Fatal(err)
		}
		notes = append(notes, compact(n))
	}
	for n, err := range c.Evidence(t.Context(), time.Time{}) {
		if err != nil {
			t.Fatal(err)
		}
		notes = append(notes, compact(n))
	}
	if want := []string{`{"step":"server.orders/slot"}`, `{"commits":42}`}; !slices.Equal(notes, want) {
		t.Errorf("notes %q, want %q", notes, want)
	}
}
