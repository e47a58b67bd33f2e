package steps

import (
	"context"
	"errors"
	"fmt"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/host"
	"github.com/pgkeep/pgkeep/state/repository"
)

type realCopies struct{ real }

// copyMemory is what one copy holds: objects on their way.
const copyMemory = 40 << 20

// pair opens what both repositories hold of the cluster.
func (r realCopies) pair(ctx context.Context, server, systemID, fromLabel, toLabel string) (from, to *repository.Cluster, err error) {
	var out [2]*repository.Cluster
	for i, label := range []string{fromLabel, toLabel} {
		repo, err := r.writable(ctx, label, server)
		if err != nil {
			return nil, nil, fmt.Errorf("open repository %q: %w", label, err)
		}
		out[i] = repo.Cluster(server, systemID)
	}
	return out[0], out[1], nil
}

func (r realCopies) Backup(ctx context.Context, a plan.CopyBackup, report func(done, total int64)) (int64, bool, error) {
	from, to, err := r.pair(ctx, a.Server, a.SystemID, a.From, a.Repository)
	if err != nil {
		return 0, false, err
	}
	release, err := r.budget.Acquire(ctx, copyMemory)
	if err != nil {
		return 0, false, fmt.Errorf("wait for memory: %w", err)
	}
	defer release()
	lock, err := to.LockBackup(r.o.LockDir, a.Backup)
	if err != nil {
		return 0, false, fmt.Errorf("lock backup %s: %w", a.Backup, err)
	}
	defer func() { _ = lock.Unlock() }() // its file is of no use to anybody else
	copied, err := repository.CopyBackup(ctx, from, to, repository.CopyIntent{
		ID: a.Backup, Host: r.o.Host, Machine: host.Machine(), Lock: repository.LockPlace(r.o.LockDir), Program: "pgkeep " + r.o.Version,
		Now: r.o.Now, Report: report,
	})
	return copied.Bytes, copied.Alone, err
}

func (r realCopies) WAL(ctx context.Context, a plan.CopyWAL, report func(done, total int64)) (int64, error) {
	from, to, err := r.pair(ctx, a.Server, a.SystemID, a.From, a.Repository)
	if err != nil {
		return 0, err
	}
	release, err := r.budget.Acquire(ctx, copyMemory)
	if err != nil {
		return 0, fmt.Errorf("wait for memory: %w", err)
	}
	defer release()
	copied, err := repository.CopyWAL(ctx, from, to, repository.WALCopyOptions{Ranges: a.Ranges, Histories: a.Histories, Report: report})
	return copied.Bytes, err
}

func (r realCopies) Repair(ctx context.Context, a plan.Repair, damage []state.Damage) ([]Repaired, error) {
	v := realVerifications{r.real}
	c, err := v.cluster(ctx, plan.Verify{Server: a.Server, SystemID: a.SystemID, Repository: a.Repository, RepositoryID: a.RepositoryID})
	if err != nil {
		return nil, fmt.Errorf("open repository %q: %w", a.Repository, err)
	}
	var from []repository.RepairSource
	var closed error
	for _, label := range a.From {
		repo, err := r.openRepository(ctx, label)
		if err != nil {
			closed = errors.Join(closed, fmt.Errorf("open repository %q: %w", label, err))
			continue
		}
		from = append(from, repository.RepairSource{Name: label, Cluster: repo.Cluster(a.Server, a.SystemID)})
	}
	if len(from) == 0 {
		return nil, closed
	}
	return c.Repair(ctx, damage, from)
}
