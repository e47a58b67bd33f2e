package repository

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/seal"
	"github.com/pgkeep/pgkeep/state/wal"
)

// segmentsOf gives the range of segments first to last of a timeline.
func segmentsOf(t wal.Timeline, first, last uint64, z wal.SegmentSize) wal.Range {
	return wal.Range{Timeline: t, From: wal.Segment{Number: first}.Start(z), To: wal.Segment{Number: last}.End(z)}
}

func TestCopyWAL(t *testing.T) {
	from, to := newArchive(t, newMemory(), mib), newArchive(t, newMemory(), mib)
	to.repo = must(to.repo.WithCompression(seal.Codec{Algorithm: seal.Gzip}))(t)
	for n := uint64(1); n <= 30; n++ {
		seg := wal.Segment{Timeline: 1, Number: n}
		putSegment(t, from, seg, mib)
		if n < 5 || n > 20 && n < 25 {
			putSegment(t, to, seg, mib)
		}
	}
	part := wal.Segment{Timeline: 1, Number: 31}
	check(t, from.putWAL(t.Context(), walName{Segment: part, Offset: 4096}, mib, summaryOf(part, mib), bytes.NewReader(plainSegment(part, mib))))
	history := []byte("1\t0/1F01000\tno recovery target specified\n")
	check(t, from.PutHistory(t.Context(), 2, history))
	check(t, to.WriteIndex(t.Context(), 1)) // which ends behind the hole

	var told int64
	got := must(CopyWAL(t.Context(), from, to, WALCopyOptions{
		Ranges: []wal.Range{segmentsOf(1, 5, 20, mib), segmentsOf(1, 25, 31, mib)}, Histories: []wal.Timeline{2},
		Report: func(done, _ int64) { told = done },
	}))(t)
	if got.Segments != 23 || got.Bytes == 0 || told != 23<<20 {
		t.Errorf("copied %+v, told of %d", got, told)
	}
	again := reopened(t, to)
	a, b := must(from.WALRanges(t.Context()))(t), must(again.WALRanges(t.Context()))(t)
	for i := range b {
		b[i].Bytes = a[i].Bytes // another codec
	}
	if d := cmp.Diff(a, b); d != "" {
		t.Errorf("other ranges: %s", d)
	}
	for n := uint64(1); n <= 30; n++ {
		seg := wal.Segment{Timeline: 1, Number: n}
		w := must(again.OpenSegment(t.Context(), seg))(t)
		if plain := must(io.ReadAll(w))(t); !bytes.Equal(plain, plainSegment(seg, mib)) {
			t.Errorf("segment %d is another", n)
		}
		if d := cmp.Diff(summaryOf(seg, mib), w.Summary()); d != "" {
			t.Errorf("segment %d says something else: %s", n, d)
		}
		w.Close()
	}
	if h := must(again.History(t.Context(), 2))(t); !bytes.Equal(h, history) {
		t.Errorf("history %q", h)
	}
	if got := must(CopyWAL(t.Context(), from, to, WALCopyOptions{Ranges: []wal.Range{segmentsOf(1, 5, 20, mib)}}))(t); got.Segments != 0 {
		t.Errorf("copied again: %+v", got)
	}
}

