package repository

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/pgkeep/pgkeep/state/wal"
)

// Parsing is strict: a name is read only if writing what it says gives the very same name, so no two names mean one
// thing, and whatever else lies in a directory is not ours and left alone.

// walName is what the name of an object below w/<tli>/<log>/ says: a whole segment, or the first Offset bytes of one.
type walName struct {
	Segment wal.Segment
	Offset  int64 // of a partial; 0: the whole segment
}

func (n walName) partial() bool { return n.Offset != 0 }

func (k ClusterKey) walFile(n walName, z wal.SegmentSize) string {
	if n.partial() {
		return k.partialFile(n.Segment, z, n.Offset)
	}
	return k.segmentFile(n.Segment, z)
}

// parseWALFile reads a key below w/.
func (k ClusterKey) parseWALFile(key string, z wal.SegmentSize) (walName, bool) {
	name := key[strings.LastIndexByte(key, '/')+1:]
	base, suffix, partial := strings.Cut(name, ".partial-")
	seg, err := wal.ParseSegmentName(base, z)
	if err != nil {
		return walName{}, false
	}
	n := walName{Segment: seg}
	if partial {
		offset, err := strconv.ParseUint(suffix, 16, 32)
		if err != nil || offset == 0 || int64(offset) > z.Bytes() {
			return walName{}, false
		}
		n.Offset = int64(offset)
	}
	return n, k.walFile(n, z) == key
}

// parseIndexFile reads a key below wx/.
func (k ClusterKey) parseIndexFile(key string) (indexName, bool) {
	rest, ok := strings.CutPrefix(key, k.indexDir())
	if !ok {
		return indexName{}, false
	}
	tli, name, ok := strings.Cut(rest, "/")
	part := strings.Split(name, ".")
	if !ok || len(part) != 3 {
		return indexName{}, false
	}
	first, last, ok := strings.Cut(part[1], "-")
	generation, err := strconv.Atoi(part[2])
	if !ok || err != nil || generation < 1 {
		return indexName{}, false
	}
	n := indexName{
		Timeline: wal.Timeline(fromHex(tli)), Log: log(fromHex(part[0])), First: fromHex(first), Last: fromHex(last), Generation: generation,
	}
	return n, n.Timeline > 0 && n.First <= n.Last && k.indexFile(n) == key
}

// parseGapFile reads a key below gap/.
func (k ClusterKey) parseGapFile(key string) (wal.Range, bool) {
	rest, ok := strings.CutPrefix(key, k.gapDir())
	part := strings.Split(rest, "-")
	if !ok || len(part) != 3 {
		return wal.Range{}, false
	}
	from, err1 := strconv.ParseUint(part[1], 16, 64)
	to, err2 := strconv.ParseUint(part[2], 16, 64)
	r := wal.Range{Timeline: wal.Timeline(fromHex(part[0])), From: wal.LSN(from), To: wal.LSN(to)}
	return r, err1 == nil && err2 == nil && r.Timeline > 0 && !r.Empty() && k.gapFile(r) == key
}

// parseTimelineDir reads the prefix of one timeline below dir: w/ or wx/.
func parseTimelineDir(dir, key string) (wal.Timeline, bool) {
	name := strings.TrimSuffix(strings.TrimPrefix(key, dir), "/")
	t := wal.Timeline(fromHex(name))
	return t, t > 0 && dir+t.Hex()+"/" == key
}

// parseLogDir reads the prefix of one log below w/<tli>/.
func (k ClusterKey) parseLogDir(key string, t wal.Timeline) (log, bool) {
	name := strings.TrimSuffix(strings.TrimPrefix(key, k.timelineDir(t)), "/")
	l := log(fromHex(name))
	return l, k.logDir(t, l) == key
}

// parseHistoryFile reads a key below w/history/.
func (k ClusterKey) parseHistoryFile(key string) (wal.Timeline, bool) {
	t := wal.Timeline(fromHex(strings.TrimPrefix(key, k.historyDir())))
	return t, t > 1 && k.historyFile(t) == key
}

// fromHex reads up to eight digits; 0 for anything else, which the comparison with the written name then refuses.
func fromHex(s string) uint32 {
	v, err := strconv.ParseUint(s, 16, 32)
	if err != nil {
		return 0
	}
	return uint32(v)
}

// parseClusterDir reads the prefix of one cluster, c/<name>/<system id>/.
func parseClusterDir(key string) (ClusterKey, error) {
	part := strings.Split(key, "/")
	if len(part) != 4 || part[0]+"/" != clustersDir || part[3] != "" {
		return ClusterKey{}, fmt.Errorf("%q is no cluster's directory", key)
	}
	k := ClusterKey{Name: part[1], SystemID: part[2]}
	return k, k.Check()
}
