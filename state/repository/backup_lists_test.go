package repository

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/pgkeep/pgkeep/state/repository/seal"
)

// scattered is a file of which every other page lies in another backup: n extents in frames of two backups.
func scattered(path string, n int) *File {
	f := &File{Path: path, Type: RegularFile, Mode: 0o600, Size: int64(n) * pageSize, CRC32C: 0xFFFFFFFF, ModTime: unixTime(1 << 33)}
	const pages = maxFrame / pageSize
	for i := range n {
		if i%pages < 2 {
			at := frameAt{volume: 1_000_000 + i, offset: maxVolume - 400_000, stored: 400_000, raw: maxFrame, sum: ^uint64(0)}
			if i%2 == 0 {
				at.backup = fmt.Sprintf("20261123T234525Z-I-7acf%04x", i/pages%7)
			}
			f.frames = append(f.frames, at)
		}
		f.Extents = append(f.Extents, Extent{Offset: int64(i) * pageSize, Length: pageSize, frame: i/pages*2 + i%2, in: i % pages * pageSize})
	}
	return f
}

// TestListsStayShort writes lists of files of all kinds: no list is longer than readers expect, but that of a file which alone needs
// more, and each is read again as it was written.
func TestListsStayShort(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var files []*File
	for i := range 60_000 {
		files = append(files, scattered(fmt.Sprintf("base/16384/%d", i), 1+r.IntN(3)))
	}
	for i := range 40 {
		files = append(files, scattered(fmt.Sprintf("base/16385/%d_<&>", i), 1+r.IntN(60_000)))
	}
	files = append(files,
		scattered(strings.Repeat("<", 4000), 1),
		scattered("\xff\xfe", 1),
		&File{Path: "pg_tblspc/1", Type: SymbolicLink, Link: strings.Repeat("&", 3000), Mode: 0o777, ModTime: unixTime(1)},
		scattered("base/16386/long", 400_000), // of a server whose files are longer than a gigabyte
		scattered("base/16386/after", 3))
	w := fileShardWriter{backup: "20261123T234525Z-I-7acf65a7"}
	read, alone := 0, 0
	framer, err := seal.NewFramer(seal.Codec{Algorithm: seal.Zstd, Level: 1})
	check(t, err)
	d, err := seal.NewDeframer()
	check(t, err)
	defer d.Close()
	number := 0
	put := func(_ string, raw []byte) error {
		stored, err := framer.Frame(nil, raw)
		check(t, err)
		again, err := d.Frame(nil, stored, maxShard)
		check(t, err)
		members, err := decodeFileShard(again, w.backup, number)
		check(t, err)
		number++
		if len(raw) > shardSize {
			alone++
			if len(members) > 1 {
				t.Errorf("a list of %d bytes has %d members", len(raw), len(members))
			}
		}
		for i := range members {
			want := files[read]
			read++
			got := members[i]
			if got.Path != want.Path || got.Size != want.Size || len(got.Extents) != len(want.Extents) {
				t.Fatalf("member %d: %q of %d bytes, want %q of %d", read, got.Path, got.Size, want.Path, want.Size)
			}
			for k, x := range got.Extents {
				y := want.Extents[k]
				if x.Offset != y.Offset || x.Length != y.Length || x.in != y.in || got.frames[x.frame] != want.frames[y.frame] {
					t.Fatalf("%q: extent %d is %+v in %+v", got.Path, k, x, got.frames[x.frame])
				}
			}
		}
		return nil
	}
	for _, f := range files {
		check(t, w.add(f, put))
	}
	check(t, w.flush(put))
	if read != len(files) || alone != 1 {
		t.Errorf("%d of %d members are read again, %d lists are longer than %d bytes", read, len(files), alone, shardSize)
	}
}

// TestHashesStayShort writes hashes of few long files and of many short ones.
func TestHashesStayShort(t *testing.T) {
	for name, pages := range map[string][]int{"long": slices.Repeat([]int{131_072}, 9), "short": slices.Repeat([]int{1}, 200_000), "mixed": slices.Repeat([]int{3, 5000, 1}, 300)} {
		t.Run(name, func(t *testing.T) {
			w := hashShardWriter{backup: "20261123T234525Z-I-7acf65a7", seed: ^uint64(0)}
			want, got, number := 0, 0, 0
			put := func(_ string, raw []byte) error {
				if len(raw) > shardSize {
					t.Errorf("a shard of %d bytes", len(raw))
				}
				h, hashes, err := decodeHashShard(raw, w.backup, number)
				check(t, err)
				number++
				got += len(hashes) / hashSize
				if len(h.Runs) == 0 {
					t.Error("a shard of no runs")
				}
				return nil
			}
			for i, n := range pages {
				f := &File{Path: fmt.Sprintf("base/16384/%d%s", i, strings.Repeat("x", i%3*1000%4000))}
				for first := 0; first < n; first += maxFrame / pageSize {
					k := min(n-first, maxFrame/pageSize)
					want += k
					check(t, w.add(f, int64(first), make([]byte, k*hashSize), put))
				}
			}
			check(t, w.flush(put))
			if got != want {
				t.Errorf("%d of %d hashes are read again", got, want)
			}
		})
	}
}

// TestReferencesNameEachFrameOnce: pages that lie by turns in two frames of others need two frames in the list and no more.
func TestReferencesNameEachFrameOnce(t *testing.T) {
	a, b := frameAt{backup: "a", raw: maxFrame, stored: 1}, frameAt{backup: "b", raw: maxFrame, stored: 1}
	f := &openFile{File: File{Size: 8 * pageSize}}
	var want []frameAt
	for i := range 8 {
		at := []frameAt{a, b}[i%2]
		f.refer(int64(i)*pageSize, pageSize, at, i*pageSize)
		want = append(want, at)
	}
	r := &referring{volumes: map[volumeKey]int64{}}
	check(t, r.complete(f))
	var got []frameAt
	for _, x := range f.Extents {
		got = append(got, f.frames[x.frame])
	}
	if len(f.frames) != 2 || !reflect.DeepEqual(got, want) {
		t.Errorf("%d frames, extents in %v", len(f.frames), got)
	}
}
