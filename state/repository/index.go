package repository

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/jsonlist"
	"github.com/pgkeep/pgkeep/state/repository/seal"
	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/wal"
)

// maxIndex bounds the plain bytes of a wx object. A log has at most 4096 segments.
const maxIndex = 128 << 20

// maxIndexPoints is how many restore points of a segment the index repeats.
const maxIndexPoints = 100

// indexInfo is the Info of a wx object's note.
type indexInfo struct {
	SystemID    string          `json:"system_id"`
	Timeline    wal.Timeline    `json:"timeline"`
	Log         uint32          `json:"log"`
	SegmentSize wal.SegmentSize `json:"segment_size"`
	Generation  int             `json:"generation"`
}

// indexDoc is the content of a wx object: what w/<tli>/<log>/ held when it was listed.
type indexDoc struct {
	Segments jsonlist.Of[indexEntry]   `json:"segments"`           // present, by number
	Partials jsonlist.Of[indexPartial] `json:"partials,omitempty"` // present, of segments up to the last
	// Removing are numbers of segments that a deletion is about to remove, or was when it was cut short: not to be counted on.
	Removing jsonlist.Of[uint32] `json:"removing,omitempty"`
}

// indexEntry is one whole segment.
type indexEntry struct {
	N      uint32      `json:"n"`      // the last eight digits of its name
	Size   int64       `json:"size"`   // bytes, as stored
	SHA256 string      `json:"sha256"` // of the plain bytes
	Sum    wal.Summary `json:"summary"`
	More   bool        `json:"more_restore_points,omitempty"`
}

// indexPartial is one pushed part of a segment.
type indexPartial struct {
	N      uint32 `json:"n"`
	Offset int64  `json:"offset"`
	Size   int64  `json:"size"`
}

// indexShape is read before an indexDoc, and refuses lists in the summaries that would need too much memory.
type indexShape struct {
	Segments jsonlist.Of[struct {
		Summary struct {
			RestorePoints jsonlist.Measured[wal.RestorePoint]  `json:"restore_points"`
			Deeds         deedsShape                           `json:"deeds"`
			Prepared      jsonlist.Measured[wal.PreparedEvent] `json:"prepared"`
		} `json:"summary"`
	}] `json:"segments"`
}

type deedsShape struct{}

// UnmarshalJSON is json.Unmarshaler's.
func (deedsShape) UnmarshalJSON(b []byte) error {
	if err := json.Unmarshal(b, &jsonlist.Measured[wal.Deed]{}); err != nil {
		return err
	}
	var relations jsonlist.Of[struct {
		Relations jsonlist.Measured[wal.Touched] `json:"relations"`
	}]
	return json.Unmarshal(b, &relations)
}

// readIndex reads a wx object.
func (c *Cluster) readIndex(ctx context.Context, n indexName, z wal.SegmentSize) (indexDoc, error) {
	key := c.key.indexFile(n)
	b, m, err := c.readSealed(ctx, key, kindIndex, maxIndex)
	if err != nil {
		return indexDoc{}, err
	}
	if err := c.checkIndex(m, n, z); err != nil {
		return indexDoc{}, corrupt(key, err)
	}
	x, err := decodeIndex(b, n)
	if err != nil {
		return indexDoc{}, corrupt(key, err)
	}
	return x, nil
}

// decodeIndex reads what a wx object holds, which its name bounds.
func decodeIndex(b []byte, n indexName) (indexDoc, error) {
	var shape indexShape
	if err := json.Unmarshal(b, &shape); err != nil {
		return indexDoc{}, err
	}
	var x indexDoc
	if err := json.Unmarshal(b, &x); err != nil {
		return indexDoc{}, err
	}
	for i, e := range x.Segments {
		if e.N < n.First || e.N > n.Last || i > 0 && e.N <= x.Segments[i-1].N {
			return indexDoc{}, fmt.Errorf("segment %08X stands out of order", e.N)
		}
	}
	return x, nil
}

