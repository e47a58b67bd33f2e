package wal

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func magics() map[int]uint16 {
	return map[int]uint16{13: 0xD106, 14: 0xD10D, 15: 0xD110, 16: 0xD113, 17: 0xD116, 18: 0xD118}
}

// prepareBody makes a PREPARE TRANSACTION.
func prepareBody(major int, micros int64, subxacts int, gid string) []byte {
	le := binary.LittleEndian
	b := append(make([]byte, 8), le.AppendUint32(nil, 777)...)
	b = le.AppendUint32(b, 5)
	b = le.AppendUint64(b, uint64(micros))
	b = le.AppendUint32(b, 10)
	b = le.AppendUint32(b, uint32(subxacts))
	b = append(b, make([]byte, 8)...)
	if major >= 15 {
		b = append(b, make([]byte, 8)...)
	}
	b = append(le.AppendUint32(b, 0), 0, 0)
	b = le.AppendUint16(b, uint16(len(gid)+1))
	b = append(b, make([]byte, 16)...)
	b = append(append(b, gid...), 0)
	for len(b)%8 != 0 {
		b = append(b, 0)
	}
	for i := range subxacts {
		b = le.AppendUint32(b, uint32(778+i))
	}
	return b
}

func TestPreparationsOfEveryVersion(t *testing.T) {
	for major, magic := range magics() {
		w := newWriter(1<<20, magic)
		w.record(resourceXact, xactPrepare, 777, short(prepareBody(major, 1_000_001, 3, "seven")))
		s := NewScanner(w.size, testSystem, 1)
		s.Follow(FollowOptions{})
		var got Event
		sum, err := s.Segment(w.size.SegmentAt(1, w.base), bytes.NewReader(w.out), func(e Event) error { got = e; return nil })
		at := time.Date(2000, 1, 1, 0, 0, 1, 1000, time.UTC)
		if err != nil || got.Kind != Prepare || got.XID != 777 || got.GID != "seven" || !got.Time.Equal(at) || !cmp.Equal(got.Subxacts, []uint32{778, 779, 780}) {
			t.Errorf("%d: %+v, %v", major, got, err)
		}
		want := []PreparedEvent{{Kind: "prepare", XID: 777, GID: "seven", LSN: got.End, Time: at}}
		if diff := cmp.Diff(want, sum.Prepared); diff != "" || sum.PreparedCount != 1 || sum.Commits+sum.Aborts != 0 {
			t.Errorf("%d: %s", major, diff)
		}
	}
}

// rowPage makes a page of pg_database with one row, whose datconnlimit is given.
func rowPage(major int, limit int32) []byte {
	page := make([]byte, PageSize)
	const hoff, length, at = 24, 300, PageSize - 304
	binary.LittleEndian.PutUint32(page[24:], uint32(at)|1<<15|uint32(length)<<17)
	page[at+22] = hoff
	binary.LittleEndian.PutUint32(page[at+hoff+connectionLimitAt(major):], uint32(limit))
	return page
}

// literals packs bytes as pglz does when it finds nothing to refer to, but for runs of zeros.
func literals(b []byte) []byte {
	var out []byte
	control, bits := -1, 8
	item := func(set bool, b ...byte) {
		if bits == 8 {
			control, bits = len(out), 0
			out = append(out, 0)
		}
		if set {
			out[control] |= 1 << bits
		}
		bits++
		out = append(out, b...)
	}
	for i := 0; i < len(b); {
		n := 0
		for i > 0 && i+n < len(b) && b[i+n] == b[i-1] && n < 273 {
			n++
		}
		switch {
		case n >= 18:
			item(true, 0x0F, 1, byte(n-18))
		case n >= 3:
			item(true, byte(n-3), 1)
		default:
			n = 1
			item(false, b[i])
		}
		i += n
	}
	return out
}

// overwrittenBody makes a row of pg_database that is overwritten to mark it as invalid, with an image of the page.
func overwrittenBody(major int, c Compression) []byte {
	return overwritten(major, c, invalidDatabase)
}

