package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/pgkeep/pgkeep/state/repository/store"
)

// probeKey is no key that callers can name, so it is never listed. It stays: where nothing may be deleted, or objects are
// locked, one object must do for ever.
const probeKey = ".pgkeep-probe"

// Probe finds out whether the provider refuses a put of a name that is taken, and lists what it has just stored; a
// *store.Trouble of kind Unconditional otherwise. It is asked once for each Store, by the first put anyway, and leaves
// the object .pgkeep-probe.
func (s *Store) Probe(ctx context.Context) error {
	if s.probed.Load() {
		return nil
	}
	s.probing.Lock()
	defer s.probing.Unlock()
	if s.probed.Load() {
		return nil
	}
	err := s.probePut(ctx)
	switch {
	case errors.Is(err, store.ErrExists): // as it should be: somebody probed before us
	case err != nil:
		return fmt.Errorf("probe the store: %w", err)
	default:
		if err := s.probeAgain(ctx); err != nil {
			return fmt.Errorf("probe the store: %w", err)
		}
	}
	s.probed.Store(true)
	return nil
}

func (s *Store) probePut(ctx context.Context) error {
	text := "pgkeep tries with this object whether the store puts only if a name is free. " + newToken() + "\n"
	return s.put(ctx, probeKey, io.NewSectionReader(strings.NewReader(text), 0, int64(len(text))), store.Retention{})
}

// probeAgain puts a name that was stored a moment ago, and lists it.
func (s *Store) probeAgain(ctx context.Context) error {
	switch err := s.probePut(ctx); {
	case err == nil:
		return s.unfit("accepted a second object under a name that was taken, so two writers could destroy each other's work")
	case !errors.Is(err, store.ErrExists):
		return err
	}
	listed := false
	err := s.retry(ctx, func(ctx context.Context) error {
		for info, err := range s.b.List(ctx, Query{Prefix: probeKey}) {
			if err != nil {
				return err
			}
			listed = listed || info.Key == probeKey
		}
		return nil
	})
	if err != nil {
		return err
	}
	if !listed {
		return s.unfit("does not list an object that it has stored")
	}
	return s.retry(ctx, func(ctx context.Context) error {
		r, err := s.b.Get(ctx, probeKey, 0, -1)
		if err != nil {
			return err
		}
		defer r.Close()
		_, err = io.Copy(io.Discard, r)
		return err
	})
}

func (s *Store) unfit(what string) error {
	return &store.Trouble{
		Kind: store.Unconditional, Text: s.b.Place() + " " + what,
		Hint: "use a store with conditional puts and strongly consistent lists (S3 itself, MinIO, Ceph, GCS, Azure), or a newer version of this one",
	}
}
