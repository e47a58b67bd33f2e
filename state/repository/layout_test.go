package repository

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/wal"
)

func anySegmentSize() *rapid.Generator[wal.SegmentSize] {
	return rapid.Custom(func(t *rapid.T) wal.SegmentSize { return wal.SegmentSize(1 << rapid.IntRange(20, 30).Draw(t, "bits")) })
}

// TestKeysComeBack is a property: every key that can be written is a store's key and says, read back, what it was written from.
func TestKeysComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringMatching(`[a-z0-9][a-z0-9_-]{0,62}(\.[a-z0-9][a-z0-9_-]{0,62})?`).Draw(t, "name")
		k := ClusterKey{Name: name, SystemID: rapid.StringMatching(`[1-9][0-9]{0,18}`).Draw(t, "system id")}
		if err := k.Check(); err != nil {
			t.Fatal(err)
		}
		z := anySegmentSize().Draw(t, "segment size")
		timeline := wal.Timeline(rapid.Uint32Min(1).Draw(t, "timeline"))
		n := walName{Segment: wal.Segment{Timeline: timeline, Number: rapid.Uint64Max(1<<32*perLog(z)-1).Draw(t, "number")}}
		if rapid.Bool().Draw(t, "partial") {
			n.Offset = rapid.Int64Range(1, z.Bytes()).Draw(t, "offset")
		}
		if got, ok := k.parseWALFile(k.walFile(n, z), z); !ok || got != n {
			t.Fatalf("%s: %+v", k.walFile(n, z), got)
		}
		x := indexName{Timeline: timeline, Log: logOf(n.Segment, z), Generation: rapid.IntRange(1, 1e6).Draw(t, "generation")}
		x.Last = inLog(n.Segment, z)
		x.First = rapid.Uint32Max(x.Last).Draw(t, "first")
		if got, ok := k.parseIndexFile(k.indexFile(x)); !ok || got != x {
			t.Fatalf("%s: %+v", k.indexFile(x), got)
		}
		r := wal.Range{Timeline: timeline, From: wal.LSN(rapid.Uint64Max(1<<63).Draw(t, "from"))}
		r.To = r.From + wal.LSN(rapid.Uint64Range(1, 1<<40).Draw(t, "bytes"))
		if got, ok := k.parseGapFile(k.gapFile(r)); !ok || got != r {
			t.Fatalf("%s: %+v", k.gapFile(r), got)
		}
		if got, ok := k.parseHistoryFile(k.historyFile(timeline)); ok != (timeline > 1) || ok && got != timeline {
			t.Fatalf("%s: %v", k.historyFile(timeline), got)
		}
		if got, ok := parseTimelineDir(k.walDir(), k.timelineDir(timeline)); !ok || got != timeline {
			t.Fatalf("%s: %v", k.timelineDir(timeline), got)
		}
		if got, ok := k.parseLogDir(k.logDir(timeline, x.Log), timeline); !ok || got != x.Log {
			t.Fatalf("%s: %v", k.logDir(timeline, x.Log), got)
		}
		if got, err := parseClusterDir(k.dir()); err != nil || got != k {
			t.Fatalf("%s: %v, %v", k.dir(), got, err)
		}
		at := time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "at"), rapid.Int64Range(0, 1e9-1).Draw(t, "ns"))
		for _, key := range []string{k.walFile(n, z), k.indexFile(x), k.gapFile(r), k.evidenceFile(at), k.journalFile(at, "0123456789abcdef"), k.clusterFile(), repositoryKey, readmeKey} {
			if err := store.CheckKey(key); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestForeignNames are names that lie in a repository by accident or ill will: none is taken for an object.
func TestForeignNames(t *testing.T) {
	k := ClusterKey{Name: "a", SystemID: "1"}
	z := wal.DefaultSegmentSize
	log := k.logDir(1, 0)
	good := "000000010000000000000001"
	for _, name := range []string{
		"", good + ".gz", good + ".partial-", good + ".partial-0", good + ".partial-00000000", good + ".partial-01000001", good + ".partial-00002000x",
		good + ".PARTIAL-00002000", strings.ToLower("00000001000000000000000A"), "000000020000000000000001", "000000010000000100000001",
		good + "/x", good + ".partial-2000", good + ".partial-0000200a", "00000001000000000000FFFF", good + " (copy)",
	} {
		if n, ok := k.parseWALFile(log+name, z); ok {
			t.Errorf("%q was taken for %+v", name, n)
		}
	}
	for _, name := range []string{"00000000.00000001-00000002.0", "00000000.00000002-00000001.1", "00000000.00000001-00000002.01", "0.1-2.1", "00000000.00000001-00000002.1.x", "x"} {
		if n, ok := k.parseIndexFile(k.indexTimeline(1) + name); ok {
			t.Errorf("%q was taken for %+v", name, n)
		}
	}
	for _, dir := range []string{"c/a/1", "c/a/../", "c/a/b/", "d/a/1/", "c/a/1/b/", "c/A/1/", "c/a/01/"} {
		if got, err := parseClusterDir(dir); err == nil {
			t.Errorf("%q was taken for %+v", dir, got)
		}
	}
}

// FuzzKeys parses arbitrary keys: what is accepted is written back as the very same key.
func FuzzKeys(f *testing.F) {
	k := ClusterKey{Name: "a", SystemID: "1"}
	f.Add(k.segmentFile(wal.Segment{Timeline: 1, Number: 1}, mib))
	f.Add(k.partialFile(wal.Segment{Timeline: 1, Number: 1}, mib, 8192))
	f.Add(k.indexFile(indexName{Timeline: 1, Log: 1, First: 1, Last: 2, Generation: 3}))
	f.Add(k.gapFile(wal.Range{Timeline: 1, From: 1, To: 2}))
	f.Add(k.dir())
	f.Fuzz(func(t *testing.T, key string) {
		if n, ok := k.parseWALFile(key, mib); ok && k.walFile(n, mib) != key {
			t.Errorf("%q: %+v", key, n)
		}
		if n, ok := k.parseIndexFile(key); ok && k.indexFile(n) != key {
			t.Errorf("%q: %+v", key, n)
		}
		if r, ok := k.parseGapFile(key); ok && k.gapFile(r) != key {
			t.Errorf("%q: %+v", key, r)
		}
		if got, err := parseClusterDir(key); err == nil && got.dir() != key {
			t.Errorf("%q: %+v", key, got)
		}
	})
}
