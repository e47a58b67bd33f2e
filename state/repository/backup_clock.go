package repository

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pgkeep/pgkeep/state/repository/store"
)

// A machine's clock alone ends no grace: what ends by time ends by the earlier of the caller's time and the newest time
// seen in the store, and what begins then begins at the later of the two. The store's time runs on with every object
// that is put, and WAL is put all the time, so it is asked of the WAL too. An object with a time in the far future makes
// backups stay longer, never shorter.

// storeTime gives the newest time seen in the store; zero: it tells none.
func (c *Cluster) storeTime(ctx context.Context) (time.Time, error) {
	if c.repo.times == nil {
		return time.Time{}, nil
	}
	_, err := c.repo.Store().Stat(ctx, c.key.clusterFile()) // as old as the cluster, but never none
	if err == nil {
		_, err = c.lookAtWAL(ctx)
	}
	if err != nil && !errors.Is(err, store.ErrNotExist) {
		return time.Time{}, fmt.Errorf("ask the store for the time: %w", err)
	}
	ids, err := c.backupIDs(ctx)
	if err != nil || len(ids) == 0 {
		return c.repo.times.now(), err
	}
	for _, err := range c.repo.Store().List(ctx, c.key.backupDir(ids[len(ids)-1]), "", true) {
		if err != nil {
			return time.Time{}, fmt.Errorf("ask the store for the time: %w", err)
		}
	}
	return c.repo.times.now(), nil
}

// endsAt gives the time by which a grace or a hold may be over.
func endsAt(now, stored time.Time) time.Time {
	if !stored.IsZero() && stored.Before(now) {
		return stored
	}
	return now
}

// beginsAt gives the time from which a grace counts.
func beginsAt(now, stored time.Time) time.Time {
	if stored.After(now) {
		return stored
	}
	return now
}
