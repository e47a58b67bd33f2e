package wal

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// writer makes WAL the way PostgreSQL does, for the shapes that a server seldom writes.
type writer struct {
	size  SegmentSize
	magic uint16
	tli   Timeline
	out   []byte // from LSN 0 of the first segment on
	base  LSN
	prev  LSN
}

const testSystem = 42

func newWriter(z SegmentSize, magic uint16) *writer {
	return &writer{size: z, magic: magic, tli: 1, base: LSN(z)}
}

func (w *writer) at() LSN { return w.base + LSN(len(w.out)) }

// pageHeader begins a page when the writer stands at one.
func (w *writer) pageHeader(remaining int) {
	if w.at()%PageSize != 0 {
		return
	}
	h := make([]byte, w.size.headerLength(w.at()))
	info := uint16(0)
	if remaining > 0 {
		info |= pageContinues
	}
	if len(h) == longHeader {
		info |= pageLong
		binary.LittleEndian.PutUint64(h[24:], testSystem)
		binary.LittleEndian.PutUint32(h[32:], uint32(w.size))
		binary.LittleEndian.PutUint32(h[36:], PageSize)
	}
	binary.LittleEndian.PutUint16(h, w.magic)
	binary.LittleEndian.PutUint16(h[2:], info)
	binary.LittleEndian.PutUint32(h[4:], uint32(w.tli))
	binary.LittleEndian.PutUint64(h[8:], uint64(w.at()))
	binary.LittleEndian.PutUint32(h[16:], uint32(remaining))
	w.out = append(w.out, h...)
}

// record appends one record and gives its start and end.
func (w *writer) record(resource, info uint8, xid uint32, body []byte) (LSN, LSN) {
	w.pageHeader(0)
	start := w.at()
	b := make([]byte, recordHeader, recordHeader+len(body))
	binary.LittleEndian.PutUint32(b, uint32(recordHeader+len(body)))
	binary.LittleEndian.PutUint32(b[4:], xid)
	binary.LittleEndian.PutUint64(b[8:], uint64(w.prev))
	b[16], b[17] = info, resource
	table := crc32.MakeTable(crc32.Castagnoli)
	crc := crc32.Update(crc32.Update(0, table, body), table, b[:recordCRC])
	binary.LittleEndian.PutUint32(b[recordCRC:], crc)
	b = append(b, body...)
	for len(b) > 0 {
		w.pageHeader(len(b))
		n := min(len(b), int(PageSize-w.at()%PageSize))
		w.out, b = append(w.out, b[:n]...), b[n:]
	}
	for w.at()%8 != 0 {
		w.out = append(w.out, 0)
	}
	w.prev = start
	return start, w.at()
}

// short wraps main data of at most 255 bytes.
func short(data []byte) []byte { return append([]byte{idDataShort, byte(len(data))}, data...) }

// long wraps main data of any length.
func long(data []byte) []byte {
	return append(binary.LittleEndian.AppendUint32([]byte{idDataLong}, uint32(len(data))), data...)
}

func (w *writer) scan(t testing.TB, visit func(Event) error) []Summary {
	t.Helper()
	s := NewScanner(w.size, testSystem, w.tli)
	var out []Summary
	seg := w.size.SegmentAt(w.tli, w.base)
	for b := w.out; len(b) > 0; seg = seg.Next() {
		n := min(len(b), int(w.size))
		sum, err := s.Segment(seg, bytes.NewReader(b[:n]), visit)
		if err != nil {
			t.Fatal(err)
		}
		out, b = append(out, sum), b[n:]
	}
	return out
}

// TestRecordsOfEveryLength writes records of random lengths, up to several segments, and reads them back.
func TestRecordsOfEveryLength(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWriter(1<<20, 0xD110)
		type place struct{ start, end LSN }
		var want []place
		for _, n := range rapid.SliceOfN(rapid.OneOf(rapid.IntRange(0, 300), rapid.IntRange(8000, 9000), rapid.IntRange(0, 2_500_000)), 1, 40).Draw(t, "lengths") {
			start, end := w.record(10, 0, uint32(n), bytes.Repeat([]byte{0xAB}, n))
			want = append(want, place{start, end})
		}
		s := NewScanner(w.size, testSystem, 1)
		s.EveryRecord()
		seg := w.size.SegmentAt(1, w.base)
		for b := w.out; len(b) > 0; seg = seg.Next() {
			n := min(len(b), int(w.size))
			sum, err := s.Segment(seg, bytes.NewReader(b[:n]), func(e Event) error {
				if len(want) == 0 || want[0] != (place{e.Start, e.End}) {
					t.Fatalf("record %s to %s, want %v", e.Start, e.End, want)
				}
				want = want[1:]
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if n == int(w.size) && sum.End != seg.End(w.size) {
				t.Fatalf("%+v", sum)
			}
			b = b[n:]
		}
		if len(want) != 0 {
			t.Fatalf("not read: %v", want)
		}
	})
}

