package repository

import (
	"context"
	"fmt"
	"path"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/wal"
)

// Extension is what ExtendLock is asked for.
type Extension struct {
	Backups []string    // ids of committed backups
	WAL     []wal.Range // from segment border to segment border
	Opening bool        // what opening the cluster takes, too
	Until   store.Retention
}

// ExtendLock keeps backups, what they read of others, WAL and what opening them takes locked until a moment at least, and gives how many
// objects that were. No lock becomes shorter. It may be made again, and be cut short anywhere: that by which LockedUntil,
// WALLockedUntil and OpeningLockedUntil go is extended last.
func (c *Cluster) ExtendLock(ctx context.Context, x Extension) (objects int, err error) {
	e := &extender{c: c, until: x.Until}
	if x.Opening {
		if err := e.opening(ctx); err != nil {
			return e.count(), err
		}
	}
	z, err := c.segmentSize(ctx)
	if err != nil {
		return e.count(), fmt.Errorf("extend locks: %w", err)
	}
	for _, r := range x.WAL {
		if err := e.wal(ctx, r, z); err != nil {
			return e.count(), err
		}
	}
	for _, id := range x.Backups {
		if err := e.backup(ctx, id); err != nil {
			return e.count(), fmt.Errorf("extend the lock of backup %s: %w", id, err)
		}
	}
	return e.count(), nil
}

// extender extends locks to one moment, and counts.
type extender struct {
	c     *Cluster
	until store.Retention
	n     atomic.Int64
}

func (e *extender) count() int { return int(e.n.Load()) }

func (e *extender) extend(ctx context.Context, key string) error {
	err := e.c.repo.Store().Extend(ctx, key, e.until)
	if err == nil {
		e.n.Add(1)
	}
	return err
}

func (e *extender) opening(ctx context.Context) error {
	if err := e.keys(ctx, repositoryKey); err != nil {
		return err
	}
	for _, dir := range []string{e.c.key.historyDir(), keysDir} {
		if err := e.listed(ctx, dir, func(string) bool { return true }); err != nil {
			return err
		}
	}
	return e.keys(ctx, e.c.key.clusterFile())
}

func (e *extender) keys(ctx context.Context, keys ...string) error {
	g, inner := errgroup.WithContext(ctx)
	g.SetLimit(extenders)
	for _, key := range keys {
		g.Go(func() error { return e.extend(inner, key) })
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("extend locks: %w", err)
	}
	return nil
}

// listed extends what lies below a prefix and lasts.
func (e *extender) listed(ctx context.Context, prefix string, which func(key string) bool) error {
	g, inner := errgroup.WithContext(ctx)
	g.SetLimit(extenders)
	var listing error
	for info, err := range e.c.repo.Store().List(inner, prefix, "", false) {
		if err != nil {
			listing = fmt.Errorf("list %s: %w", prefix, err)
			break
		}
		if isLasting(info.Key) && which(info.Key) {
			g.Go(func() error { return e.extend(inner, info.Key) })
		}
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("extend locks: %w", err)
	}
	return listing
}

// wal extends the segments that lie inside a range, the first of them last.
func (e *extender) wal(ctx context.Context, r wal.Range, z wal.SegmentSize) error {
	key := e.c.key
	first, last := logOf(wal.Segment{Number: uint64(r.From) / uint64(z)}, z), logOf(wal.Segment{Number: uint64(max(r.To, 1)-1) / uint64(z)}, z)
	begin := wal.Segment{Timeline: r.Timeline, Number: uint64(r.From) / uint64(z)}
	there := false
	for l := first; l <= last; l++ {
		err := e.listed(ctx, key.logDir(r.Timeline, l), func(object string) bool {
			s, err := wal.ParseSegmentName(path.Base(object), z)
			if err != nil || s.Start(z) >= r.To || r.From >= s.End(z) {
				return false
			}
			if object == key.segmentFile(begin, z) {
				there = true
				return false
			}
			return true
		})
		if err != nil {
			return err
		}
	}
	if !there {
		return nil
	}
	return e.keys(ctx, key.segmentFile(begin, z))
}

// backup extends what the backup reads of others, then its own objects, its decision last.
func (e *extender) backup(ctx context.Context, id string) error {
	r, err := e.c.readBackup(ctx, id)
	if err != nil {
		return err
	}
	if !r.visible() {
		return notCommitted(id)
	}
	key := e.c.key
	var others []string
	flush := func() error {
		err := e.keys(ctx, others...)
		others = others[:0]
		return err
	}
	err = e.c.volumesOf(ctx, r, func(k volumeKey, _ sumLine) error {
		if k.backup == id {
			return nil
		}
		if others = append(others, key.backupDir(k.backup)+volumeName(k.folder, k.volume)); len(others) < deleteBatch {
			return nil
		}
		return flush()
	})
	if err == nil {
		err = flush()
	}
	if err != nil {
		return err
	}
	decision := key.commitFile(id)
	if err := e.listed(ctx, key.backupDir(id), func(object string) bool { return object != decision }); err != nil {
		return err
	}
	return e.keys(ctx, decision)
}

func notCommitted(id string) error {
	return &state.Error{Code: state.CodeStale, Text: "backup " + id + " is no committed backup now", Hint: "look again: pgkeep plan"}
}
