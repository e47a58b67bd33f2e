package steps

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state/repository"
)

// detours notes what a restore read from another repository than the route's. It is safe for many goroutines.
type detours struct {
	mu      sync.Mutex
	objects int
	first   string
}

func (d *detours) tell(object, from string, why error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.objects++
	if d.first == "" {
		d.first = fmt.Sprintf("%s from repository %q: %v", object, from, why)
	}
}

// Text says it in a sentence; empty: everything was read where the route says.
func (d *detours) Text() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch d.objects {
	case 0:
		return ""
	case 1:
		return "read elsewhere: " + d.first
	}
	return fmt.Sprintf("%d reads went to another repository, first %s", d.objects, d.first)
}

// open opens the route's backup, with the server's other repositories behind it: the nearest first, as far as they can be opened.
// Where the route's own cannot be opened, the first other one that can stands in for it.
func (r realRecoveries) open(ctx context.Context, a plan.RecoverTo, d *detours) (*repository.Cluster, *repository.BackupReader, error) {
	var all error
	var first *repository.Cluster
	var opened []repository.Alternate
	for _, label := range r.near(a.Route) {
		cluster, backup, err := r.openIn(ctx, label, a)
		if err != nil {
			if ctx.Err() != nil {
				return nil, nil, err
			}
			all = errors.Join(all, err)
			continue
		}
		if first == nil {
			first = cluster
			if label != a.Route.Repository {
				d.tell("all of it", label, all)
			}
		}
		opened = append(opened, repository.Alternate{Name: label, Backup: backup})
	}
	if first == nil {
		return nil, nil, all
	}
	opened[0].Backup.Or(d.tell, opened[1:]...)
	return first, opened[0].Backup, nil
}

func (r realRecoveries) openIn(ctx context.Context, label string, a plan.RecoverTo) (*repository.Cluster, *repository.BackupReader, error) {
	repo, err := r.openPlanned(ctx, label, a)
	if err != nil {
		return nil, nil, err
	}
	cluster := repo.Cluster(a.Route.Server, a.Route.SystemID)
	backup, err := cluster.OpenBackup(ctx, a.Route.Backup)
	if err != nil {
		return nil, nil, fmt.Errorf("open backup %s in repository %q: %w", a.Route.Backup, label, err)
	}
	return cluster, backup, nil
}

// openPlanned opens the very repository that the recovery was planned for.
func (r realRecoveries) openPlanned(ctx context.Context, label string, a plan.RecoverTo) (*repository.Repository, error) {
	repo, err := r.openRepository(ctx, label)
	if err == nil {
		err = sameID(repo.ID(), label, a.RepositoryIDs[label], untouched)
	}
	if err != nil {
		return nil, fmt.Errorf("open repository %q: %w", label, err)
	}
	return repo, nil
}

// near gives the route's repository, then the server's others: directories first, each in the order of the block.
func (r realRecoveries) near(route plan.Route) []string {
	out := []string{route.Repository}
	for _, local := range []bool{true, false} {
		for _, label := range (realRepositories{r.real}).Of(route.Server) {
			if x, err := r.repository(label); err == nil && (x.Path != "") == local && !slices.Contains(out, label) {
				out = append(out, label)
			}
		}
	}
	return out
}