// commitBody makes a transaction's end with every optional part.
func commitBody(major int, micros int64, subxacts int, prepared uint32) []byte {
	le := binary.LittleEndian
	b := le.AppendUint64(nil, uint64(micros))
	xinfo := uint32(xinfoDatabase | xinfoSubxacts | xinfoRelations | xinfoInvals | xinfoTwophase)
	if major >= 15 {
		xinfo |= xinfoStats
	}
	b = le.AppendUint32(b, xinfo)
	b = append(b, make([]byte, 8)...)
	b = append(le.AppendUint32(b, uint32(subxacts)), make([]byte, 4*subxacts)...)
	b = append(le.AppendUint32(b, 2), make([]byte, 24)...)
	switch {
	case major >= 18:
		b = append(le.AppendUint32(b, 3), make([]byte, 48)...)
	case major >= 15:
		b = append(le.AppendUint32(b, 3), make([]byte, 36)...)
	}
	b = append(le.AppendUint32(b, 5), make([]byte, 80)...)
	b = le.AppendUint32(b, prepared)
	return append(b, "gid\x00"...)
}

func TestPreparedTransactionsOfEveryVersion(t *testing.T) {
	magics := map[int]uint16{13: 0xD106, 14: 0xD10D, 15: 0xD110, 16: 0xD113, 17: 0xD116, 18: 0xD118}
	for major, magic := range magics {
		if MajorOfMagic(magic) != major {
			t.Errorf("magic %04X is of %d", magic, MajorOfMagic(magic))
		}
		w := newWriter(1<<20, magic)
		_, end := w.record(resourceXact, xactCommitPrepared|xactHasInfo, 0, long(commitBody(major, 1_000_001, 1000, 777)))
		var got []Event
		sums := w.scan(t, func(e Event) error { got = append(got, e); return nil })
		want := time.Date(2000, 1, 1, 0, 0, 1, 1000, time.UTC)
		if len(got) != 1 || got[0].XID != 777 || got[0].Kind != Commit || !got[0].Time.Equal(want) || got[0].End != end {
			t.Errorf("%d: %+v", major, got)
		}
		if sums[0].MinXID != 777 || !sums[0].MaxCommit.Equal(want) || sums[0].Commits != 1 {
			t.Errorf("%d: %+v", major, sums[0])
		}
	}
}

// TestImagesMoveNothing puts block headers of every kind before the main data.
func TestImagesMoveNothing(t *testing.T) {
	le := binary.LittleEndian
	for _, c := range []struct {
		name  string
		magic uint16
		image byte
		hole  bool // a hole_length follows
	}{
		{"13, hole", 0xD106, 0x01, false},
		{"13, hole and compressed", 0xD106, 0x03, true},
		{"13, apply", 0xD106, 0x05, false},
		{"15, hole and apply", 0xD110, 0x03, false},
		{"15, hole and pglz", 0xD110, 0x05, true},
		{"16, hole and lz4", 0xD113, 0x09, true},
		{"18, hole and zstd", 0xD118, 0x11, true},
		{"18, zstd without hole", 0xD118, 0x10, false},
	} {
		b := append([]byte{0, forkHasImage | forkHasData}, 7, 0, 11, 0, 0, 0, c.image)
		if c.hole {
			b = append(b, 1, 2)
		}
		b = append(b, make([]byte, 16)...)                          // relation and block
		b = append(b, 1, forkSameRel|forkHasData, 3, 0, 9, 0, 0, 0) // second block of the same relation
		b = append(b, idOrigin, 1, 0)
		b = append(b, idDataShort, 72)
		b = append(b, make([]byte, 7+11+3)...)
		b = le.AppendUint64(b, 5_000_000)
		b = append(b, append([]byte("a name"), make([]byte, 58)...)...)
		w := newWriter(1<<20, c.magic)
		w.record(resourceXLOG, infoRestorePoint, 0, b)
		sums := w.scan(t, nil)
		if len(sums[0].RestorePoints) != 1 || sums[0].RestorePoints[0].Name != "a name" || sums[0].RestorePoints[0].Time.Second() != 5 {
			t.Errorf("%s: %+v", c.name, sums[0])
		}
	}
}

