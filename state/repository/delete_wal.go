package repository

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/wal"
)

// deleteStep is how many objects are deleted with one call.
const deleteStep = 500

// DeleteWAL deletes the whole segments and the partials that lie inside the ranges, and every partial whose segment is archived whole, and
// gives the stored bytes that it freed. Whether anybody needs that WAL is for the caller to know.
//
// The index never promises what is gone: an index that does not count the doomed segments is put before they are deleted, and names them, so
// that a deletion that was cut short is seen and its rest becomes visible again. Running it again finishes the work. Only where the disk is too
// full for that index is it left out: room must come from somewhere, and the index is put right once there is some.
func (c *Cluster) DeleteWAL(ctx context.Context, r []wal.Range) (freed int64, err error) {
	z, err := c.segmentSize(ctx)
	if err != nil {
		return 0, err
	}
	timelines, err := c.timelines(ctx)
	if err != nil {
		return 0, err
	}
	doomed := wal.Merge(r)
	var retained error
	for _, t := range timelines {
		n, err := c.deleteTimeline(ctx, t, z, doomed)
		freed += n
		if errors.Is(err, store.ErrRetained) {
			retained = laterLock(retained, fmt.Errorf("delete WAL of %s: %w", c.key.Name, err))
		} else if err != nil {
			return freed, fmt.Errorf("delete WAL of %s: %w", c.key.Name, err)
		}
	}
	return freed, retained
}

func (c *Cluster) deleteTimeline(ctx context.Context, t wal.Timeline, z wal.SegmentSize, doomed []wal.Range) (freed int64, err error) {
	if err := c.writeIndex(ctx, t, true); err != nil && !isFull(err) { // what an earlier deletion left becomes visible
		return 0, err
	}
	views, err := c.survey(ctx, t, z)
	if err != nil {
		return 0, err
	}
	_, stale, err := c.ranges(ctx, t, z, views)
	if err != nil {
		return 0, err
	}
	isStale := map[walName]bool{}
	for _, o := range stale {
		isStale[o.walName] = true
	}
	var retained error
	for _, v := range views {
		goes := func(o listed) bool { return inside(doomed, o.walName, z) }
		if !touches(t, v, z, doomed) && !slices.ContainsFunc(v.partials, func(o listed) bool { return isStale[o.walName] }) {
			if err := c.dropOldIndexes(ctx, v.names); err != nil {
				return freed, err
			}
			continue
		}
		n, err := c.deleteInLog(ctx, t, v.log, z, goes)
		freed += n
		if errors.Is(err, store.ErrRetained) {
			retained = laterLock(retained, err)
		} else if err != nil {
			return freed, err
		}
	}
	return freed, retained
}

// inside tells whether all of an object's WAL is doomed.
func inside(doomed []wal.Range, n walName, z wal.SegmentSize) bool {
	o := wal.Range{Timeline: n.Segment.Timeline, From: n.Segment.Start(z), To: n.Segment.End(z)}
	return slices.ContainsFunc(doomed, func(r wal.Range) bool { return r.Contains(o) })
}

// touches tells whether a doomed range reaches into a log.
func touches(t wal.Timeline, v logView, z wal.SegmentSize, doomed []wal.Range) bool {
	from, to := segmentOf(t, v.log, 0, z).Start(z), segmentOf(t, v.log, uint32(perLog(z)-1), z).End(z)
	return slices.ContainsFunc(doomed, func(r wal.Range) bool { return r.Timeline == t && r.From < to && from < r.To })
}

// deleteInLog deletes the chosen objects of one log.
func (c *Cluster) deleteInLog(ctx context.Context, t wal.Timeline, l log, z wal.SegmentSize, goes func(listed) bool) (freed int64, err error) {
	objects, err := c.listLog(ctx, c.key.logDir(t, l), "", z)
	if err != nil {
		return 0, err
	}
	whole := map[wal.Segment]bool{}
	for _, o := range objects {
		whole[o.Segment] = whole[o.Segment] || !o.partial()
	}
	var keys []string
	gone := map[uint32]bool{}
	for _, o := range objects {
		stale := o.partial() && whole[o.Segment] // an index may tell of a segment that the disk has lost
		if !stale && !goes(o) {
			continue
		}
		keys = append(keys, c.key.walFile(o.walName, z))
		freed += o.size
		if !o.partial() {
			gone[inLog(o.Segment, z)] = true
		}
	}
	if err := c.announceRemoval(ctx, t, l, z, gone); err != nil && !isFull(err) {
		return 0, err
	}
	var retained error
	for step := range slices.Chunk(keys, deleteStep) {
		err := c.deleteKeys(ctx, step...)
		if err != nil && !errors.Is(err, store.ErrRetained) {
			return 0, err
		}
		if err != nil {
			retained = laterLock(retained, err)
		}
		c.repo.shared.heads.drop(step...)
	}
	if err := c.indexAgain(ctx, t, l, z); err != nil { // what is retained counts again
		return freed, err
	}
	if retained != nil {
		freed, err = c.withoutRest(ctx, c.key.logDir(t, l), z, freed, keys)
		return freed, errors.Join(err, retained)
	}
	return freed, nil
}

// withoutRest takes from what was to be freed the objects that are still there.
func (c *Cluster) withoutRest(ctx context.Context, dir string, z wal.SegmentSize, freed int64, keys []string) (int64, error) {
	left, err := c.listLog(ctx, dir, "", z)
	for _, o := range left {
		if slices.Contains(keys, c.key.walFile(o.walName, z)) {
			freed -= o.size
		}
	}
	return freed, err
}

// announceRemoval puts an index that does not count the segments that are about to go, when an index counts them now.
func (c *Cluster) announceRemoval(ctx context.Context, t wal.Timeline, l log, z wal.SegmentSize, gone map[uint32]bool) error {
	why := errors.New("others index it all the time")
	for range indexTries {
		all, err := c.indexNames(ctx, c.key.indexTimeline(t)+l.hex()+".")
		if err != nil {
			return err
		}
		names := all[l]
		if len(names) == 0 || len(gone) == 0 {
			return nil
		}
		x, err := c.listedIndex(ctx, t, l, z, names)
		done := false
		if err == nil {
			x.remove(gone)
			done, err = c.writeIndexFile(ctx, indexName{Timeline: t, Log: l}, z, names, x)
		}
		if done || err != nil && !isAbsent(err) {
			return err
		}
		if err != nil {
			why = err
		}
	}
	return fmt.Errorf("index log %s of timeline %d of %s: %w", l.hex(), t, c.key.Name, why)
}

// indexAgain brings the index of a log that has one up to what is left, and removes the generations that no longer count.
func (c *Cluster) indexAgain(ctx context.Context, t wal.Timeline, l log, z wal.SegmentSize) error {
	prefix := c.key.indexTimeline(t) + l.hex() + "."
	names, err := c.indexNames(ctx, prefix)
	if err != nil || len(names[l]) == 0 {
		return err
	}
	if err := c.indexLog(ctx, t, l, z, true); err != nil {
		return err
	}
	if names, err = c.indexNames(ctx, prefix); err != nil {
		return err
	}
	return c.dropOldIndexes(ctx, names[l])
}

// dropOldIndexes removes all but the newest generation, once that counts.
func (c *Cluster) dropOldIndexes(ctx context.Context, names []indexName) error {
	if _, ok := winner(names); !ok {
		return nil
	}
	return c.dropIndexes(ctx, names[:len(names)-1])
}
