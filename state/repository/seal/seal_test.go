package seal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"

	"github.com/klauspost/compress/zstd"
	"github.com/pgkeep/pgkeep/state/host/hosttest"
)

// codecs are one fast and one thorough setting of each algorithm.
func codecs() []Codec {
	return []Codec{{Zstd, 1}, {Zstd, 12}, {Gzip, 1}, {Gzip, 9}, {LZ4, 1}, {LZ4, 9}}
}

// sample gives n bytes that compress about as WAL does: runs, repeats and noise.
func sample(n int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	out := make([]byte, 0, n+4096)
	for len(out) < n {
		switch r.IntN(3) {
		case 0:
			out = append(out, make([]byte, r.IntN(2000))...)
		case 1:
			for range r.IntN(300) {
				out = append(out, byte(r.Uint32()))
			}
		case 2:
			if len(out) > 0 {
				at := r.IntN(len(out))
				out = append(out, out[at:min(len(out), at+r.IntN(3000))]...)
			}
		}
	}
	return out[:n]
}

func pack(t testing.TB, c Codec, kind string, info any, plain []byte) []byte {
	t.Helper()
	p, err := NewPacker(c, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return packWith(t, p, kind, info, plain)
}

func packWith(t testing.TB, p *Packer, kind string, info any, plain []byte) []byte {
	t.Helper()
	o, err := p.Pack(kind, info, bytes.NewReader(plain), int64(len(plain)))
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	out, err := io.ReadAll(io.NewSectionReader(o, 0, o.Size()))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func open(stored []byte) (Meta, []byte, error) {
	r, err := Open(bytes.NewReader(stored))
	if err != nil {
		return Meta{}, nil, err
	}
	defer r.Close()
	plain, err := io.ReadAll(r)
	return r.Meta(), plain, err
}

// TestObjectRoundTrip packs with one Packer again and again: what one object leaves behind must not reach the next.
func TestObjectRoundTrip(t *testing.T) {
	for _, c := range codecs() {
		p, err := NewPacker(c, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{0, 1, 8192, 1 << 20, 5<<20 + 3} {
			plain := sample(n, uint64(n))
			m, got, err := open(packWith(t, p, "segment", map[string]int{"n": n}, plain))
			if err != nil {
				t.Fatalf("%v, %d bytes: %v", c, n, err)
			}
			if !bytes.Equal(got, plain) || m.Kind != "segment" || string(m.Info) != fmt.Sprintf(`{"n":%d}`, n) {
				t.Fatalf("%v, %d bytes: other bytes or metadata came back: %s", c, n, m.Info)
			}
		}
	}
}

// TestToolsRead proves the promise of README.txt: the compression's own tool gives the plain bytes, of objects with small and
// with large notes and of frames.
func TestToolsRead(t *testing.T) {
	for _, c := range codecs() {
		tool := string(c.Algorithm)
		if !hosttest.Can(t, hosttest.Program(tool)) {
			continue // its format is checked by our own reader alone
		}
		plain := sample(3<<20+11, 7)
		for _, noteSize := range []int{10, 200_000} {
			stored := pack(t, c, "segment", bytes.Repeat([]byte("n"), noteSize), plain)
			if got := runTool(t, tool, stored); !bytes.Equal(got, plain) {
				t.Errorf("%s -dc of an object (note of %d bytes) gave %d other bytes", tool, noteSize, len(got))
			}
		}
		f, err := NewFramer(c)
		if err != nil {
			t.Fatal(err)
		}
		var volume []byte
		for at := 0; at < len(plain); at += 512 << 10 {
			if volume, err = f.Frame(volume, plain[at:min(len(plain), at+512<<10)]); err != nil {
				t.Fatal(err)
			}
		}
		volume = f.Note(volume, []byte("seek table"))
		if got := runTool(t, tool, volume); !bytes.Equal(got, plain) {
			t.Errorf("%s -dc of a volume gave %d other bytes", tool, len(got))
		}
	}
}

func runTool(t *testing.T, tool string, stored []byte) []byte {
	t.Helper()
	cmd := exec.Command(tool, "-dc")
	cmd.Stdin = bytes.NewReader(stored)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		t.Errorf("%s -dc: %v: %s", tool, err, complaint.String())
	}
	return out
}

// TestEveryBitCounts flips bits all over an object: each flip is found, as ErrCorrupt, by reading it.
func TestEveryBitCounts(t *testing.T) {
	for _, c := range codecs() {
		stored := pack(t, c, "segment", "here", sample(20_000, 3))
		step := max(1, len(stored)*8/700)
		for bit := 0; bit < len(stored)*8; bit += step {
			bad := bytes.Clone(stored)
			bad[bit/8] ^= 1 << (bit % 8)
			if _, _, err := open(bad); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("%v: bit %d flipped: %v", c, bit, err)
			}
		}
		for _, bad := range [][]byte{
			nil, stored[:1], stored[:len(stored)/2], stored[:len(stored)-1], append(bytes.Clone(stored), 0),
			append(bytes.Clone(stored), stored...),
		} {
			if _, _, err := open(bad); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("%v: %d of %d bytes: %v", c, len(bad), len(stored), err)
			}
		}
	}
}