func TestAnOverwrittenRecordIsGivenUp(t *testing.T) {
	w := newWriter(1<<20, 0xD110)
	w.record(10, 0, 1, make([]byte, 100))
	prev := w.prev
	w.record(10, 0, 2, make([]byte, 3*PageSize))
	w.out, w.prev = w.out[:PageSize], prev
	w.pageHeader(0)
	binary.LittleEndian.PutUint16(w.out[PageSize+2:], pageOverwritten)
	start, end := w.record(resourceXact, xactAbort, 3, short(make([]byte, 8)))
	var got []Event
	sums := w.scan(t, func(e Event) error { got = append(got, e); return nil })
	if len(got) != 1 || got[0].Start != start || sums[0].Last != end {
		t.Errorf("%+v %+v", got, sums)
	}
}

func TestZerosInTheMiddleAreDamage(t *testing.T) {
	w := newWriter(1<<20, 0xD110)
	for range 100 {
		w.record(10, 0, 1, make([]byte, 1000))
	}
	clear(w.out[3*PageSize : 4*PageSize])
	seg := w.size.SegmentAt(1, w.base)
	_, err := NewScanner(w.size, testSystem, 1).Segment(seg, bytes.NewReader(w.out), nil)
	if err == nil || !isCorrupt(err) {
		t.Fatalf("got %v", err)
	}
	end, err := ValidEnd(w.size, testSystem, seg, bytes.NewReader(w.out), int64(len(w.out)))
	if err != nil || end <= w.base+2*PageSize || end > w.base+3*PageSize {
		t.Fatalf("valid to %s, %v", end, err)
	}
}

// A record that began in the segment before ends with this one, of which the last pages never came: nothing of it was checked.
func TestValidEndOfASegmentWithinOneRecord(t *testing.T) {
	w := newWriter(1<<20, 0xD110)
	w.record(0, 0x20, 0, short([]byte("abc")))
	target := w.base + 2<<20
	n := sort.Search(3<<20, func(n int) bool {
		x := *w
		x.out = slices.Clone(w.out)
		_, end := x.record(10, 0, 0, long(bytes.Repeat([]byte{7}, n)))
		return end >= target
	})
	if _, end := w.record(10, 0, 0, long(bytes.Repeat([]byte{7}, n))); end != target {
		t.Fatalf("the record ends at %s, not at %s", end, target)
	}
	b := slices.Clone(w.out[1<<20 : 2<<20])
	seg := w.size.SegmentAt(1, w.base+1<<20)
	clear(b[len(b)-8000:])
	if got, err := ValidEnd(w.size, testSystem, seg, bytes.NewReader(b), int64(len(b))); err != nil || got != seg.Start(w.size) {
		t.Errorf("valid to %s: %v", got, err)
	}
}

func TestAHugeTransactionIsReadInBoundedMemory(t *testing.T) {
	w := newWriter(64<<20, 0xD110)
	w.record(resourceXact, xactCommitPrepared|xactHasInfo, 0, long(commitBody(15, 9_000_000, 5_000_000, 777)))
	s := NewScanner(w.size, testSystem, 1)
	sum, err := s.Segment(w.size.SegmentAt(1, w.base), bytes.NewReader(w.out), nil)
	if err != nil || sum.Commits != 1 || sum.MaxCommit.Second() != 9 {
		t.Fatalf("%+v, %v", sum, err)
	}
	if len(s.open.body) > keptBody {
		t.Fatalf("%d bytes were kept", len(s.open.body))
	}
}