func overwritten(major int, c Compression, limit int32) []byte {
	le := binary.LittleEndian
	page := rowPage(major, limit)
	const holeAt, holeLength = 28, PageSize - 304 - 28
	stored := append(bytes.Clone(page[:holeAt]), page[holeAt+holeLength:]...)
	info := byte(imageHasHole)
	if c == PGLZ {
		stored = literals(stored)
		info |= map[bool]byte{true: 0x02, false: 0x04}[major < 15]
	}
	b := []byte{0, forkHasImage, 0, 0}
	b = le.AppendUint16(b, uint16(len(stored)))
	b = le.AppendUint16(b, holeAt)
	b = append(b, info)
	if c == PGLZ {
		b = le.AppendUint16(b, holeLength)
	}
	for _, n := range []uint32{sharedTablespace, 0, 1262, 0} {
		b = le.AppendUint32(b, n)
	}
	b = append(b, idDataShort, 2)
	b = append(b, stored...)
	return append(b, 1, 0)
}

// TestTheMarkOfADropIsReadFromImages reads what was written over a row of pg_database.
func TestTheMarkOfADropIsReadFromImages(t *testing.T) {
	for major := range magics() {
		for _, c := range []Compression{Uncompressed, PGLZ} {
			for _, limit := range []int32{invalidDatabase, -1, 5} {
				body := overwritten(major, c, limit)
				r := record{start: 8, end: 16, resource: resourceHeap, info: heapInPlace, body: body, length: uint32(len(body))}
				id, b, p, ok := r.sharedRow(major)
				marks, known := marking(id, b, p, major)
				if !ok || !known || marks != (limit == invalidDatabase) || id.offset != 1 || b.Image.Compression != c {
					t.Errorf("%d, %s, limit %d: marks %t, known %t; %+v %+v", major, c, limit, marks, known, id, b)
				}
			}
		}
	}
}

func FuzzPGLZ(f *testing.F) {
	f.Add([]byte("\x02aab"), 300)
	f.Add(literals(make([]byte, 5000)), 5000)
	f.Fuzz(func(t *testing.T, in []byte, want int) {
		if want < 0 || want > PageSize {
			return
		}
		if out, ok := pglz(in, want); ok && len(out) != want {
			t.Fatalf("%d bytes of %d", len(out), want)
		}
		plain := in[:min(len(in), PageSize)]
		if out, ok := pglz(literals(plain), len(plain)); len(plain) > 0 && (!ok || !bytes.Equal(out, plain)) {
			t.Fatalf("%x became %x", plain, out)
		}
	})
}

// deleteBody deletes a row of a relation.
func deleteBody(relation uint32) []byte {
	le := binary.LittleEndian
	b := []byte{0, 0, 0, 0}
	for _, n := range []uint32{1663, 5, relation, 0} {
		b = le.AppendUint32(b, n)
	}
	return append(append(b, idDataShort, 8), make([]byte, 8)...)
}

func runningBody(next, oldest uint32) []byte {
	b := make([]byte, 24)
	binary.LittleEndian.PutUint32(b[12:], next)
	binary.LittleEndian.PutUint32(b[16:], oldest)
	return short(b)
}

// TestTooManyTransactionsAreToldAsUnknown opens more than are remembered: the summaries say so, until all of them have
// ended.
func TestTooManyTransactionsAreToldAsUnknown(t *testing.T) {
	w := newWriter(16<<20, 0xD110)
	w.record(resourceStandby, 0x10, 0, runningBody(1, 1))
	for xid := range uint32(mostOpen + 10) {
		w.record(resourceHeap, heapDelete, xid+10, deleteBody(20000))
	}
	s := NewScanner(w.size, testSystem, 1)
	s.Follow(FollowOptions{})
	scan := func(followed bool) {
		t.Helper()
		sum, err := s.Segment(w.size.SegmentAt(1, w.base), bytes.NewReader(w.out), nil)
		if err != nil || sum.Followed != followed {
			t.Fatalf("followed %t, %v", sum.Followed, err)
		}
	}
	scan(false)
	w.record(resourceStandby, 0x10, 0, runningBody(200_000, 10))
	scan(false)
	w.record(resourceStandby, 0x10, 0, runningBody(200_001, 199_999))
	scan(false)
	w.record(resourceStandby, 0x10, 0, runningBody(200_001, 200_000))
	scan(true)
}

