package repository

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgkeep/pgkeep/state/repository/store/storetest"
	"github.com/pgkeep/pgkeep/state/wal"
)

// TestTheIndexKeepsWhatTransactionsDestroyed puts summaries with deeds, and reads two of them from the index and one from
// the note of its object.
func TestTheIndexKeepsWhatTransactionsDestroyed(t *testing.T) {
	c := newArchive(t, storetest.NewMemory(nil), mib)
	want := map[wal.Segment]wal.Summary{}
	for n := range uint64(3) {
		seg := wal.Segment{Timeline: 1, Number: 100 + n}
		sum := summaryOf(seg, mib)
		sum.Followed, sum.NextXID = true, uint32(700+n)
		sum.Deeds = []wal.Deed{{
			Kind: wal.DeedDrop, XID: uint32(700 + n), Time: archiveEpoch.Add(time.Minute), LSN: seg.Start(mib) + 500, Stop: seg.Start(mib) + 400,
			Relations: []wal.Touched{{Relation: wal.Relation{Tablespace: 1663, Database: 5, Number: 16384}}},
			Before:    &wal.Ended{XID: 699, LSN: seg.Start(mib) + 300, Time: archiveEpoch},
		}}
		sum.Prepared, sum.PreparedCount = []wal.PreparedEvent{{Kind: "prepare", XID: 9, GID: "a", LSN: seg.Start(mib) + 20, Time: archiveEpoch}}, 1
		sum.Images = wal.Images{Plain: 3, LZ4: 1, Bytes: 9000}
		if err := c.PutSegment(t.Context(), seg, sum, bytes.NewReader(plainSegment(seg, mib))); err != nil {
			t.Fatal(err)
		}
		want[seg] = sum
		if n == 1 { // the third is known from its note alone
			if err := c.WriteIndex(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
		}
	}
	got := map[wal.Segment]wal.Summary{}
	for seg, sum := range c.Summaries(t.Context(), wal.Range{Timeline: 1, From: 100 * wal.LSN(mib), To: 103 * wal.LSN(mib)}) {
		got[seg] = sum
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("summaries (-put +read):\n%s", diff)
	}
}
