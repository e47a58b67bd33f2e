package repository

import (
	"bytes"
	"errors"
	"testing"

	"github.com/pgkeep/pgkeep/state/repository/store/storetest"
	"github.com/pgkeep/pgkeep/state/wal"
)

// TestAPartialGoesOnlyBesideItsWholeSegment: the index tells of a whole segment that the disk has lost. What was pushed
// of it is all there is.
func TestAPartialGoesOnlyBesideItsWholeSegment(t *testing.T) {
	m := storetest.NewMemory(nil)
	c := newArchive(t, m, mib)
	lost, there := wal.Segment{Timeline: 1, Number: 9}, wal.Segment{Timeline: 1, Number: 10}
	for _, seg := range []wal.Segment{lost, there} {
		half := seg.Start(mib) + wal.LSN(mib/2)
		check(t, c.PutPartial(t.Context(), seg, half, bytes.NewReader(plainSegment(seg, mib)[:mib/2])))
		putSegment(t, c, seg, mib)
	}
	check(t, c.WriteIndex(t.Context(), 1))
	m.Set(c.key.segmentFile(lost, mib), nil)
	must(reopened(t, c).DeleteWAL(t.Context(), nil))(t)
	if _, _, err := reopened(t, c).OpenPartial(t.Context(), lost); err != nil {
		t.Errorf("the last that was left of segment 9: %v", err)
	}
	if _, _, err := reopened(t, c).OpenPartial(t.Context(), there); err == nil {
		t.Error("a partial stays beside its whole segment")
	}
}

// TestAnIndexIsWrittenBesideDeletions has two deletions come between any calls of who writes an index, an indexer or a third deletion: they
// take segments that were listed, and indexes that were put. It is written all the same.
func TestAnIndexIsWrittenBesideDeletions(t *testing.T) {
	for name, write := range map[string]func(*Cluster) error{
		"index": func(c *Cluster) error { return c.WriteIndex(t.Context(), 1) },
		"deletion": func(c *Cluster) error {
			_, err := c.DeleteWAL(t.Context(), []wal.Range{{Timeline: 1, From: 0, To: wal.LSN(11 * mib)}})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for first := int64(1); ; first++ {
				for second := first; second < first+12; second++ {
					if !besideDeletions(t, first, second, write) {
						return
					}
				}
			}
		})
	}
}

// besideDeletions tells whether the first of the deletions came, before that call of write's store.
func besideDeletions(t *testing.T, first, second int64, write func(*Cluster) error) bool {
	t.Helper()
	m := storetest.NewMemory(nil)
	c := newArchive(t, m, mib)
	for n := uint64(9); n < 15; n++ {
		putSegment(t, c, wal.Segment{Timeline: 1, Number: n}, mib)
	}
	check(t, c.WriteIndex(t.Context(), 1))
	putSegment(t, c, wal.Segment{Timeline: 1, Number: 15}, mib)
	f := &storetest.Faulty{Store: m}
	writer := newArchive(t, f, mib)
	begun, deletions := f.Calls(), 0
	f.Before = func(call storetest.Call) error {
		upTo := wal.LSN(10 * mib)
		switch call.N - begun {
		default:
			return nil
		case first:
		case second:
			upTo = wal.LSN(12 * mib)
		}
		deletions++
		_, err := newArchive(t, m, mib).DeleteWAL(t.Context(), []wal.Range{{Timeline: 1, From: 0, To: upTo}})
		return err
	}
	if err := write(writer); err != nil {
		t.Fatalf("deletions before calls %d and %d: %v", first, second, err)
	}
	for _, r := range must(newArchive(t, m, mib).WALRanges(t.Context()))(t) {
		for l := r.From; l < r.To; l += wal.LSN(mib) {
			if m.Bytes(c.key.segmentFile(mib.SegmentAt(1, l), mib)) == nil {
				t.Fatalf("deletions before calls %d and %d: %s is promised and gone", first, second, l)
			}
		}
	}
	return deletions > 0
}

// TestAnIndexWrittenDuringADeletionPromisesNothing: the hourly index comes at every moment of a deletion that is then
// killed. Whatever the index counts is there.
func TestAnIndexWrittenDuringADeletionPromisesNothing(t *testing.T) {
	doomed := []wal.Range{{Timeline: 1, From: wal.LSN(9 * mib), To: wal.LSN(12 * mib)}}
	for at := int64(1); ; at++ {
		for killed := at; killed < at+8; killed++ {
			m := storetest.NewMemory(nil)
			c := newArchive(t, m, mib)
			for n := uint64(9); n < 15; n++ {
				putSegment(t, c, wal.Segment{Timeline: 1, Number: n}, mib)
			}
			check(t, c.WriteIndex(t.Context(), 1))
			hourly := newArchive(t, m, mib)
			f := &storetest.Faulty{Store: m}
			deleter := newArchive(t, f, mib)
			var calls int64
			f.Before = func(call storetest.Call) error {
				if call.Method != "Delete" && call.Method != "PutIfAbsent" {
					return nil
				}
				calls++
				if calls > killed {
					return errors.New("killed")
				}
				return nil
			}
			f.After = func(call storetest.Call) error {
				if (call.Method == "Delete" || call.Method == "PutIfAbsent") && calls == at {
					return hourly.WriteIndex(t.Context(), 1)
				}
				return nil
			}
			_, err := deleter.DeleteWAL(t.Context(), doomed)
			promised := newArchive(t, m, mib)
			for _, r := range must(promised.WALRanges(t.Context()))(t) {
				for l := r.From; l < r.To; l += wal.LSN(mib) {
					if m.Bytes(c.key.segmentFile(mib.SegmentAt(1, l), mib)) == nil {
						t.Fatalf("indexed after call %d, killed after call %d: %s is promised and gone", at, killed, l)
					}
				}
			}
			if err == nil && calls < at {
				return
			}
		}
	}
}
