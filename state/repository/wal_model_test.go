package repository

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/repository/store/storetest"
	"github.com/pgkeep/pgkeep/state/wal"
)

// truth is the model: which segments and partials are archived, known without any index.
type truth struct {
	whole map[wal.Segment]bool
	parts map[wal.Segment]wal.LSN // longest
}

// ranges computes what WALRanges must say, segment by segment.
func (m truth) ranges() []state.WALRange {
	var segs []wal.Segment
	for s := range m.whole {
		segs = append(segs, s)
	}
	slices.SortFunc(segs, compareSegments)
	var out []state.WALRange
	for _, s := range segs {
		sum := summaryOf(s, mib)
		if n := len(out); n > 0 && out[n-1].Timeline == s.Timeline && out[n-1].To == s.Start(mib) {
			out[n-1].To = s.End(mib)
		} else {
			out = append(out, state.WALRange{Range: wal.Range{Timeline: s.Timeline, From: s.Start(mib), To: s.End(mib)}})
		}
		r := &out[len(out)-1]
		if r.FirstCommit.IsZero() {
			r.FirstCommit = sum.MinCommit
		}
		if !sum.MaxCommit.IsZero() {
			r.LastCommit = sum.MaxCommit
		}
	}
	for s, end := range m.parts {
		if m.whole[s] {
			continue
		}
		at := slices.IndexFunc(out, func(r state.WALRange) bool { return r.Timeline == s.Timeline && r.To == s.Start(mib) && r.From < r.To })
		if at >= 0 {
			out[at].Partial = end
			continue
		}
		out = append(out, state.WALRange{Range: wal.Range{Timeline: s.Timeline, From: s.Start(mib), To: s.Start(mib)}, Partial: end})
	}
	slices.SortFunc(out, func(a, b state.WALRange) int { return compareRanges(a.Range, b.Range) })
	return out
}

func compareSegments(a, b wal.Segment) int {
	if a.Timeline != b.Timeline {
		return int(a.Timeline) - int(b.Timeline)
	}
	return int(int64(a.Number) - int64(b.Number))
}

func withoutBytes(in []state.WALRange) []state.WALRange {
	out := slices.Clone(in)
	for i := range out {
		out[i].Bytes = 0
	}
	return out
}

// archiveModel drives an archive and its model. Numbers lie around the border of two logs.
type archiveModel struct {
	st   *storetest.Memory
	c    *Cluster
	m    truth
	tips map[wal.Timeline]uint64
}

func newArchiveModel(t testing.TB) *archiveModel {
	st := storetest.NewMemory(nil)
	return &archiveModel{
		st: st, c: newArchive(t, st, mib), m: truth{whole: map[wal.Segment]bool{}, parts: map[wal.Segment]wal.LSN{}},
		tips: map[wal.Timeline]uint64{1: 4088, 2: 4093, 7: 8190},
	}
}

func (a *archiveModel) put(t testing.TB, timeline wal.Timeline, skip uint64) {
	a.tips[timeline] += skip
	seg := wal.Segment{Timeline: timeline, Number: a.tips[timeline]}
	a.tips[timeline]++
	putSegment(t, a.c, seg, mib)
	a.m.whole[seg] = true
}

func (a *archiveModel) part(t testing.TB, timeline wal.Timeline, length int64) {
	seg := wal.Segment{Timeline: timeline, Number: a.tips[timeline]}
	end := seg.Start(mib) + wal.LSN(length)
	if err := a.c.PutPartial(t.Context(), seg, end, bytes.NewReader(plainSegment(seg, mib))); err != nil {
		t.Fatal(err)
	}
	a.m.parts[seg] = max(a.m.parts[seg], end)
}

// forget takes doomed WAL out of the model.
func (a *archiveModel) forget(doomed []wal.Range) {
	for s := range a.m.whole {
		if inside(doomed, walName{Segment: s}, mib) {
			delete(a.m.whole, s)
		}
	}
	for s := range a.m.parts {
		if inside(doomed, walName{Segment: s}, mib) {
			delete(a.m.parts, s)
		}
	}
}