// TestXIDsGoRound follows a transaction whose xid is smaller than those before it.
func TestXIDsGoRound(t *testing.T) {
	w := newWriter(1<<20, 0xD110)
	w.record(resourceStandby, 0x10, 0, runningBody(4_294_967_290, 4_294_967_290))
	w.record(resourceXact, xactCommit, 4_294_967_291, short(make([]byte, 8)))
	for range UsualManyRows {
		w.record(resourceHeap, heapDelete, 5, deleteBody(20000))
	}
	w.record(resourceXact, xactCommit, 5, short(make([]byte, 8)))
	s := NewScanner(w.size, testSystem, 1)
	s.Follow(FollowOptions{})
	sum, err := s.Segment(w.size.SegmentAt(1, w.base), bytes.NewReader(w.out), nil)
	if err != nil || len(sum.Deeds) != 1 || sum.Deeds[0].Unsure || sum.Deeds[0].Rows != UsualManyRows || sum.Deeds[0].Before.XID != 4_294_967_291 {
		t.Errorf("%+v, %v", sum, err)
	}
}

// TestASegmentKeepsSomeDeedsAndSaysThatThereAreMore bounds the index.
func TestASegmentKeepsSomeDeedsAndSaysThatThereAreMore(t *testing.T) {
	w := newWriter(1<<20, 0xD110)
	for xid := range uint32(mostDeeds + 5) {
		for range UsualManyRows {
			for relation := range uint32(mostTouched + 2) {
				w.record(resourceHeap, heapDelete, xid+10, deleteBody(20000+relation))
			}
		}
		w.record(resourceXact, xactCommit, xid+10, short(make([]byte, 8)))
	}
	s := NewScanner(w.size, testSystem, 1)
	deeds, kept := 0, 0
	s.Follow(FollowOptions{Visit: func(d Deed) error { deeds++; return nil }})
	seg := w.size.SegmentAt(1, w.base)
	for b := w.out; len(b) > 0; seg = seg.Next() {
		n := min(len(b), int(w.size))
		sum, err := s.Segment(seg, bytes.NewReader(b[:n]), nil)
		if err != nil {
			t.Fatal(err)
		}
		b, kept = b[n:], kept+len(sum.Deeds)
		for _, d := range sum.Deeds {
			if len(d.Relations) != mostTouched || d.Others != 2 || d.Rows != UsualManyRows*(mostTouched+2) {
				t.Fatalf("%+v", d)
			}
		}
		if len(sum.Deeds) > mostDeeds || sum.MoreDeeds != (len(sum.Deeds) == mostDeeds) {
			t.Errorf("%d deeds, more: %t", len(sum.Deeds), sum.MoreDeeds)
		}
	}
	if deeds != mostDeeds+5 || kept == 0 {
		t.Errorf("%d deeds were told, %d kept", deeds, kept)
	}
}

// TestEverySegmentSize reads records in segments of every size, one that fills a segment to its end and crosses into the
// next among them.
func TestEverySegmentSize(t *testing.T) {
	for z := SegmentSize(1 << 20); z <= 1<<30; z *= 2 {
		t.Run(fmt.Sprintf("%dMiB", z>>20), func(t *testing.T) {
			r := newFiller(z)
			s := NewScanner(z, testSystem, 1)
			s.Follow(FollowOptions{})
			seg := Segment{Timeline: 1, Number: 1}
			first, err := s.Segment(seg, r, nil)
			if err != nil || first.End != seg.End(z) || first.Commits != 1 || first.Last == 0 {
				t.Fatalf("%+v, %v", first, err)
			}
			second, err := s.Segment(seg.Next(), r, nil)
			if err != nil || second.End != r.end || second.First == 0 || second.MinXID != 9 || second.Commits != 1 {
				t.Fatalf("%+v, %v, the WAL ends at %s", second, err, r.end)
			}
			if name := seg.Name(z); name != fmt.Sprintf("0000000100000000%08X", 1%z.perLog()) && z < 1<<30 {
				t.Error(name)
			}
		})
	}
}