// TestStoreErrorIsNotCorruption keeps a broken connection from being reported as broken bytes.
func TestStoreErrorIsNotCorruption(t *testing.T) {
	cut := errors.New("connection reset")
	for _, c := range codecs() {
		stored := pack(t, c, "segment", "here", sample(1<<20, 3))
		for _, at := range []int{0, 10, len(stored) / 2} {
			r, err := Open(io.MultiReader(bytes.NewReader(stored[:at]), failing{cut}))
			if err == nil {
				_, err = io.ReadAll(r)
			}
			if !errors.Is(err, cut) || errors.Is(err, ErrCorrupt) {
				t.Errorf("%v cut after %d bytes: %v", c, at, err)
			}
		}
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// TestFrames is a property: any pieces come back from their frames, and a limit below their length refuses them.
func TestFrames(t *testing.T) {
	d, err := NewDeframer()
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, c := range codecs() {
		f, err := NewFramer(c)
		if err != nil {
			t.Fatal(err)
		}
		rapid.Check(t, func(t *rapid.T) {
			raw := sample(rapid.IntRange(0, 600<<10).Draw(t, "n"), rapid.Uint64().Draw(t, "seed"))
			frame, err := f.Frame([]byte("before"), raw)
			if err != nil {
				t.Fatal(err)
			}
			frame = bytes.TrimPrefix(frame, []byte("before"))
			got, err := d.Frame([]byte("kept"), frame, len(raw))
			if err != nil || !bytes.Equal(got, append([]byte("kept"), raw...)) {
				t.Fatalf("%v: %v", c, err)
			}
			if len(raw) > 0 {
				if _, err := d.Frame(nil, frame, len(raw)-1); !errors.Is(err, ErrCorrupt) {
					t.Fatalf("%v: a frame over the limit: %v", c, err)
				}
			}
			if _, err := d.Frame(nil, append(bytes.Clone(frame), frame...), 2*len(raw)+1); c.Algorithm == Zstd && len(raw) > 0 && !errors.Is(err, ErrCorrupt) {
				t.Fatalf("%v: two frames as one: %v", c, err)
			}
		})
	}
}

// TestBomb feeds frames that claim or hold far more than they may: refused without the memory being given.
func TestBomb(t *testing.T) {
	d, err := NewDeframer()
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, c := range codecs() {
		f, err := NewFramer(c)
		if err != nil {
			t.Fatal(err)
		}
		bomb, err := f.Frame(nil, make([]byte, MaxFrame))
		if err != nil {
			t.Fatal(err)
		}
		if out, err := d.Frame(nil, bomb, 512<<10); !errors.Is(err, ErrCorrupt) || cap(out) > 2<<20 {
			t.Errorf("%v: %v, %d bytes given", c, err, cap(out))
		}
	}
	// A zstd frame whose header asks for a window of 2 GiB.
	huge := []byte{0x28, 0xB5, 0x2F, 0xFD, 0x00, 0xA8, 0, 0, 0}
	if _, err := d.Frame(nil, huge, 1<<20); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a window of 2 GiB: %v", err)
	}
	// A good frame of 4 KiB that asks for a window of 64 MiB.
	wide, err := zstd.NewWriter(nil, zstd.WithSingleSegment(false))
	if err != nil {
		t.Fatal(err)
	}
	defer wide.Close()
	var streamed bytes.Buffer
	wide.ResetContentSize(&streamed, 4<<10)
	if _, err := wide.Write(make([]byte, 4<<10)); err != nil {
		t.Fatal(err)
	}
	if err := wide.Close(); err != nil {
		t.Fatal(err)
	}
	streamed.Bytes()[5] = 16 << 3 // the window's exponent, from 1 KiB on
	var h zstd.Header
	if err := h.Decode(streamed.Bytes()); err != nil || h.SingleSegment || h.WindowSize != 64<<20 || !h.HasFCS {
		t.Fatalf("this shows nothing: %+v, %v", h, err)
	}
	if _, err := d.Frame(nil, streamed.Bytes(), 1<<20); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a window of 64 MiB: %v", err)
	}
	if r, err := newDecompressor(bytes.NewReader(huge)); err == nil {
		if _, err = io.ReadAll(r); err == nil {
			t.Error("a stream with a window of 2 GiB was read")
		}
	}
}

