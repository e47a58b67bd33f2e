package postgres_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"iter"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/wal"
)

// incremental makes the head of an INCREMENTAL file as the server does, with the words given.
func incremental(words ...uint32) []byte {
	var b []byte
	for _, w := range words {
		b = binary.LittleEndian.AppendUint32(b, w)
	}
	if len(words) > 3 {
		b = append(b, make([]byte, -len(b)&(postgres.PageBytes-1))...)
	}
	return b
}

func TestReadIncrementalFile(t *testing.T) {
	const magic, page = 0xd3ae1f0d, postgres.PageBytes
	many := []uint32{magic, 2046, 5000}
	for b := range uint32(2046) {
		many = append(many, 2*b)
	}
	for _, c := range []struct {
		name  string
		head  []byte
		pages int64 // beside the head
		want  postgres.IncrementalFile
		fails string
	}{
		{"nothing changed", incremental(magic, 0, 7), 0, postgres.IncrementalFile{Blocks: []uint32{}, Least: 7, Pages: 7}, ""},
		{"some pages", incremental(magic, 2, 7, 3, 6), 2, postgres.IncrementalFile{Blocks: []uint32{3, 6}, Least: 7, Pages: 7}, ""},
		{"a page behind the least length", incremental(magic, 2, 4, 3, 9), 2, postgres.IncrementalFile{Blocks: []uint32{3, 9}, Least: 4, Pages: 10}, ""},
		{"a head of two pages", incremental(many...), 2046, postgres.IncrementalFile{Blocks: many[3:], Least: 5000, Pages: 5000}, ""},
		{"longer than a segment, as before 17.8", incremental(magic, 0, 200000), 0, postgres.IncrementalFile{Blocks: []uint32{}, Least: 131072, Pages: 131072}, ""},
		{"another file", incremental(0xd3ae1f0e, 0, 7), 0, postgres.IncrementalFile{}, "magic"},
		{"too many pages", incremental(magic, 131073, 7), 131073, postgres.IncrementalFile{}, "131073 pages"},
		{"a page twice", incremental(magic, 2, 7, 3, 3), 2, postgres.IncrementalFile{}, "do not rise"},
		{"pages that fall", incremental(magic, 2, 7, 3, 2), 2, postgres.IncrementalFile{}, "do not rise"},
		{"a page of the next segment", incremental(magic, 1, 7, 131072), 1, postgres.IncrementalFile{}, "segment"},
		{"a page is missing", incremental(magic, 2, 7, 3, 4), 1, postgres.IncrementalFile{}, "make 24576"},
		{"cut in the words", incremental(magic, 0, 7)[:9], 0, postgres.IncrementalFile{}, "unexpected EOF"},
		{"cut in the numbers", incremental(magic, 2, 7, 3, 4)[:18], 2, postgres.IncrementalFile{}, "unexpected EOF"},
	} {
		t.Run(c.name, func(t *testing.T) {
			size := int64(len(c.head))
			if c.pages > 0 {
				size = (size+page-1)/page*page + c.pages*page
			}
			r := bytes.NewReader(append(bytes.Clone(c.head), "page"...))
			if strings.HasPrefix(c.name, "cut") {
				r = bytes.NewReader(c.head)
			}
			got, err := postgres.ReadIncrementalFile(r, size)
			if c.fails != "" {
				if err == nil || !strings.Contains(err.Error(), c.fails) {
					t.Fatalf("%+v, %v; want %q", got, err, c.fails)
				}
				return
			}
			if err != nil || r.Len() != 4 {
				t.Fatalf("%v, %d bytes left", err, r.Len())
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

// FuzzReadIncrementalFile: whatever comes, the head accounts for the file's size, and its pages rise and lie in the file.
func FuzzReadIncrementalFile(f *testing.F) {
	f.Add(incremental(0xd3ae1f0d, 0, 7), int64(12))
	f.Add(incremental(0xd3ae1f0d, 2, 7, 3, 6), int64(3*postgres.PageBytes))
	f.Fuzz(func(t *testing.T, head []byte, size int64) {
		r := bytes.NewReader(head)
		got, err := postgres.ReadIncrementalFile(r, size)
		if err != nil {
			return
		}
		if read := int64(len(head) - r.Len()); read+int64(len(got.Blocks))*postgres.PageBytes != size || got.Pages > postgres.SegmentPages || got.Least > got.Pages {
			t.Fatalf("%+v from %d of %d bytes", got, read, size)
		}
		last := -1
		for _, b := range got.Blocks {
			if int(b) <= last || b >= got.Pages {
				t.Fatalf("%+v", got)
			}
			last = int(b)
		}
	})
}

func TestIncrementalName(t *testing.T) {
	for path, want := range map[string]string{
		"base/5/INCREMENTAL.16384": "base/5/16384", "base/5/INCREMENTAL.16384.2": "base/5/16384.2", "INCREMENTAL.1": "1",
		"base/5/16384": "", "base/INCREMENTAL.5/16384": "", "base/5/INCREMENTAL.": "", "base/5/xINCREMENTAL.7": "",
	} {
		got, ok := postgres.IncrementalName(path)
		if ok != (want != "") || ok && got != want {
			t.Errorf("%s is of %q, %v", path, got, ok)
		}
	}
}

func TestFullLabel(t *testing.T) {
	got := string(postgres.FullLabel([]byte("START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\nSTART TIMELINE: 1\nINCREMENTAL FROM LSN: 0/1000028\nINCREMENTAL FROM TLI: 1\nLABEL: INCREMENTAL FROM LSN: x\n")))
	if want := "START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\nSTART TIMELINE: 1\nLABEL: INCREMENTAL FROM LSN: x\n"; got != want {
		t.Errorf("%q", got)
	}
}

func filesOf(files []postgres.ManifestFile, err error) iter.Seq2[postgres.ManifestFile, error] {
	return func(yield func(postgres.ManifestFile, error) bool) {
		for _, f := range files {
			if !yield(f, nil) {
				return
			}
		}
		if err != nil {
			yield(postgres.ManifestFile{}, err)
		}
	}
}

func TestComposeManifest(t *testing.T) {
	at := time.Date(2026, 2, 10, 21, 16, 17, 0, time.UTC)
	for _, files := range [][]postgres.ManifestFile{
		nil,
		{{Path: "base/5/16384", Size: 8192, ModTime: at}},
		{{Path: "base/5/16384", Size: 1 << 30, ModTime: at, Algorithm: "CRC32C", Checksum: "0a1b2c3d"}, {Path: "odd \" \xff", ModTime: at}},
	} {
		want := postgres.Manifest{Version: 2, SystemID: "7335180256203400928", Files: files, WALRanges: []wal.Range{{Timeline: 3, From: 0x2000028, To: 0x16B374D848}}}
		var b bytes.Buffer
		if err := postgres.ComposeManifest(&b, want, filesOf(files, nil)); err != nil {
			t.Fatal(err)
		}
		got, err := postgres.ParseManifest(&b)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	}
	broken := errors.New("a list that cannot be read")
	if err := postgres.ComposeManifest(new(bytes.Buffer), postgres.Manifest{SystemID: "7"}, filesOf(nil, broken)); !errors.Is(err, broken) {
		t.Error(err)
	}
}

// TestIncrementalRefused: what the server will not build on is told apart, and the session takes a full backup then.
func TestIncrementalRefused(t *testing.T) {
	for _, v := range pgtest.SomeVersions(t, 17) {
		if v < 17 {
			continue
		}
		s := pgtest.Start(t, pgtest.Options{Version: v})
		r := walsender(t, s.Conninfo())
		full := &directory{dir: pgtest.TempDir(t)}
		if _, err := r.BaseBackup(t.Context(), postgres.BackupOptions{Checkpoint: "fast"}, full); err != nil {
			t.Fatal(err)
		}
		for name, manifest := range map[string]string{"summarize_wal is off": string(full.manifest), "no manifest": "{}"} {
			sink := &directory{dir: pgtest.TempDir(t)}
			_, err := r.BaseBackup(t.Context(), postgres.BackupOptions{Checkpoint: "fast", Incremental: strings.NewReader(manifest)}, sink)
			var refused *postgres.RefusedError
			if !errors.As(err, &refused) || refused.Why == "" || sink.start.LSN != 0 {
				t.Fatalf("%s: %v", name, err)
			}
			if _, err := r.BaseBackup(t.Context(), postgres.BackupOptions{Checkpoint: "fast"}, sink); err != nil {
				t.Fatalf("after it: %v", err)
			}
		}
	}
}
