package steps

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/observe"
	"github.com/pgkeep/pgkeep/state/repository"
)

type realJournal struct{ real }

// Write puts the entry beside what every repository holds of the servers concerned. A repository that is on another
// machine keeps the entries of that machine; one that holds nothing of a server yet has no place for them.
func (r realJournal) Write(ctx context.Context, e JournalEntry) error {
	e.Facts = r.facts(ctx, e)
	return r.eachRepository(ctx, r.concerned(e), func(repo *repository.Repository) error {
		keys, err := repo.Clusters(ctx)
		if err != nil {
			return err
		}
		var all error
		for _, key := range keys {
			if !slices.Contains(e.Servers, key.Name) {
				continue
			}
			if err := repo.Cluster(key.Name, key.SystemID).PutJournal(ctx, e.Ended, e); err != nil && !onlyReads(err) {
				all = errors.Join(all, fmt.Errorf("journal of %s: %w", key.Name, err))
			}
		}
		return all
	})
}

// facts looks at the servers of the entry once more: how they were left is what a later look is compared with.
func (r realJournal) facts(ctx context.Context, e JournalEntry) map[string]state.Facts {
	spec := hclspec.Spec{}
	for _, s := range r.spec.Servers {
		if slices.Contains(e.Servers, s.Name) {
			spec.Servers = append(spec.Servers, s)
		}
	}
	if len(spec.Servers) == 0 {
		return nil
	}
	labels := r.concerned(e)
	for _, x := range r.spec.Repositories {
		if slices.Contains(labels, x.Name) {
			spec.Repositories = append(spec.Repositories, x)
		}
	}
	seen := observe.World(ctx, &spec, observe.Options{Host: r.o.Host, Now: r.o.Now(), Env: r.o.Env, LockDir: r.o.LockDir})
	return plan.Remember(&spec, seen)
}

// concerned gives the repositories that the entry names and those of its servers.
func (r realJournal) concerned(e JournalEntry) []string {
	labels := slices.Clone(e.Repositories)
	for _, server := range e.Servers {
		labels = append(labels, realRepositories{r.real}.Of(server)...)
	}
	slices.Sort(labels)
	return slices.Compact(labels)
}

// eachRepository does f in every repository named that is on this machine; a failure in one does not keep it from the
// others.
func (r real) eachRepository(ctx context.Context, labels []string, f func(*repository.Repository) error) error {
	var all error
	for _, label := range labels {
		repo, err := r.openRepository(ctx, label)
		if state.CodeOf(err) == state.CodeOtherHost {
			continue
		}
		if err == nil {
			err = f(repo)
		}
		if err != nil {
			all = errors.Join(all, fmt.Errorf("repository %q: %w", label, err))
		}
	}
	return all
}