func (a *archiveModel) check(t testing.TB, c *Cluster) {
	t.Helper()
	want := a.m.ranges()
	got, err := c.WALRanges(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, withoutBytes(got)); d != "" {
		t.Fatalf("ranges (-want +got):\n%s", d)
	}
	for timeline := range a.tips {
		var newest wal.LSN
		for _, r := range want {
			if r.Timeline == timeline {
				newest = max(r.To, r.Partial)
			}
		}
		if end, err := c.DurableEnd(t.Context(), timeline); err != nil || end != newest {
			t.Fatalf("durable end of timeline %d: %s, %v, want %s", timeline, end, err, newest)
		}
		all := wal.Range{Timeline: timeline, From: 0, To: wal.Segment{Number: 9000}.Start(mib)}
		n := 0
		for seg, sum := range c.Summaries(t.Context(), all) {
			n++
			if !a.m.whole[seg] || !cmp.Equal(sum, summaryOf(seg, mib)) {
				t.Fatalf("summary of %v: %+v", seg, sum)
			}
		}
		for seg := range a.m.whole {
			if seg.Timeline == timeline {
				n--
			}
		}
		if n != 0 {
			t.Fatalf("timeline %d: %d summaries too many", timeline, n)
		}
	}
}

// storedBytes sums up what WALRanges must count.
func (a *archiveModel) storedBytes() (sum int64) {
	for s := range a.m.whole {
		sum += int64(len(a.st.Bytes(a.c.key.segmentFile(s, mib))))
	}
	return sum
}

func TestArchiveModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		a := newArchiveModel(t)
		timeline := rapid.SampledFrom([]wal.Timeline{1, 1, 2, 7})
		rt.Repeat(map[string]func(*rapid.T){
			"put": func(rt *rapid.T) { a.put(t, timeline.Draw(rt, "timeline"), 0) },
			"put some": func(rt *rapid.T) {
				for range rapid.IntRange(1, 6).Draw(rt, "n") {
					a.put(t, 1, 0)
				}
			},
			"put after a gap": func(rt *rapid.T) { a.put(t, timeline.Draw(rt, "timeline"), rapid.Uint64Range(1, 5).Draw(rt, "skip")) },
			"part": func(rt *rapid.T) {
				a.part(t, timeline.Draw(rt, "timeline"), 8192*rapid.Int64Range(1, 127).Draw(rt, "pages"))
			},
			"index": func(rt *rapid.T) {
				if err := a.c.WriteIndex(t.Context(), timeline.Draw(rt, "timeline")); err != nil {
					rt.Fatal(err)
				}
			},
			"rebuild": func(rt *rapid.T) {
				if err := a.c.RebuildIndex(t.Context(), timeline.Draw(rt, "timeline")); err != nil {
					rt.Fatal(err)
				}
			},
			"delete": func(rt *rapid.T) {
				from := rapid.Uint64Range(4080, 4110).Draw(rt, "from")
				n := rapid.Uint64Range(1, 12).Draw(rt, "n")
				r := []wal.Range{{Timeline: timeline.Draw(rt, "timeline"), From: wal.LSN(from << 20), To: wal.LSN((from + n) << 20)}}
				if _, err := a.c.DeleteWAL(t.Context(), r); err != nil {
					rt.Fatal(err)
				}
				a.forget(r)
				for _, key := range a.st.Keys() {
					if n, ok := a.c.key.parseWALFile(key, mib); ok && n.partial() && a.m.whole[n.Segment] {
						rt.Fatalf("the stale partial %s survived", key)
					}
				}
			},
			"lose the index": func(rt *rapid.T) {
				for _, key := range a.st.Keys() {
					if _, ok := a.c.key.parseIndexFile(key); ok {
						a.st.Set(key, nil)
					}
				}
				a.c = reopened(t, a.c)
			},
			"reopen": func(*rapid.T) { a.c = reopened(t, a.c) },
			"":       func(*rapid.T) { a.check(t, a.c) },
		})
		a.check(t, reopened(t, a.c))
		got, err := a.c.WALRanges(t.Context())
		if err != nil {
			rt.Fatal(err)
		}
		var sum int64
		for _, r := range got {
			sum += r.Bytes
		}
		if want := a.storedBytes(); sum != want {
			rt.Fatalf("ranges count %d stored bytes, there are %d", sum, want)
		}
	})
}

var errKilled = errors.New("killed")

