package repository

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/pgkeep/pgkeep/state/wal"
)

// FuzzIndex reads what may stand in a wx object: what is read is in order, and is written as it was read.
func FuzzIndex(f *testing.F) {
	seg := wal.Segment{Timeline: 1, Number: 100}
	sum := summaryOf(seg, mib)
	sum.Followed, sum.NextXID = true, 700
	sum.Deeds = []wal.Deed{{Kind: wal.DeedDropDatabase, XID: 700, Time: archiveEpoch, LSN: seg.Start(mib) + 500, Stop: seg.Start(mib) + 400, Before: &wal.Ended{XID: 699}}}
	sum.Prepared, sum.PreparedCount = []wal.PreparedEvent{{Kind: "prepare", XID: 9, GID: "a", Time: archiveEpoch}}, 1
	b, err := json.Marshal(indexDoc{Segments: []indexEntry{{N: 100, Sum: sum}, {N: 101}}, Partials: []indexPartial{{N: 100, Offset: 8}}, Removing: []uint32{99}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	n := indexName{Timeline: 1, First: 100, Last: 120, Generation: 1}
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := decodeIndex(b, n)
		if err != nil {
			return
		}
		for i, e := range x.Segments {
			if e.N < n.First || e.N > n.Last || i > 0 && e.N <= x.Segments[i-1].N {
				t.Fatalf("segment %d stands after %d", e.N, i)
			}
		}
		again, err := json.Marshal(x)
		if err != nil {
			t.Fatal(err)
		}
		y, err := decodeIndex(again, n)
		if err != nil {
			t.Fatalf("%s: %v", again, err)
		}
		once, err := json.Marshal(y)
		if err != nil || !bytes.Equal(once, again) {
			t.Fatalf("%s became %s: %v", again, once, err)
		}
	})
}