func (c *Cluster) checkIndex(m seal.Meta, n indexName, z wal.SegmentSize) error {
	var i indexInfo
	if err := json.Unmarshal(m.Info, &i); err != nil {
		return fmt.Errorf("its note cannot be read: %w", err)
	}
	if i != c.indexInfo(n, z) {
		return fmt.Errorf("it is generation %d of log %08X of timeline %d of system %s", i.Generation, i.Log, i.Timeline, i.SystemID)
	}
	return nil
}

func (c *Cluster) indexInfo(n indexName, z wal.SegmentSize) indexInfo {
	return indexInfo{SystemID: c.key.SystemID, Timeline: n.Timeline, Log: uint32(n.Log), SegmentSize: z, Generation: n.Generation}
}

// indexNames lists the names of a timeline's wx objects by log, each log's by generation.
func (c *Cluster) indexNames(ctx context.Context, prefix string) (map[log][]indexName, error) {
	out := map[log][]indexName{}
	for info, err := range c.repo.st.List(ctx, prefix, "", false) {
		if err != nil {
			return nil, fmt.Errorf("list index: %w", err)
		}
		if n, ok := c.key.parseIndexFile(info.Key); ok {
			out[n.Log] = append(out[n.Log], n)
		}
	}
	for _, names := range out {
		slices.SortFunc(names, func(a, b indexName) int { return a.Generation - b.Generation })
	}
	return out, nil
}

// winner gives the wx object that counts: the one of the highest generation. Two of one generation are two writers who did not
// see each other, one of them dead: neither counts.
func winner(names []indexName) (indexName, bool) {
	n := len(names)
	if n == 0 || n > 1 && names[n-1].Generation == names[n-2].Generation {
		return indexName{}, false
	}
	return names[n-1], true
}

// indexTries bounds how often a log is indexed again because another writer indexed it at the same moment.
const indexTries = 20

// indexLog writes the index of one log from what is listed there, unless the newest index says just that. The generation is read before the
// listing: whoever lists later has the higher one, or the same, and on the same both do it again. So does one from whose hands a deletion
// takes a segment that was listed, or a later index the one that it put.
//
// What the newest index names as being removed stays so named while it exists, or an index written in the middle of a
// deletion would promise what is gone a moment later. A deletion alone settles that, with settled, when it begins and ends.
func (c *Cluster) indexLog(ctx context.Context, t wal.Timeline, l log, z wal.SegmentSize, settled bool) error {
	why := errors.New("others index it all the time")
	for range indexTries {
		done, err := c.tryIndexLog(ctx, t, l, z, settled)
		if done || err != nil && !isAbsent(err) {
			return err
		}
		if err != nil {
			why = err
		}
	}
	return fmt.Errorf("index log %s of timeline %d of %s: %w", l.hex(), t, c.key.Name, why)
}

// tryIndexLog tells whether the index that it wrote is the one that counts.
func (c *Cluster) tryIndexLog(ctx context.Context, t wal.Timeline, l log, z wal.SegmentSize, settled bool) (done bool, err error) {
	names, err := c.indexNames(ctx, c.key.indexTimeline(t)+l.hex()+".")
	if err != nil {
		return false, err
	}
	x, err := c.listedIndex(ctx, t, l, z, names[l])
	if err == nil && !settled {
		err = c.carryRemoving(ctx, z, names[l], &x)
	}
	if err != nil {
		return false, err
	}
	return c.writeIndexFile(ctx, indexName{Timeline: t, Log: l}, z, names[l], x)
}

