package repository

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/seal"
	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/repository/store/storetest"
	"github.com/pgkeep/pgkeep/state/wal"
)

const (
	archiveName = "orders.eu"
	archiveID   = "7335180256203400928"
	mib         = wal.SegmentSize(1 << 20) // segments of 1 MiB: 4096 in a log
)

var archiveEpoch = time.Date(2026, 2, 10, 0, 0, 0, 0, time.UTC)

// newArchive gives a repository in a store and a cluster in it with segments of size z.
func newArchive(t testing.TB, st store.Store, z wal.SegmentSize) *Cluster {
	t.Helper()
	r, err := Create(t.Context(), st, CreateOptions{Now: archiveEpoch, Keys: suiteKeys()})
	if err != nil {
		t.Fatal(err)
	}
	c := r.Cluster(archiveName, archiveID)
	if err := c.Ensure(t.Context(), ClusterFacts{Major: 15, SegmentSize: z, PageSize: 8192, PageChecksums: true}); err != nil {
		t.Fatal(err)
	}
	return c
}

// reopened gives the same cluster as a new process sees it.
func reopened(t testing.TB, c *Cluster) *Cluster {
	t.Helper()
	r, err := OpenWith(t.Context(), c.repo.times.Store, suiteKeys())
	if err != nil {
		t.Fatal(err)
	}
	return r.Cluster(c.key.Name, c.key.SystemID)
}

// plainSegment gives bytes that differ from segment to segment.
func plainSegment(seg wal.Segment, z wal.SegmentSize) []byte {
	b := make([]byte, z)
	binary.LittleEndian.PutUint32(b, uint32(seg.Timeline))
	binary.LittleEndian.PutUint64(b[4:], seg.Number)
	return b
}

// summaryOf gives a segment a commit in its own minute; every fifth segment has none.
func summaryOf(seg wal.Segment, z wal.SegmentSize) wal.Summary {
	s := wal.Summary{First: seg.Start(z) + 40, Last: seg.End(z), End: seg.End(z)}
	if seg.Number%5 != 0 {
		at := archiveEpoch.Add(time.Duration(seg.Number) * time.Minute)
		s.Commits, s.MinCommit, s.MaxCommit, s.MinXID, s.MaxXID = 1, at, at.Add(time.Second), uint32(seg.Number), uint32(seg.Number)+1
	}
	return s
}

func putSegment(t testing.TB, c *Cluster, seg wal.Segment, z wal.SegmentSize) {
	t.Helper()
	if err := c.PutSegment(t.Context(), seg, summaryOf(seg, z), bytes.NewReader(plainSegment(seg, z))); err != nil {
		t.Fatal(err)
	}
}

// TestSegmentsPackedAtOnce: packing needs no order and can be given up; what was packed can be put more than once.
func TestSegmentsPackedAtOnce(t *testing.T) {
	c := newArchive(t, storetest.NewMemory(nil), mib)
	packed := make([]*PackedSegment, 4)
	var group sync.WaitGroup
	for i := range packed {
		group.Go(func() {
			seg := wal.Segment{Timeline: 1, Number: uint64(i)}
			p, err := c.PackSegment(t.Context(), seg, summaryOf(seg, mib), bytes.NewReader(plainSegment(seg, mib)))
			if err != nil {
				t.Error(err)
			}
			packed[i] = p
		})
	}
	group.Wait()
	for i, p := range packed {
		if end, err := c.DurableEnd(t.Context(), 1); err != nil || end != (wal.Segment{Number: uint64(i)}).Start(mib) {
			t.Errorf("packing put something: %s, %v", end, err)
		}
		if err := errors.Join(p.Put(t.Context()), p.Put(t.Context()), p.Close()); err != nil {
			t.Error(err)
		}
		c = reopened(t, c)
	}
	ctx, giveUp := context.WithCancel(t.Context())
	giveUp()
	seg := wal.Segment{Timeline: 1, Number: 9}
	if _, err := c.PackSegment(ctx, seg, summaryOf(seg, mib), bytes.NewReader(plainSegment(seg, mib))); !errors.Is(err, context.Canceled) {
		t.Errorf("packing went on: %v", err)
	}
}