// TestCopyWALDamage: what is damaged is left out and named, and the rest is copied; what is gone and what is another
// server's ends the copy.
func TestCopyWALDamage(t *testing.T) {
	from, to := newArchive(t, newMemory(), mib), newArchive(t, newMemory(), mib)
	for n := uint64(1); n <= 6; n++ {
		putSegment(t, from, wal.Segment{Timeline: 1, Number: n}, mib)
	}
	flip(t, from, from.key.segmentFile(wal.Segment{Timeline: 1, Number: 3}, mib))
	_, err := CopyWAL(t.Context(), from, to, WALCopyOptions{Ranges: []wal.Range{segmentsOf(1, 1, 6, mib)}})
	if !isCorrupt(err) || !strings.Contains(err.Error(), "000000010000000000000003") {
		t.Errorf("error %v", err)
	}
	var have []wal.Range
	for _, r := range must(to.WALRanges(t.Context()))(t) {
		have = append(have, r.Range)
	}
	if d := cmp.Diff([]wal.Range{segmentsOf(1, 1, 2, mib), segmentsOf(1, 4, 6, mib)}, have); d != "" {
		t.Errorf("copied: %s", d)
	}
	_, err = CopyWAL(t.Context(), from, to, WALCopyOptions{Ranges: []wal.Range{segmentsOf(1, 6, 9, mib)}})
	if state.CodeOf(err) != state.CodeStale {
		t.Errorf("segments that are not there: %v", err)
	}
	check(t, to.PutSegment(t.Context(), wal.Segment{Timeline: 1, Number: 7}, wal.Summary{}, bytes.NewReader(bytes.Repeat([]byte{1}, int(mib)))))
	putSegment(t, from, wal.Segment{Timeline: 1, Number: 7}, mib)
	putSegment(t, from, wal.Segment{Timeline: 1, Number: 8}, mib)
	putSegment(t, from, wal.Segment{Timeline: 1, Number: 9}, mib)
	for _, r := range []wal.Range{segmentsOf(1, 7, 7, mib), segmentsOf(1, 8, 9, mib), segmentsOf(1, 6, 6, mib)} {
		check(t, to.repo.Store().Delete(t.Context(), to.key.segmentFile(wal.Segment{Timeline: 1, Number: 6}, mib)))
		if got, err := CopyWAL(t.Context(), from, to, WALCopyOptions{Ranges: []wal.Range{r}}); !isFork(err) || got.Segments > 0 {
			t.Errorf("%s, where segment 7 is another server's: %+v, %v", r, got, err)
		}
	}
	if _, err := CopyWAL(t.Context(), from, to, WALCopyOptions{Ranges: []wal.Range{segmentsOf(1, 9, 9, mib)}}); err != nil {
		t.Errorf("what is no neighbour of it: %v", err)
	}
}

// TestCopyWALCrash kills a copy before and after each call in the repository that gets it; the next one completes it.
func TestCopyWALCrash(t *testing.T) {
	from := newArchive(t, newMemory(), mib)
	for n := uint64(1); n <= 4; n++ {
		putSegment(t, from, wal.Segment{Timeline: 1, Number: n}, mib)
	}
	o := WALCopyOptions{Ranges: []wal.Range{segmentsOf(1, 2, 3, mib)}}
	life := func(n int, after bool) int {
		m := newMemory()
		to := newArchive(t, m, mib)
		putSegment(t, to, wal.Segment{Timeline: 1, Number: 1}, mib)
		putSegment(t, to, wal.Segment{Timeline: 1, Number: 4}, mib)
		check(t, to.WriteIndex(t.Context(), 1))
		calls := 0
		m.step = func(string) (error, error) {
			calls++
			switch {
			case n < 0 || calls <= n:
				return nil, nil
			case calls == n+1 && after:
				return nil, errDead
			}
			return errDead, nil
		}
		_, err := CopyWAL(t.Context(), from, to, o)
		if n < 0 && err != nil || n >= 0 && !errors.Is(err, errDead) {
			t.Fatalf("killed at %d: %v", n, err)
		}
		m.step = nil
		to = reopened(t, to)
		must(CopyWAL(t.Context(), from, to, o))(t)
		got := must(to.WALRanges(t.Context()))(t)
		if len(got) != 1 || got[0].Range != segmentsOf(1, 1, 4, mib) {
			t.Errorf("killed at %d (after: %v): %+v", n, after, got)
		}
		return calls
	}
	calls := life(-1, false)
	for n := range calls {
		life(n, false)
		life(n, true)
	}
	if calls < 8 {
		t.Errorf("%d calls", calls)
	}
}
