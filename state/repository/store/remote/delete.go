package remote

import (
	"context"
	"errors"

	"golang.org/x/sync/errgroup"

	"github.com/pgkeep/pgkeep/state/repository/store"
)

// deleters bounds how many objects are deleted beside each other.
const deleters = 8

// DeleteEach is the Delete of a Backend whose service takes one name a request: it calls one for each key, some beside each other.
// What may not be deleted (store.ErrRetained) does not keep the others; another failure is given first, so that it is tried again.
func DeleteEach(ctx context.Context, keys []string, one func(ctx context.Context, key string) error) error {
	failed := make([]error, len(keys))
	var g errgroup.Group
	g.SetLimit(deleters)
	for i, key := range keys {
		g.Go(func() error {
			failed[i] = one(ctx, key)
			return nil
		})
	}
	_ = g.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var retained error
	for _, err := range failed {
		switch {
		case errors.Is(err, store.ErrRetained):
			retained = err
		case err != nil:
			return err
		}
	}
	return retained
}
