package main

import (
	"context"
	"fmt"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/state/repository/store/file"
)

// holdable is what a hold needs of a cluster.
type holdable interface {
	Hold(ctx context.Context, id string, h state.Hold, now time.Time) error
	Release(ctx context.Context, id string, now time.Time) error
}

// eachFound does one thing to a backup in every repository that has it, and says so.
func (a *app) eachFound(ctx context.Context, id string, at holdTarget, do func(context.Context, holdable, time.Time) error, done string) error {
	found, err := a.find(ctx, id, at.server, at.repository)
	if err != nil {
		return err
	}
	spec, err := a.load()
	if err != nil {
		return err
	}
	for _, f := range found {
		r, closeStore, err := openRepository(ctx, spec, f.Repository)
		if err != nil {
			return err
		}
		err = do(ctx, r.Cluster(f.Server, f.SystemID), a.now())
		closeStore()
		if err != nil {
			return fmt.Errorf("change the hold of %s in %s: %w", id, f.Repository, err)
		}
		fmt.Fprintf(a.out, "%s of %s is %s in repository %s.\n", id, f.Server, done, f.Repository)
	}
	return nil
}

func openRepository(ctx context.Context, spec *hclspec.Spec, label string) (*repository.Repository, func(), error) {
	for _, r := range spec.Repositories {
		if r.Name != label {
			continue
		}
		st, err := file.Open(r.Path, file.Options{})
		if err != nil {
			return nil, nil, fmt.Errorf("open repository %s: %w", label, err)
		}
		repo, err := repository.Open(ctx, st)
		if err != nil {
			_ = st.Close()
			return nil, nil, err
		}
		return repo, func() { _ = st.Close() }, nil
	}
	return nil, nil, fmt.Errorf("open repository %s: the configuration has none of that name", label)
}