func TestSegmentRoundTrip(t *testing.T) {
	for _, codec := range []seal.Codec{{Algorithm: seal.Zstd}, {Algorithm: seal.Gzip, Level: 6}, {Algorithm: seal.LZ4}} {
		c := newArchive(t, storetest.NewMemory(nil), mib)
		r, err := c.repo.WithCompression(codec)
		if err != nil {
			t.Fatal(err)
		}
		c = r.Cluster(archiveName, archiveID)
		seg := wal.Segment{Timeline: 3, Number: 4097}
		putSegment(t, c, seg, mib)
		w, err := c.OpenSegment(t.Context(), seg)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(w)
		if err != nil || !bytes.Equal(got, plainSegment(seg, mib)) || w.Size() != mib.Bytes() || len(w.SHA256()) != 64 {
			t.Errorf("%v: %d bytes, %v", codec, len(got), err)
		}
		if d := cmp.Diff(summaryOf(seg, mib), w.Summary()); d != "" {
			t.Errorf("%v: summary (-want +got):\n%s", codec, d)
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		key := c.key.segmentFile(seg, mib)
		if want := "c/orders.eu/7335180256203400928/w/00000003/00000001/000000030000000100000001"; key != want {
			t.Errorf("key %s, want %s", key, want)
		}
		// The same bytes are fine however they were compressed; other bytes never.
		other, err := c.repo.WithCompression(seal.Codec{Algorithm: seal.Gzip, Level: 9})
		if err != nil {
			t.Fatal(err)
		}
		putSegment(t, other.Cluster(archiveName, archiveID), seg, mib)
		stored := c.repo.times.Store.(*storetest.Memory).Bytes(key)
		fork := plainSegment(seg, mib)
		fork[len(fork)-1] = 1
		err = c.PutSegment(t.Context(), seg, summaryOf(seg, mib), bytes.NewReader(fork))
		if state.CodeOf(err) != state.CodeFork || state.HintOf(err) == "" {
			t.Errorf("other bytes: %v", err)
		}
		if !bytes.Equal(stored, c.repo.times.Store.(*storetest.Memory).Bytes(key)) {
			t.Error("the archived object changed")
		}
	}
}

func TestAbsentSegment(t *testing.T) {
	c := newArchive(t, storetest.NewMemory(nil), mib)
	seg := wal.Segment{Timeline: 1, Number: 3}
	if _, err := c.OpenSegment(t.Context(), seg); !errors.Is(err, store.ErrNotExist) {
		t.Errorf("open: %v", err)
	}
	if _, _, err := c.OpenPartial(t.Context(), seg); !errors.Is(err, store.ErrNotExist) {
		t.Errorf("open partial: %v", err)
	}
	if _, err := c.SegmentSummary(t.Context(), seg); !errors.Is(err, store.ErrNotExist) {
		t.Errorf("summary: %v", err)
	}
	if _, err := c.History(t.Context(), 2); !errors.Is(err, store.ErrNotExist) {
		t.Errorf("history: %v", err)
	}
	if end, err := c.DurableEnd(t.Context(), 1); err != nil || end != 0 {
		t.Errorf("durable end %s, %v", end, err)
	}
	unknown := c.repo.Cluster("other", "1")
	if err := unknown.PutSegment(t.Context(), seg, wal.Summary{}, bytes.NewReader(nil)); !errors.Is(err, store.ErrNotExist) {
		t.Errorf("put into a cluster that was never added: %v", err)
	}
}

// TestLostAnswer loses the answer of the put: the object is there, and the next try, which compresses afresh, succeeds.
func TestLostAnswer(t *testing.T) {
	lost := errors.New("answer lost")
	f := &storetest.Faulty{Store: storetest.NewMemory(nil)}
	c := newArchive(t, f, mib)
	seg := wal.Segment{Timeline: 1, Number: 1}
	f.After = func(call storetest.Call) error {
		if call.Method == "PutIfAbsent" {
			return lost
		}
		return nil
	}
	err := c.PutSegment(t.Context(), seg, summaryOf(seg, mib), bytes.NewReader(plainSegment(seg, mib)))
	if !errors.Is(err, lost) {
		t.Fatalf("the failure was hidden: %v", err)
	}
	f.After = nil
	putSegment(t, c, seg, mib)
}

func TestPartials(t *testing.T) {
	c := newArchive(t, storetest.NewMemory(nil), mib)
	seg := wal.Segment{Timeline: 1, Number: 7}
	plain := plainSegment(seg, mib)
	for _, n := range []int{8192, 500_000, 24576} {
		if err := c.PutPartial(t.Context(), seg, seg.Start(mib)+wal.LSN(n), bytes.NewReader(plain)); err != nil {
			t.Fatal(err)
		}
	}
	w, end, err := c.OpenPartial(t.Context(), seg)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	got, err := io.ReadAll(w)
	if err != nil || end != seg.Start(mib)+500_000 || !bytes.Equal(got, plain[:500_000]) {
		t.Errorf("%d bytes up to %s, %v", len(got), end, err)
	}
	for _, bad := range []wal.LSN{seg.Start(mib), seg.Start(mib) - 1, seg.End(mib) + 1} {
		if err := c.PutPartial(t.Context(), seg, bad, bytes.NewReader(plain)); err == nil {
			t.Errorf("a part up to %s was accepted", bad)
		}
	}
	plain[3] ^= 1
	err = c.PutPartial(t.Context(), seg, end, bytes.NewReader(plain))
	if state.CodeOf(err) != state.CodeFork {
		t.Errorf("other bytes: %v", err)
	}
}

// TestPartialTimes: what can be restored ends with the newest commit of the part, also while the server that wrote it is gone.
func TestPartialTimes(t *testing.T) {
	c := newArchive(t, storetest.NewMemory(nil), mib)
	for number := uint64(7); number <= 8; number++ { // a part alone, then one after a whole segment
		seg := wal.Segment{Timeline: 1, Number: number}
		sum := summaryOf(seg, mib)
		sum.Commits, sum.MinCommit, sum.MaxCommit = 2, archiveEpoch.Add(time.Duration(number)*time.Hour), archiveEpoch.Add(time.Duration(number+1)*time.Hour)
		if err := c.putWAL(t.Context(), walName{Segment: seg, Offset: 16384}, mib, sum, bytes.NewReader(plainSegment(seg, mib))); err != nil {
			t.Fatal(err)
		}
		ranges, err := c.WALRanges(t.Context())
		if err != nil || len(ranges) != 1 || ranges[0].Partial != seg.Start(mib)+16384 || !ranges[0].LastCommit.Equal(sum.MaxCommit) || ranges[0].FirstCommit.IsZero() {
			t.Errorf("%+v, %v; want one range with commits up to %s", ranges, err, sum.MaxCommit)
		}
		putSegment(t, c, seg, mib)
	}
}

func TestHistory(t *testing.T) {
	c := newArchive(t, storetest.NewMemory(nil), mib)
	content := "1\t0/3000158\tno recovery target specified\n"
	if err := c.PutHistory(t.Context(), 2, []byte(content)); err != nil {
		t.Fatal(err)
	}
	if err := c.PutHistory(t.Context(), 2, []byte(content)); err != nil {
		t.Errorf("the same again: %v", err)
	}
	if err := c.PutHistory(t.Context(), 2, []byte("1\t0/4000158\tother\n")); state.CodeOf(err) != state.CodeFork {
		t.Errorf("another history: %v", err)
	}
	if err := c.PutHistory(t.Context(), 3, []byte("garbage")); err == nil {
		t.Error("garbage was archived")
	}
	got, err := c.History(t.Context(), 2)
	if err != nil || string(got) != content {
		t.Errorf("%q, %v", got, err)
	}
	all, err := c.Histories(t.Context())
	if err != nil || len(all) != 1 || all[0].Timeline != 2 || all[0].Parents[0].Switch != 0x3000158 {
		t.Errorf("%+v, %v", all, err)
	}
}

func TestGaps(t *testing.T) {
	c := newArchive(t, storetest.NewMemory(nil), mib)
	g := state.Gap{Range: wal.Range{Timeline: 1, From: 0x300000, To: 0x500000}, Reason: "slot lost", Recorded: archiveEpoch}
	for _, reason := range []string{"slot lost", "told again"} {
		g.Reason = reason
		if err := c.RecordGap(t.Context(), g); err != nil {
			t.Fatal(err)
		}
	}
	g.Reason = "slot lost"
	got, err := c.Gaps(t.Context())
	if d := cmp.Diff([]state.Gap{g}, got); d != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
	if err := c.RecordGap(t.Context(), state.Gap{}); err == nil {
		t.Error("a gap of nothing was recorded")
	}
}

func TestJournalAndEvidence(t *testing.T) {
	c := newArchive(t, storetest.NewMemory(nil), mib)
	for i := range 3 {
		at := archiveEpoch.Add(time.Duration(i) * time.Hour)
		for range 2 { // the second time is a retry
			if err := c.PutJournal(t.Context(), at, map[string]int{"step": i}); err != nil {
				t.Fatal(err)
			}
			if err := c.PutEvidence(t.Context(), at, map[string]int{"drill": i}); err != nil {
				t.Fatal(err)
			}
		}
	}
	var got []string
	for n, err := range c.Journal(t.Context(), archiveEpoch.Add(time.Hour)) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, n.At.Format("15:04 ")+compact(n))
	}
	for n, err := range c.Evidence(t.Context(), time.Time{}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, compact(n))
	}
	want := []string{`01:00 {"step":1}`, `02:00 {"step":2}`, `{"drill":0}`, `{"drill":1}`, `{"drill":2}`}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func compact(n Note) string {
	return strings.NewReplacer("\n", "", " ", "").Replace(string(n.Entry))
}