// TestKilledDelete kills DeleteWAL and WriteIndex before and after each of their calls. Whatever was to stay is told, nothing is
// told that is gone, and running it again finishes.
func TestKilledDelete(t *testing.T) {
	doomed := []wal.Range{{Timeline: 1, From: 4088 << 20, To: 4093 << 20}, {Timeline: 1, From: 4095 << 20, To: 4097 << 20}}
	whole := newArchiveModel(t)
	for i := range 14 {
		whole.put(t, 1, 0)
		if i == 5 || i == 9 {
			whole.part(t, 1, 8192)
		}
		if i == 8 || i == 11 {
			if err := whole.c.WriteIndex(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
		}
	}
	killed := 0
	for at := int64(1); ; at++ {
		fired := false
		for _, before := range []bool{true, false} {
			fired = whole.clone(t).killDelete(t, at, before, doomed) || fired
		}
		if !fired {
			break
		}
		killed++
	}
	if killed < 20 {
		t.Errorf("only %d calls were killed", killed)
	}
}

// clone gives the same archive in a store of its own.
func (a *archiveModel) clone(t testing.TB) *archiveModel {
	st := a.st.Clone()
	r, err := OpenWith(t.Context(), st, suiteKeys())
	if err != nil {
		t.Fatal(err)
	}
	m := truth{whole: maps.Clone(a.m.whole), parts: maps.Clone(a.m.parts)}
	return &archiveModel{st: st, c: r.Cluster(archiveName, archiveID), m: m, tips: maps.Clone(a.tips)}
}

func (a *archiveModel) killDelete(t *testing.T, at int64, before bool, doomed []wal.Range) bool {
	t.Helper()
	f := &storetest.Faulty{Store: a.st}
	dead := false
	r, err := OpenWith(t.Context(), f, suiteKeys())
	if err != nil {
		t.Fatal(err)
	}
	start := f.Calls()
	kill := func(now bool) func(storetest.Call) error {
		return func(call storetest.Call) error {
			if dead || call.N == start+at && now == before {
				dead = true
				return errKilled
			}
			return nil
		}
	}
	f.Before, f.After = kill(true), kill(false)
	_, err = r.Cluster(archiveName, archiveID).DeleteWAL(t.Context(), doomed)
	if dead != (err != nil) || dead && !errors.Is(err, errKilled) {
		t.Fatalf("killed at call %d: %v, but %v", at, dead, err)
	}
	where := fmt.Sprintf("killed at call %d, before: %v", at, before)
	a.afterKill(t, where, doomed)
	c := reopened(t, a.c)
	if _, err := c.DeleteWAL(t.Context(), doomed); err != nil {
		t.Fatalf("%s: again: %v", where, err)
	}
	a.forget(doomed)
	a.check(t, c)
	for _, key := range a.st.Keys() {
		if n, ok := a.c.key.parseWALFile(key, mib); ok && (n.partial() && a.m.whole[n.Segment] || inside(doomed, n, mib)) {
			t.Fatalf("%s: %s was never deleted", where, key)
		}
	}
	return dead
}

// afterKill checks what a reader sees after the kill.
func (a *archiveModel) afterKill(t *testing.T, where string, doomed []wal.Range) {
	t.Helper()
	ranges, err := reopened(t, a.c).WALRanges(t.Context())
	if err != nil {
		t.Fatalf("%s: %v", where, err)
	}
	told := func(s wal.Segment) bool {
		return slices.ContainsFunc(ranges, func(r state.WALRange) bool {
			return r.Contains(wal.Range{Timeline: s.Timeline, From: s.Start(mib), To: s.End(mib)})
		})
	}
	for s := range a.m.whole {
		_, err := a.st.Stat(t.Context(), a.c.key.segmentFile(s, mib))
		switch goes := inside(doomed, walName{Segment: s}, mib); {
		case goes && told(s) && errors.Is(err, store.ErrNotExist):
			t.Fatalf("%s: segment %d is told and gone", where, s.Number)
		case !goes && (!told(s) || err != nil):
			t.Fatalf("%s: segment %d was to stay: told %v, %v", where, s.Number, told(s), err)
		}
	}
}

// TestArchiveTogether lets a writer, two indexers and a deleter work at once, over and over: in the end the index tells the truth.
func TestArchiveTogether(t *testing.T) {
	a := newArchiveModel(t)
	for range 10 {
		a.put(t, 1, 0)
	}
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 2 {
		wg.Go(func() {
			c := reopened(t, a.c)
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := c.WriteIndex(t.Context(), 1); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Go(func() {
		c := reopened(t, a.c)
		for i := range 6 { // only what was there before: 4088 to 4097, all of one log and the first of the next
			r := []wal.Range{{Timeline: 1, From: 0, To: wal.LSN(4088+2*i) << 20}}
			if _, err := c.DeleteWAL(t.Context(), r); err != nil {
				t.Error(err)
			}
		}
	})
	for range 60 {
		a.put(t, 1, 0)
	}
	close(stop)
	wg.Wait()
	a.forget([]wal.Range{{Timeline: 1, From: 0, To: (4088 + 10) << 20}})
	c := reopened(t, a.c)
	if err := c.WriteIndex(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	a.check(t, c)
}

// TestIndexTie plants two indexes of one generation, as two writers who never saw each other leave them: neither is believed, and
// the next indexing mends it.
func TestIndexTie(t *testing.T) {
	a := newArchiveModel(t)
	for range 4 {
		a.put(t, 1, 0)
	}
	for range 2 {
		x := indexDoc{Segments: []indexEntry{{N: 4090}}}
		if len(a.st.Keys()) > 0 && slices.ContainsFunc(a.st.Keys(), func(k string) bool { _, ok := a.c.key.parseIndexFile(k); return ok }) {
			x.Segments[0].N = 4089
		}
		if _, err := a.c.writeIndexFile(t.Context(), indexName{Timeline: 1}, mib, nil, x); err != nil {
			t.Fatal(err)
		}
	}
	a.check(t, reopened(t, a.c))
	if err := a.c.WriteIndex(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	names, err := a.c.indexNames(t.Context(), a.c.key.indexTimeline(1))
	if err != nil {
		t.Fatal(err)
	}
	if n, ok := winner(names[0]); !ok || n.Generation != 2 {
		t.Errorf("the index that counts: %+v, %v", n, ok)
	}
	a.check(t, reopened(t, a.c))
}

// TestIndexOfNothing plants the index of a writer that was paused while its log was emptied, and killed when it had put it.
func TestIndexOfNothing(t *testing.T) {
	a := newArchiveModel(t)
	x := indexDoc{Segments: []indexEntry{{N: 4088, Size: 1}}}
	if done, err := a.c.writeIndexFile(t.Context(), indexName{Timeline: 1}, mib, nil, x); done || err != nil {
		t.Fatalf("an index of what is gone passed for true: %v", err)
	}
	a.check(t, reopened(t, a.c))
	if err := a.c.WriteIndex(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	for _, key := range a.st.Keys() {
		if _, ok := a.c.key.parseIndexFile(key); ok {
			t.Errorf("%s is still there", key)
		}
	}
}

// TestRangesAreCheap counts calls: a thousand indexed logs cost one read each the first time and none the second.
func TestRangesAreCheap(t *testing.T) {
	st := storetest.NewMemory(nil)
	c := newArchive(t, st, 1<<30) // four segments a log
	const logs = 100
	for l := range log(logs) {
		x := indexDoc{}
		for n := range uint32(4) {
			seg := segmentOf(1, l, n, 1<<30)
			x.Segments = append(x.Segments, indexEntry{N: n, Size: 10, Sum: summaryOf(seg, 1<<30)})
			st.Set(c.key.segmentFile(seg, 1<<30), []byte("x"))
		}
		if _, err := c.writeIndexFile(t.Context(), indexName{Timeline: 1, Log: l}, 1<<30, nil, x); err != nil {
			t.Fatal(err)
		}
	}
	f := &storetest.Faulty{Store: st}
	r, err := OpenWith(t.Context(), f, suiteKeys())
	if err != nil {
		t.Fatal(err)
	}
	look := func() int64 {
		before := f.Calls()
		ranges, err := r.Cluster(archiveName, archiveID).WALRanges(t.Context())
		if err != nil || len(ranges) != 1 || ranges[0].Bytes != 4*logs*10 || ranges[0].LastCommit.Before(archiveEpoch.Add(time.Hour)) {
			t.Fatalf("%+v, %v", ranges, err)
		}
		return f.Calls() - before
	}
	if n := look(); n > logs+6 {
		t.Errorf("%d calls for %d logs", n, logs)
	}
	if n := look(); n > 6 {
		t.Errorf("%d calls the second time", n)
	}
}
