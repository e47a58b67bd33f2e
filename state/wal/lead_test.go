package wal

import (
	"bytes"
	"io"
	"io/fs"
	"testing"
)

// TestLeadIsBounded: segments say on all of their pages that they lie within a record that has no beginning. No more of them are read than a
// record has.
func TestLeadIsBounded(t *testing.T) {
	const z = SegmentSize(1 << 20)
	opened := 0
	open := func(seg Segment) (io.ReadCloser, error) {
		opened++
		w := newWriter(z, 0xD110)
		w.base = seg.Start(z)
		for left := int(^uint32(0)); len(w.out) < int(z); {
			w.pageHeader(left)
			rest := PageSize - len(w.out)%PageSize
			w.out, left = append(w.out, make([]byte, rest)...), left-rest
		}
		return io.NopCloser(bytes.NewReader(w.out)), nil
	}
	if _, err := NewScanner(z, testSystem, 1).Lead(Segment{Timeline: 1, Number: 5000}, open); err != nil {
		t.Fatal(err)
	}
	if most := 2*maxRecord/int(z) + 6; opened > most || opened < 3 {
		t.Errorf("%d segments were read, of which a record can cross %d", opened, maxRecord/int(z)+1)
	}
}

// TestLead: a record of several segments is checked from its beginning, where that is at hand.
func TestLead(t *testing.T) {
	const z = SegmentSize(1 << 20)
	w := newWriter(z, 0xD110)
	w.record(10, 0, 0, short(nil))
	w.record(10, 0, 0, long(bytes.Repeat([]byte{1}, 5<<19))) // it ends in the third
	w.record(10, 0, 0, short(nil))
	w.out = append(w.out, make([]byte, 3*int(z)-len(w.out))...)
	first := z.SegmentAt(1, w.base)
	third := first.Next().Next()
	for _, c := range []struct {
		from    Segment // the first that is at hand
		hole    int     // in the third; 0: none
		carried bool
		ends    bool // the third is WAL
	}{
		{first, 0, true, true},
		{first, 100_000, true, false},
		{first.Next(), 100_000, false, true}, // nothing checks it
		{third, 100_000, false, true},
	} {
		sc := NewScanner(z, testSystem, 1)
		part := func(seg Segment) []byte { return bytes.Clone(w.out[seg.Start(z)-w.base:][:z]) }
		carried, err := sc.Lead(third, func(seg Segment) (io.ReadCloser, error) {
			if seg.Number < c.from.Number {
				return nil, fs.ErrNotExist
			}
			return io.NopCloser(bytes.NewReader(part(seg))), nil
		})
		if carried != c.carried || err != nil {
			t.Errorf("with segments from %s on: %v, %v", c.from.Name(z), carried, err)
		}
		b := part(third)
		if c.hole > 0 {
			clear(b[c.hole : c.hole+4])
		}
		sum, err := sc.Segment(third, bytes.NewReader(b), nil)
		if seen := sc.Unchecked() > 0; seen != (c.from == first.Next() || c.from == third) {
			t.Errorf("with segments from %s on the record is checked: %v", c.from.Name(z), !seen)
		}
		if ends := err == nil && sum.Last > 0; ends != c.ends {
			t.Errorf("with segments from %s on, and a hole at %d: %+v, %v", c.from.Name(z), c.hole, sum, err)
		}
	}
	if got := Within(z, bytes.NewReader(w.out[z:])); !got {
		t.Error("the second segment lies within the record")
	}
	if Within(z, bytes.NewReader(w.out)) || Within(z, bytes.NewReader(w.out[2*z:])) || Within(z, bytes.NewReader(nil)) {
		t.Error("the others do not")
	}
}
