package wal

import (
	"fmt"
	"slices"
)

// Range is a stretch of one timeline's WAL: every byte from From up to, not including, To. It is empty when To <= From.
type Range struct {
	Timeline Timeline `json:"timeline"`
	From     LSN      `json:"from"`
	To       LSN      `json:"to"`
}

// Empty tells whether the range holds no byte.
func (r Range) Empty() bool { return r.To <= r.From }

// Bytes gives the range's length.
func (r Range) Bytes() int64 {
	if r.Empty() {
		return 0
	}
	return int64(r.To - r.From)
}

// Contains tells whether every byte of o is in r. An empty o is in every range.
func (r Range) Contains(o Range) bool {
	return o.Empty() || r.Timeline == o.Timeline && r.From <= o.From && o.To <= r.To
}

// String gives "timeline 1, 0/3000000 to 0/5000000".
func (r Range) String() string { return fmt.Sprintf("timeline %d, %s to %s", r.Timeline, r.From, r.To) }

// Merge sorts ranges by timeline and position, joins those that touch or overlap, and drops empty ones. The argument is
// left as it is.
func Merge(in []Range) []Range {
	sorted := slices.DeleteFunc(slices.Clone(in), Range.Empty)
	slices.SortFunc(sorted, func(a, b Range) int {
		switch {
		case a.Timeline != b.Timeline:
			return int(int64(a.Timeline) - int64(b.Timeline))
		case a.From < b.From:
			return -1
		case a.From > b.From:
			return 1
		}
		return 0
	})
	var out []Range
	for _, r := range sorted {
		if n := len(out); n > 0 && out[n-1].Timeline == r.Timeline && r.From <= out[n-1].To {
			out[n-1].To = max(out[n-1].To, r.To)
			continue
		}
		out = append(out, r)
	}
	return out
}

// Missing gives the parts of want that no range of have holds, in order.
func Missing(want Range, have []Range) []Range {
	var out []Range
	at := want.From
	for _, r := range Merge(have) {
		if r.Timeline != want.Timeline || r.To <= at || at >= want.To {
			continue
		}
		if r.From >= want.To {
			break
		}
		if r.From > at {
			out = append(out, Range{Timeline: want.Timeline, From: at, To: r.From})
		}
		at = max(at, r.To)
	}
	if at < want.To {
		out = append(out, Range{Timeline: want.Timeline, From: at, To: want.To})
	}
	return out
}
