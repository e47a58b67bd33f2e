package wal

import (
	"encoding/json"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestLSNRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := LSN(rapid.Uint64().Draw(t, "lsn"))
		got, err := ParseLSN(l.String())
		if err != nil || got != l {
			t.Fatalf("%s is read as %s, %v", l, got, err)
		}
		b, err := json.Marshal(l)
		if err != nil {
			t.Fatal(err)
		}
		var back LSN
		if err := json.Unmarshal(b, &back); err != nil || back != l {
			t.Fatalf("%s is read as %s, %v", b, back, err)
		}
	})
}

func drawSize(t *rapid.T) SegmentSize {
	return SegmentSize(1) << rapid.IntRange(20, 30).Draw(t, "size")
}

func TestSegmentNamesRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		z := drawSize(t)
		l := LSN(rapid.Uint64().Draw(t, "lsn"))
		timeline := Timeline(rapid.Uint32Min(1).Draw(t, "timeline"))
		seg := z.SegmentAt(timeline, l)
		got, err := ParseSegmentName(seg.Name(z), z)
		if err != nil || got != seg {
			t.Fatalf("%s is read as %+v, %v", seg.Name(z), got, err)
		}
		if seg.Start(z) != z.Floor(l) || l-seg.Start(z) != LSN(z.Offset(l)) || z.Offset(l) >= z.Bytes() {
			t.Fatalf("%s begins at %s, holds %s", seg.Name(z), seg.Start(z), l)
		}
		if c := z.Ceil(l); c != 0 && (c < l || c-l >= LSN(z) || z.Offset(c) != 0) {
			t.Fatalf("ceil of %s is %s", l, c)
		}
	})
}

func TestSegmentNamesRefused(t *testing.T) {
	for _, name := range []string{"", "00000001000000000000000", "0000000100000000000000GG", "00000000000000000000000a", "000000000000000000000001", "000000010000000000000100", "00000001.history.partial"} {
		if seg, err := ParseSegmentName(name, DefaultSegmentSize); err == nil {
			t.Errorf("%q is read as %+v", name, seg)
		}
	}
	for _, z := range []SegmentSize{0, 1, 1<<20 - 1, 3 << 20, 1 << 31} {
		if z.Check() == nil {
			t.Errorf("%d is taken as a segment size", z)
		}
	}
}

func FuzzParseLSN(f *testing.F) {
	f.Add("16/B374D848")
	f.Fuzz(func(t *testing.T, s string) {
		l, err := ParseLSN(s)
		if err != nil {
			return
		}
		if again, err := ParseLSN(l.String()); err != nil || again != l {
			t.Fatalf("%q is %s, then %s, %v", s, l, again, err)
		}
	})
}

func FuzzParseSegmentName(f *testing.F) {
	f.Add("000000010000000000000001", uint32(DefaultSegmentSize))
	f.Fuzz(func(t *testing.T, s string, size uint32) {
		z := SegmentSize(size)
		if seg, err := ParseSegmentName(s, z); err == nil && seg.Name(z) != s {
			t.Fatalf("%q is %s", s, seg.Name(z))
		}
	})
}

func drawRanges(t *rapid.T) []Range {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Range {
		from := rapid.IntRange(2, 40).Draw(t, "from")
		return Range{Timeline: Timeline(rapid.IntRange(1, 3).Draw(t, "timeline")), From: LSN(from), To: LSN(from + rapid.IntRange(-2, 12).Draw(t, "length"))}
	}), 0, 8).Draw(t, "ranges")
}

// bytesOf is the brute-force form of ranges: a set of bytes.
func bytesOf(ranges []Range) map[Range]bool {
	out := map[Range]bool{}
	for _, r := range ranges {
		for l := r.From; l < r.To && !r.Empty(); l++ {
			out[Range{Timeline: r.Timeline, From: l}] = true
		}
	}
	return out
}

func TestMergeAgainstBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawRanges(t)
		before := slices.Clone(in)
		out := Merge(in)
		if !slices.Equal(in, before) {
			t.Fatal("the argument was changed")
		}
		want, got := bytesOf(in), bytesOf(out)
		for b := range want {
			if !got[b] {
				t.Fatalf("%v became %v", in, out)
			}
		}
		if len(want) != len(got) {
			t.Fatalf("%v became %v", in, out)
		}
		for i := 1; i < len(out); i++ {
			a, b := out[i-1], out[i]
			if a.Timeline > b.Timeline || a.Timeline == b.Timeline && a.To >= b.From {
				t.Fatalf("%v is not sorted or not joined", out)
			}
		}
	})
}

func TestMissingAgainstBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		have := drawRanges(t)
		wants := drawRanges(t)
		for _, want := range wants {
			missing := Missing(want, have)
			held, gone := bytesOf(have), bytesOf(missing)
			for b := range bytesOf([]Range{want}) {
				if held[b] == gone[b] {
					t.Fatalf("want %v, have %v, missing %v", want, have, missing)
				}
				delete(gone, b)
			}
			if len(gone) != 0 {
				t.Fatalf("want %v, have %v, missing %v", want, have, missing)
			}
		}
	})
}