func TestErrorsOfTheReaderAreTold(t *testing.T) {
	w := newWriter(1<<20, 0xD110)
	w.record(10, 0, 1, make([]byte, 100))
	r := io.MultiReader(bytes.NewReader(w.out), brokenReader{})
	_, err := NewScanner(w.size, testSystem, 1).Segment(w.size.SegmentAt(1, w.base), r, nil)
	if err == nil || !strings.Contains(err.Error(), "a broken disk") {
		t.Fatalf("got %v", err)
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errBroken{} }

type errBroken struct{}

func (errBroken) Error() string { return "a broken disk" }

func FuzzScanner(f *testing.F) {
	w := newWriter(1<<20, 0xD118)
	w.record(resourceXact, xactCommitPrepared|xactHasInfo, 0, long(commitBody(18, 1, 10, 777)))
	w.record(resourceXLOG, infoRestorePoint, 0, short(append(make([]byte, 8), "name"...)))
	w.record(10, 0, 1, make([]byte, 20000))
	w.record(resourceXLOG, infoSwitch, 0, nil)
	f.Add(w.out, 100)
	w = newWriter(1<<20, 0xD110)
	w.record(resourceStandby, 0x10, 0, runningBody(7, 7))
	w.record(resourceHeap, heapDelete, 7, deleteBody(20000))
	w.record(resourceHeap, heapInPlace, 7, overwrittenBody(15, PGLZ))
	w.record(resourceXact, xactPrepare, 7, short(prepareBody(15, 1, 3, "seven")))
	w.record(resourceXact, xactCommitPrepared|xactHasInfo, 0, long(commitBody(15, 1, 10, 7)))
	f.Add(w.out, 100)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		if len(b) > 1<<20 {
			return
		}
		s := NewScanner(1<<20, testSystem, 1)
		s.Follow(FollowOptions{MinRows: 1, EveryCommit: true, Visit: func(d Deed) error {
			if d.Stop >= d.LSN || d.Before != nil && d.Before.LSN > d.Stop {
				t.Fatalf("%+v", d)
			}
			return nil
		}})
		s.EveryBlock(func(LSN, Block) error { return nil })
		seg := Segment{Timeline: 1, Number: 1}
		last := LSN(0)
		sum, err := s.Segment(seg, bytes.NewReader(b), func(e Event) error {
			if e.Start < last || e.End <= e.Start {
				t.Fatalf("%+v after %s", e, last)
			}
			last = e.Start
			return nil
		})
		if err != nil && !isCorrupt(err) {
			t.Fatal(err)
		}
		if sum.End < seg.Start(1<<20) || sum.End > seg.Start(1<<20)+LSN(len(b))+8 {
			t.Fatalf("%d bytes end at %s", len(b), sum.End)
		}
		_, _ = s.Segment(seg.Next(), bytes.NewReader(b[min(max(cut, 0), len(b)):]), nil)
	})
}

// FuzzRecord reads record bodies whose checksum would be good.
func FuzzRecord(f *testing.F) {
	f.Add(long(commitBody(15, 1, 3, 777)), uint8(xactCommitPrepared|xactHasInfo), uint8(resourceXact), uint8(15), uint32(0))
	f.Add(short(make([]byte, 72)), uint8(infoRestorePoint), uint8(resourceXLOG), uint8(13), uint32(9))
	f.Add(long(prepareBody(15, 1, 3, "a name")), uint8(xactPrepare), uint8(resourceXact), uint8(15), uint32(0))
	f.Add(overwrittenBody(15, PGLZ), uint8(heapInPlace), uint8(resourceHeap), uint8(15), uint32(0))
	f.Add(short(make([]byte, 24)), uint8(0x10), uint8(resourceStandby), uint8(15), uint32(0))
	f.Fuzz(func(t *testing.T, body []byte, info, resource, major uint8, beyond uint32) {
		r := record{start: 8, end: 16, info: info, resource: resource % 2, body: body, length: uint32(len(body)) + beyond%1000}
		e, err := r.event(int(major), true)
		if err != nil && !isCorrupt(err) {
			t.Fatal(err)
		}
		if _, jsonErr := e.Time.MarshalText(); jsonErr != nil {
			t.Fatal(jsonErr)
		}
		r.resource = resource % 11
		if x, err := r.change(int(major)); err != nil && !isCorrupt(err) || x.Rows < 0 {
			t.Fatalf("%+v, %v", x, err)
		}
		fol, sum := &follower{o: FollowOptions{MinRows: 1}}, &Summary{}
		fol.reset()
		r.xid = 7
		fol.record(r, int(major), sum)
		e.XID, e.Start, e.End = 7, 16, 24
		if err := fol.event(&e, sum); err != nil || fol.entries < 0 || len(sum.Deeds) > mostDeeds || len(sum.Prepared) > mostPrepared {
			t.Fatalf("%+v, %v", sum, err)
		}
	})
}

func BenchmarkScanner(b *testing.B) {
	for name, length := range map[string]int{"small records": 80, "page images": 8000} {
		b.Run(name, func(b *testing.B) {
			w := newWriter(16<<20, 0xD110)
			for len(w.out) < 16<<20-20000 {
				w.record(10, 0, 1, make([]byte, length))
				w.record(resourceXact, xactCommit, 1, short(make([]byte, 8)))
			}
			seg := w.size.SegmentAt(1, w.base)
			s := NewScanner(w.size, testSystem, 1)
			r := bytes.NewReader(nil)
			b.SetBytes(int64(len(w.out)))
			b.ReportAllocs()
			for b.Loop() {
				r.Reset(w.out)
				if _, err := s.Segment(seg, r, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