// TestSpill packs an object that does not fit into memory: it goes to a file that no directory shows.
func TestSpill(t *testing.T) {
	dir := t.TempDir()
	s := &spill{dir: dir, at: 1000}
	plain := sample(10_000, 5)
	for at := 0; at < len(plain); at += 700 {
		if _, err := s.Write(plain[at:min(len(plain), at+700)]); err != nil {
			t.Fatal(err)
		}
	}
	if names, _ := filepath.Glob(filepath.Join(dir, "*")); len(names) != 0 {
		t.Errorf("the spill file has a name: %v", names)
	}
	rapid.Check(t, func(t *rapid.T) {
		at := rapid.IntRange(0, len(plain)-1).Draw(t, "at")
		n := rapid.IntRange(0, len(plain)-at).Draw(t, "n")
		got := make([]byte, n)
		if m, err := s.ReadAt(got, int64(at)); m != n || err != nil || !bytes.Equal(got, plain[at:at+n]) {
			t.Fatalf("read %d at %d: %d, %v", n, at, m, err)
		}
	})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := (&spill{dir: filepath.Join(dir, "absent"), at: 1}).Write(plain); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no scratch directory: %v", err)
	}
}

func TestCodecCheck(t *testing.T) {
	for _, c := range append(codecs(), Codec{}) {
		if err := c.Check(); err != nil {
			t.Error(err)
		}
	}
	for _, c := range []Codec{{"bzip2", 1}, {Zstd, 20}, {Zstd, -1}, {Gzip, 10}, {LZ4, 10}} {
		if c.Check() == nil {
			t.Errorf("%v was accepted", c)
		}
		if _, err := NewPacker(c, ""); err == nil {
			t.Errorf("a packer of %v was made", c)
		}
		if _, err := NewFramer(c); err == nil {
			t.Errorf("a framer of %v was made", c)
		}
	}
}

// FuzzOpen reads arbitrary bytes as an object: no panic, no memory beyond what a window needs, and only ErrCorrupt.
func FuzzOpen(f *testing.F) {
	for _, c := range codecs() {
		f.Add(pack(f, c, "segment", "here", sample(3000, 9)))
	}
	f.Fuzz(func(t *testing.T, stored []byte) {
		if _, _, err := open(stored); err != nil && !errors.Is(err, ErrCorrupt) {
			t.Errorf("%v", err)
		}
		if _, _, err := ReadMeta(stored); err != nil && !errors.Is(err, ErrCorrupt) {
			t.Errorf("%v", err)
		}
	})
}

// FuzzFrame reads arbitrary bytes as a frame and as a note.
func FuzzFrame(f *testing.F) {
	for _, c := range codecs() {
		framer, err := NewFramer(c)
		if err != nil {
			f.Fatal(err)
		}
		frame, _ := framer.Frame(nil, sample(3000, 9))
		f.Add(frame)
		f.Add(framer.Note(nil, []byte("note")))
	}
	d, err := NewDeframer()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if out, err := d.Frame(nil, b, 1<<20); err != nil && !errors.Is(err, ErrCorrupt) {
			t.Errorf("%v", err)
		} else if err == nil && len(out) > 1<<20 {
			t.Errorf("%d bytes came out of a frame of at most 1 MiB", len(out))
		}
		if _, _, err := CutNote(b); err != nil && !errors.Is(err, ErrCorrupt) {
			t.Errorf("%v", err)
		}
	})
}

func BenchmarkPack(b *testing.B) {
	plain := sample(16<<20, 1)
	for _, c := range []Codec{{Zstd, 1}, {Gzip, 1}, {LZ4, 1}} {
		b.Run(string(c.Algorithm), func(b *testing.B) {
			p, err := NewPacker(c, b.TempDir())
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(plain)))
			for b.Loop() {
				o, err := p.Pack("segment", nil, bytes.NewReader(plain), int64(len(plain)))
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(len(plain))/float64(o.Size()), "ratio")
				o.Close()
			}
		})
	}
}