// carryRemoving moves what the newest index, or any of several newest, names as being removed out of what x counts.
func (c *Cluster) carryRemoving(ctx context.Context, z wal.SegmentSize, names []indexName, x *indexDoc) error {
	going := map[uint32]bool{}
	for _, n := range names {
		if n.Generation != names[len(names)-1].Generation {
			continue
		}
		old, err := c.readIndex(ctx, n, z)
		if err != nil && !isAbsent(err) && !isCorrupt(err) {
			return err
		}
		for _, number := range old.Removing {
			going[number] = true
		}
	}
	x.remove(going)
	return nil
}

// remove stops counting segments, and names them.
func (x *indexDoc) remove(going map[uint32]bool) {
	x.Segments = slices.DeleteFunc(x.Segments, func(e indexEntry) bool {
		if going[e.N] {
			x.Removing = append(x.Removing, e.N)
		}
		return going[e.N]
	})
}

// listedIndex makes an index of what is listed, taking what an older index already knows.
func (c *Cluster) listedIndex(ctx context.Context, t wal.Timeline, l log, z wal.SegmentSize, names []indexName) (indexDoc, error) {
	known := map[uint32]indexEntry{}
	if newest, ok := winner(names); ok {
		old, err := c.readIndex(ctx, newest, z)
		if err != nil && !isAbsent(err) && !isCorrupt(err) {
			return indexDoc{}, err
		}
		for _, e := range old.Segments {
			known[e.N] = e
		}
	}
	var x indexDoc
	objects, err := c.listLog(ctx, c.key.logDir(t, l), "", z)
	if err != nil {
		return x, err
	}
	for _, o := range objects {
		if o.partial() {
			x.Partials = append(x.Partials, indexPartial{N: inLog(o.Segment, z), Offset: o.Offset, Size: o.size})
			continue
		}
		e, ok := known[inLog(o.Segment, z)]
		if !ok || e.Size != o.size {
			if e, err = c.indexEntry(ctx, o, z); err != nil {
				return x, err
			}
		}
		x.Segments = append(x.Segments, e)
	}
	if n := len(x.Segments); n > 0 { // what comes after the last segment is listed by every reader
		x.Partials = slices.DeleteFunc(x.Partials, func(p indexPartial) bool { return p.N > x.Segments[n-1].N })
	}
	return x, nil
}

func (c *Cluster) indexEntry(ctx context.Context, o listed, z wal.SegmentSize) (indexEntry, error) {
	h, err := c.head(ctx, o.walName, z)
	if err != nil && !isCorrupt(err) {
		return indexEntry{}, err
	}
	// A segment whose note is broken is there, and nothing is known of it: verify finds it.
	e := indexEntry{N: inLog(o.Segment, z), Size: o.size, SHA256: h.plain.SHA256, Sum: h.info.Summary, More: h.info.MoreRestorePoints}
	if len(e.Sum.RestorePoints) > maxIndexPoints {
		e.Sum.RestorePoints, e.More = e.Sum.RestorePoints[:maxIndexPoints:maxIndexPoints], true
	}
	return e, nil
}

