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

// opened is a backup in the repository from which it is restored.
type opened struct {
	label   string
	cluster *repository.Cluster
	backup  *repository.BackupReader
}

// open opens the route's backup in the first of the repositories in which it can be opened, with the others behind it. The error is why
// none can.
func (r realRecoveries) open(ctx context.Context, a plan.RecoverTo, labels []string, d *detours) (opened, error) {
	var all error
	var first opened
	var others []repository.Alternate
	for _, label := range labels {
		cluster, backup, err := r.openIn(ctx, label, a)
		switch {
		case ctx.Err() != nil:
			return opened{}, context.Cause(ctx)
		case err != nil:
			all = errors.Join(all, err)
		case first.backup != nil:
			others = append(others, repository.Alternate{Name: label, Backup: backup})
		default:
			first = opened{label, cluster, backup}
		}
	}
	if first.backup == nil {
		return opened{}, all
	}
	if all != nil && first.label != labels[0] {
		d.tell("all of it", first.label, all)
	}
	first.backup.Or(d.tell, others...)
	return first, nil
}

// fromAny restores from the nearest repository, and where a list of the backup cannot be read, for which another does not stand in object
// by object because it holds the backup otherwise, from the next: what is there by then is compared and kept. The error is that of
// the first where each fails so.
func (r realRecoveries) fromAny(ctx context.Context, a plan.RecoverTo, d *detours, restore func(opened) error) error {
	labels, tried := r.near(a.Route), map[string]bool{}
	var cause error
	for {
		from, err := r.open(ctx, a, labels, d)
		if err != nil {
			return errors.Join(cause, err)
		}
		if tried[from.label] {
			return cause
		}
		tried[from.label] = true
		if cause != nil {
			d.tell("all of it", from.label, cause)
		}
		err = restore(from)
		var list *repository.UnreadableList
		if !errors.As(err, &list) || ctx.Err() != nil {
			return err
		}
		if cause == nil {
			cause = err
		}
		at := slices.Index(labels, from.label)
		labels = append(slices.Clone(labels[at+1:]), labels[:at+1]...)
	}
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

// near gives the route's repository, then the server's others: directories first, each by their names, as the spec has them.
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
