package steps

import (
	"context"
	"fmt"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository"
)

type realVerifications struct{ real }

func (r realVerifications) Held(ctx context.Context, label string) ([]HeldCluster, error) {
	repo, err := r.openRepository(ctx, label)
	if err != nil {
		return nil, err
	}
	keys, err := repo.Clusters(ctx)
	if err != nil {
		return nil, fmt.Errorf("repository %q: %w", label, err)
	}
	var out []HeldCluster
	for _, k := range keys {
		ids, err := repo.Cluster(k.Name, k.SystemID).BackupIDs(ctx)
		if err != nil {
			return nil, fmt.Errorf("repository %q: %w", label, err)
		}
		out = append(out, HeldCluster{Server: k.Name, SystemID: k.SystemID, Backups: ids})
	}
	return out, nil
}

func (r realVerifications) cluster(ctx context.Context, v plan.Verify) (*repository.Cluster, error) {
	repo, err := r.openRepository(ctx, v.Repository)
	if err != nil {
		return nil, err
	}
	if v.RepositoryID != "" && repo.ID() != v.RepositoryID {
		return nil, &state.Error{
			Code: state.CodeStale, Text: fmt.Sprintf("repository %q is another one now: its id is %s, and was %s", v.Repository, repo.ID(), v.RepositoryID), Hint: "look again: pgkeep plan",
		}
	}
	return repo.Cluster(v.Server, v.SystemID), nil
}

func (r realVerifications) Verified(ctx context.Context, v plan.Verify) (*state.Verification, error) {
	c, err := r.cluster(ctx, v)
	if err != nil {
		return nil, err
	}
	return c.Verified(ctx)
}

func (r realVerifications) Verify(ctx context.Context, v plan.Verify, o VerifyOptions, report func(done, total int64)) (state.Verification, error) {
	c, err := r.cluster(ctx, v)
	if err != nil {
		return state.Verification{}, err
	}
	return c.Examine(ctx, repository.VerifyOptions{
		Level: state.VerifyLevel(v.Level), Sample: v.Sample, MaxRate: v.MaxRate, Backups: o.Backups, MaxAge: o.MaxAge, Restart: o.Restart,
		Now: r.o.Now, Report: report,
	})
}