// writeIndexFile puts x as the next generation of n's timeline and log, after names. done is false when another writer put one of the same generation.
func (c *Cluster) writeIndexFile(ctx context.Context, n indexName, z wal.SegmentSize, names []indexName, x indexDoc) (done bool, err error) {
	body, err := json.Marshal(x)
	if err != nil {
		return false, fmt.Errorf("encode index: %w", err)
	}
	var any bool
	if n.First, n.Last, any = x.bounds(); !any {
		return true, c.dropIndexes(ctx, names)
	}
	if newest, ok := winner(names); ok && c.sameIndex(ctx, newest, z, body) {
		return true, nil
	}
	n.Generation = 1
	if len(names) > 0 {
		n.Generation = names[len(names)-1].Generation + 1
	}
	key := c.key.indexFile(n)
	err = c.putSealed(ctx, sealing{
		key: key, kind: kindIndex, what: "index " + key, info: c.indexInfo(n, z),
		check: func(m seal.Meta) error { return c.checkIndex(m, n, z) },
	}, bytes.NewReader(body), int64(len(body)))
	if isFork(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	now, err := c.indexNames(ctx, c.key.indexTimeline(n.Timeline)+n.Log.hex()+".")
	if err != nil {
		return false, err
	}
	for _, other := range now[n.Log] {
		if other.Generation == n.Generation && other != n {
			return false, nil
		}
	}
	return c.stillThere(ctx, n, z, x)
}

// stillThere lists the log once more: a deletion between listing and putting may have finished meanwhile, and its index with it.
func (c *Cluster) stillThere(ctx context.Context, n indexName, z wal.SegmentSize, x indexDoc) (bool, error) {
	objects, err := c.listLog(ctx, c.key.logDir(n.Timeline, n.Log), "", z)
	if err != nil {
		return false, err
	}
	there := map[uint32]bool{}
	for _, o := range objects {
		there[inLog(o.Segment, z)] = there[inLog(o.Segment, z)] || !o.partial()
	}
	return !slices.ContainsFunc(x.Segments, func(e indexEntry) bool { return !there[e.N] }), nil
}

// bounds gives the first and last number that the index speaks of.
func (x indexDoc) bounds() (first, last uint32, any bool) {
	var numbers []uint32
	for _, e := range x.Segments {
		numbers = append(numbers, e.N)
	}
	numbers = append(numbers, x.Removing...)
	if len(numbers) == 0 {
		return 0, 0, false
	}
	return slices.Min(numbers), slices.Max(numbers), true
}

func (c *Cluster) sameIndex(ctx context.Context, n indexName, z wal.SegmentSize, body []byte) bool {
	b, m, err := c.readSealed(ctx, c.key.indexFile(n), kindIndex, maxIndex)
	return err == nil && c.checkIndex(m, n, z) == nil && bytes.Equal(b, body)
}

// dropIndexes removes wx objects, the one that counts last.
func (c *Cluster) dropIndexes(ctx context.Context, names []indexName) error {
	for _, n := range names {
		key := c.key.indexFile(n)
		if err := c.repo.st.Delete(ctx, key); err != nil && !errors.Is(err, store.ErrRetained) { // a higher generation wins anyway
			return fmt.Errorf("remove index: %w", err)
		}
		c.repo.shared.rolls.drop(key)
	}
	return nil
}

// WriteIndex brings a timeline's index up to date with what was archived after it: hourly, and when a timeline ends. It lists only what
// the index does not cover yet.
func (c *Cluster) WriteIndex(ctx context.Context, t wal.Timeline) error {
	return c.writeIndex(ctx, t, false)
}

func (c *Cluster) writeIndex(ctx context.Context, t wal.Timeline, settled bool) error {
	z, err := c.segmentSize(ctx)
	if err != nil {
		return err
	}
	logs, err := c.survey(ctx, t, z)
	if err != nil {
		return err
	}
	for _, v := range logs {
		if v.index != nil && !v.grown && len(v.index.removing) == 0 {
			continue
		}
		if err := c.indexLog(ctx, t, v.log, z, settled); err != nil {
			return err
		}
	}
	return nil
}

// RebuildIndex makes a timeline's index anew from the objects, listing all of them: after WAL was copied in from elsewhere, or when an
// index was lost or damaged.
func (c *Cluster) RebuildIndex(ctx context.Context, t wal.Timeline) error {
	z, err := c.segmentSize(ctx)
	if err != nil {
		return err
	}
	logs, err := c.survey(ctx, t, z)
	if err != nil {
		return err
	}
	for _, v := range logs {
		if err := c.indexLog(ctx, t, v.log, z, false); err != nil {
			return err
		}
	}
	return nil
}

func isCorrupt(err error) bool { return state.CodeOf(err) == state.CodeCorrupt }
func isFull(err error) bool    { return state.CodeOf(err) == state.CodeDiskFull }
func isFork(err error) bool    { return state.CodeOf(err) == state.CodeFork }