// TestDamage flips bits all over every object of the archive, cuts them, and puts each in the place of another of its class: reading says
// CodeCorrupt each time, and never gives other bytes.
func TestDamage(t *testing.T) {
	st := storetest.NewMemory(nil)
	c := newArchive(t, st, mib)
	segs := []wal.Segment{{Timeline: 1, Number: 1}, {Timeline: 1, Number: 2}}
	for _, seg := range segs {
		putSegment(t, c, seg, mib)
		part := seg.Next().Next()
		if err := c.PutPartial(t.Context(), part, part.Start(mib)+8192, bytes.NewReader(plainSegment(part, mib))); err != nil {
			t.Fatal(err)
		}
		if err := c.PutHistory(t.Context(), wal.Timeline(seg.Number+1), fmt.Appendf(nil, "1\t0/%d\twhy\n", seg.Number)); err != nil {
			t.Fatal(err)
		}
		if err := c.RecordGap(t.Context(), state.Gap{Range: wal.Range{Timeline: 1, From: 1, To: wal.LSN(seg.Number + 5)}, Reason: "x"}); err != nil {
			t.Fatal(err)
		}
		if err := c.PutJournal(t.Context(), archiveEpoch, seg.Number); err != nil {
			t.Fatal(err)
		}
		if err := c.PutEvidence(t.Context(), archiveEpoch.Add(time.Duration(seg.Number)), seg.Number); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.WriteIndex(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	classes := damageClasses(c, segs)
	for _, class := range classes {
		for i, key := range class.keys {
			good := st.Bytes(key)
			if good == nil {
				t.Fatalf("%s: no object %s in %q", class.name, key, st.Keys())
			}
			if err := class.read(t.Context(), reopened(t, c), i); err != nil {
				t.Fatalf("%s: a good object: %v", class.name, err)
			}
			for what, bad := range damages(good, st.Bytes(class.keys[len(class.keys)-1-i])) {
				if bytes.Equal(bad, good) {
					continue
				}
				st.Set(key, bad)
				err := damaged(t, c, class, i)
				if state.CodeOf(err) != state.CodeCorrupt {
					t.Errorf("%s, %s: %v", class.name, what, err)
				}
			}
			st.Set(key, good)
		}
	}
}

// damaged opens the repository anew and reads.
func damaged(t *testing.T, c *Cluster, class damageClass, i int) error {
	r, err := OpenWith(t.Context(), c.repo.times.Store, suiteKeys())
	if err != nil {
		return err
	}
	return class.read(t.Context(), r.Cluster(c.key.Name, c.key.SystemID), i)
}

type damageClass struct {
	name string
	keys []string
	read func(ctx context.Context, c *Cluster, i int) error
}

func drain(w io.ReadCloser, err error) error {
	if err != nil {
		return err
	}
	defer w.Close()
	_, err = io.Copy(io.Discard, w)
	return err
}

func damageClasses(c *Cluster, segs []wal.Segment) []damageClass {
	k := c.key
	x := indexName{Timeline: 1, Log: 0, First: 1, Last: 2, Generation: 1}
	each := func(key func(seg wal.Segment) string) []string { return []string{key(segs[0]), key(segs[1])} }
	return []damageClass{
		{"repository", []string{repositoryKey}, func(ctx context.Context, c *Cluster, _ int) error { return nil }},
		{"cluster", []string{k.clusterFile()}, func(ctx context.Context, c *Cluster, _ int) error {
			_, err := c.Facts(ctx)
			return err
		}},
		{"segment", each(func(s wal.Segment) string { return k.segmentFile(s, mib) }), func(ctx context.Context, c *Cluster, i int) error {
			return drain(c.OpenSegment(ctx, segs[i]))
		}},
		{"partial", each(func(s wal.Segment) string { return k.partialFile(s.Next().Next(), mib, 8192) }), func(ctx context.Context, c *Cluster, i int) error {
			w, _, err := c.OpenPartial(ctx, segs[i].Next().Next())
			return drain(w, err)
		}},
		{"history", each(func(s wal.Segment) string { return k.historyFile(wal.Timeline(s.Number + 1)) }), func(ctx context.Context, c *Cluster, i int) error {
			_, err := c.Histories(ctx)
			return err
		}},
		{"gap", each(func(s wal.Segment) string {
			return k.gapFile(wal.Range{Timeline: 1, From: 1, To: wal.LSN(s.Number + 5)})
		}), func(ctx context.Context, c *Cluster, i int) error {
			_, err := c.Gaps(ctx)
			return err
		}},
		{"index", []string{k.indexFile(x)}, func(ctx context.Context, c *Cluster, i int) error {
			_, err := c.readIndex(ctx, x, mib)
			return err
		}},
		{"evidence", each(func(s wal.Segment) string { return k.evidenceFile(archiveEpoch.Add(time.Duration(s.Number))) }), func(ctx context.Context, c *Cluster, i int) error {
			for _, err := range c.Evidence(ctx, time.Time{}) {
				if err != nil {
					return err
				}
			}
			return nil
		}},
	}
}

// damages gives broken versions of an object by what was done to it.
func damages(good, other []byte) map[string][]byte {
	out := map[string][]byte{
		"empty": {}, "cut in half": good[:len(good)/2], "cut by one": good[:len(good)-1], "one more": append(bytes.Clone(good), 'x'),
		"twice": append(bytes.Clone(good), good...), "changed places": other,
	}
	step := max(1, len(good)/40)
	for at := 0; at < len(good); at += step {
		bad := bytes.Clone(good)
		bad[at] ^= 1 << (at % 8)
		out[fmt.Sprintf("bit flipped in byte %d of %d", at, len(good))] = bad
		zeroed := bytes.Clone(good)
		clear(zeroed[at:min(len(good), at+4096)])
		out[fmt.Sprintf("zeros from byte %d of %d", at, len(good))] = zeroed
	}
	return out
}
