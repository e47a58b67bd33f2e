package spool

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/pgkeep/pgkeep/state/wal"
)

// TestZerosBehindWAL looks at an unfinished segment that ends anywhere, in a file that grew and in one that was prepared with zeros: the
// second must show as much, and nothing that did not come.
func TestZerosBehindWAL(t *testing.T) {
	s := wantWAL(t)
	system, err := strconv.ParseUint(s.system, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	look := func(seg wal.Segment, content []byte, length int64) extent {
		path := filepath.Join(dir, "partial")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if length > 0 {
			if err := os.Truncate(path, length); err != nil {
				t.Fatal(err)
			}
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		v := inventory{complete: map[wal.Segment]bool{}}
		if seg != s.first {
			prev := wal.Segment{Timeline: 1, Number: seg.Number - 1}
			v.complete[prev] = false
			if err := os.WriteFile(filepath.Join(dir, prev.Name(mib)), s.from(prev.Start(mib))[:mib], 0o600); err != nil {
				t.Fatal(err)
			}
		}
		x, err := inspect(f, seg, partsOf(dir, mib, system, &v))
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	for seg, i := s.first, 0; i < 4; seg, i = seg.Next(), i+1 {
		start := seg.Start(mib)
		for _, n := range ends() {
			at := start + wal.LSN(n)
			truth := s.from(start)[:mib]
			grown, zeros := look(seg, truth[:n], 0), look(seg, truth[:n], mib)
			if zeros.valid < grown.valid || zeros.known < grown.known {
				t.Errorf("up to %s: %+v with zeros behind, %+v without", at, zeros, grown)
			}
			for _, b := range truth[n:max(int64(zeros.valid-start), n)] {
				if b != 0 {
					t.Fatalf("up to %s: %+v is past bytes that did not come", at, zeros)
				}
			}
		}
	}
}

// TestNoiseBehindWAL looks at an unfinished segment behind whose end a torn write has left noise: it must not show any of it, also not
// in the bytes that align records, which no checksum covers.
func TestNoiseBehindWAL(t *testing.T) {
	s := wantWAL(t)
	system, err := strconv.ParseUint(s.system, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	start := s.first.Start(mib)
	truth := s.from(start)[:mib]
	f, err := os.Create(filepath.Join(t.TempDir(), "partial"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	noise := bytes.Repeat([]byte("torn"), 4096)
	padded := 0
	for n := int64(20 * wal.PageSize); n < 21*wal.PageSize; n++ {
		for at, b := range map[int64][]byte{0: truth[:n], n: noise} {
			if _, err := f.WriteAt(b, at); err != nil {
				t.Fatal(err)
			}
		}
		x, err := inspect(f, s.first, partsOf(t.TempDir(), mib, system, &inventory{complete: map[wal.Segment]bool{}}))
		if err != nil {
			t.Fatal(err)
		}
		if x.valid > start+wal.LSN(n) {
			t.Fatalf("up to %s: %+v shows noise", start+wal.LSN(n), x)
		}
		if x.valid%8 != 0 {
			padded++
		}
	}
	if padded == 0 {
		t.Error("no record ended before bytes that align the next: this has shown nothing")
	}
}

// ends are lengths at the borders of pages and headers, and some others.
func ends() []int64 {
	var out []int64
	for page := int64(0); page <= mib; page += 16 * wal.PageSize {
		for _, d := range []int64{-9, -8, -1, 0, 1, 2, 4, 8, 16, 20, 24, 31, 32, 39, 40, 41, 48, 56, 64, 100, 4321} {
			if n := page + d; n >= 0 && n <= mib {
				out = append(out, n)
			}
		}
	}
	return out
}
