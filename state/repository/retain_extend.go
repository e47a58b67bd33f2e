package repository

import (
	"context"
	"fmt"
	"path"

	"golang.org/x/sync/errgroup"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/wal"
)

// Extension is what ExtendLock is asked for.
type Extension struct {
	Backups []string // ids of committed backups
	WAL     []wal.Range
	Until   store.Retention
}

// ExtendLock keeps backups, what they read of others, WAL and what opening them takes locked until a moment at least. It may be made again, and
// be cut short anywhere: the decision of a backup, by which LockedUntil goes, is extended last.
func (c *Cluster) ExtendLock(ctx context.Context, x Extension) error {
	if err := c.extendKeys(ctx, x.Until, repositoryKey, c.key.clusterFile()); err != nil {
		return err
	}
	for _, dir := range []string{c.key.historyDir(), keysDir} {
		if err := c.extendListed(ctx, dir, x.Until, func(string) bool { return true }); err != nil {
			return err
		}
	}
	facts, err := c.Facts(ctx)
	if err != nil {
		return fmt.Errorf("extend locks: %w", err)
	}
	for _, r := range x.WAL {
		if err := c.extendWAL(ctx, r, facts.SegmentSize, x.Until); err != nil {
			return err
		}
	}
	for _, id := range x.Backups {
		if err := c.extendBackup(ctx, id, x.Until); err != nil {
			return fmt.Errorf("extend the lock of backup %s: %w", id, err)
		}
	}
	return nil
}

func (c *Cluster) extendKeys(ctx context.Context, until store.Retention, keys ...string) error {
	g, inner := errgroup.WithContext(ctx)
	g.SetLimit(extenders)
	for _, key := range keys {
		g.Go(func() error { return c.repo.Store().Extend(inner, key, until) })
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("extend locks: %w", err)
	}
	return nil
}

// extendListed extends what lies below a prefix and lasts.
func (c *Cluster) extendListed(ctx context.Context, prefix string, until store.Retention, which func(key string) bool) error {
	g, inner := errgroup.WithContext(ctx)
	g.SetLimit(extenders)
	var listing error
	for info, err := range c.repo.Store().List(inner, prefix, "", false) {
		if err != nil {
			listing = fmt.Errorf("list %s: %w", prefix, err)
			break
		}
		if isLasting(info.Key) && which(info.Key) {
			g.Go(func() error { return c.repo.Store().Extend(inner, info.Key, until) })
		}
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("extend locks: %w", err)
	}
	return listing
}

func (c *Cluster) extendWAL(ctx context.Context, r wal.Range, z wal.SegmentSize, until store.Retention) error {
	first, last := logOf(wal.Segment{Number: uint64(r.From) / uint64(z)}, z), logOf(wal.Segment{Number: uint64(max(r.To, 1)-1) / uint64(z)}, z)
	for l := first; l <= last; l++ {
		err := c.extendListed(ctx, c.key.logDir(r.Timeline, l), until, func(key string) bool {
			s, err := wal.ParseSegmentName(path.Base(key), z)
			return err == nil && s.Start(z) < r.To && r.From < s.End(z)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) extendBackup(ctx context.Context, id string, until store.Retention) error {
	r, err := c.readBackup(ctx, id)
	if err != nil {
		return err
	}
	if !r.visible() {
		return notCommitted(id)
	}
	var others []string
	flush := func() error {
		err := c.extendKeys(ctx, until, others...)
		others = others[:0]
		return err
	}
	err = c.volumesOf(ctx, r, func(k volumeKey, _ sumLine) error {
		if k.backup == id {
			return nil
		}
		if others = append(others, c.key.backupDir(k.backup)+volumeName(k.folder, k.volume)); len(others) < deleteBatch {
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
	decision := c.key.commitFile(id)
	if err := c.extendListed(ctx, c.key.backupDir(id), until, func(key string) bool { return key != decision }); err != nil {
		return err
	}
	return c.extendKeys(ctx, until, decision)
}

func notCommitted(id string) error {
	return &state.Error{Code: state.CodeStale, Text: "backup " + id + " is no committed backup now", Hint: "look again: pgkeep plan"}
}
