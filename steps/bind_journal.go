package steps

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository"
)

type realJournal struct{ real }

// Write puts the entry beside what every repository holds of the servers concerned. A repository that is on another
// machine keeps the entries of that machine; one that holds nothing of a server yet has no place for them.
func (r realJournal) Write(ctx context.Context, e JournalEntry) error {
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
			if err := repo.Cluster(key.Name, key.SystemID).PutJournal(ctx, e.Ended, e); err != nil {
				all = errors.Join(all, fmt.Errorf("journal of %s: %w", key.Name, err))
			}
		}
		return all
	})
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
