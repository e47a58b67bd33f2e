package steps

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/wal"
)

// Copies brings one repository what another one holds.
type Copies interface {
	// Backup copies one backup; alone: the copy refers to no other backup although its original does.
	Backup(ctx context.Context, a plan.CopyBackup, report func(done, total int64)) (bytes int64, alone bool, err error)
	// WAL copies ranges of WAL and history files. What could be copied is, also where the error says that some is damaged.
	WAL(ctx context.Context, a plan.CopyWAL, report func(done, total int64)) (bytes int64, err error)
	// Repair heals the damage of the action's objects that is still known, and says of each what became of it.
	Repair(ctx context.Context, a plan.Repair, damage []state.Damage) ([]Repaired, error)
}

// Repaired is repository.Repaired: what became of one damaged object.
type Repaired = repository.Repaired

// copyBackup copies one backup. Whoever brings it there, it is done when the repository lists it as committed.
type copyBackup struct {
	repositories Repositories
	copies       Copies
	action       plan.CopyBackup
	bytes        int64
	alone        bool
}

// pair is what is copied from, and what is copied into: labels and planned ids of two repositories.
type pair struct{ labels, ids [2]string }

// open opens both, and tells that they are those of the plan.
func (p pair) open(ctx context.Context, r Repositories, server, systemID string) (from, to Cluster, err error) {
	var out [2]Cluster
	for i, label := range p.labels {
		if out[i], err = r.Cluster(ctx, label, server, systemID); err == nil {
			err = sameRepository(out[i], label, p.ids[i])
		}
		if err != nil {
			return nil, nil, fmt.Errorf("open repository %q: %w", label, err)
		}
	}
	return out[0], out[1], nil
}

func (s *copyBackup) open(ctx context.Context) (from, to Cluster, err error) {
	a := s.action
	return pair{[2]string{a.From, a.Repository}, [2]string{a.FromID, a.RepositoryID}}.open(ctx, s.repositories, a.Server, a.SystemID)
}

func (s *copyBackup) Done(ctx context.Context) (bool, error) {
	_, to, err := s.open(ctx)
	if err != nil {
		return false, err
	}
	present, err := named(ctx, to, []string{s.action.Backup})
	return err == nil && present[s.action.Backup].State == state.BackupCommitted, err
}

// Holds looks whether the original is still there and sound.
func (s *copyBackup) Holds(ctx context.Context, c plan.Condition) (verdict, error) {
	if c.Code != plan.NeedBackup {
		return unknownCondition(c), nil
	}
	from, _, err := s.open(ctx)
	if err != nil {
		return verdict{}, err
	}
	present, err := named(ctx, from, []string{s.action.Backup})
	if err != nil {
		return verdict{}, err
	}
	b, there := present[s.action.Backup]
	switch {
	case !there:
		return isStale("backup %s is not in repository %q any more", s.action.Backup, s.action.From), nil
	case b.State == state.BackupCorrupt || b.State == state.BackupDamaged:
		return isRefused("backup %s in repository %q is damaged: %s", b.ID, s.action.From, b.Failure), nil
	case b.State != state.BackupCommitted:
		return isStale("backup %s in repository %q is %s", b.ID, s.action.From, b.State), nil
	}
	return holds(), nil
}

func (s *copyBackup) Run(ctx context.Context, report func(done, total int64)) error {
	bytes, alone, err := s.copies.Backup(ctx, s.action, report)
	if err != nil {
		return fmt.Errorf("copy from repository %q into %q: %w", s.action.From, s.action.Repository, err)
	}
	s.bytes, s.alone = bytes, alone
	return nil
}

// Note tells what was copied.
func (s *copyBackup) Note() string {
	note := fmt.Sprintf("backup %s: %s copied", s.action.Backup, plan.Size(s.bytes))
	if s.alone {
		note += "; the copy stands alone"
	}
	return note
}

// copyWAL copies ranges of WAL and history files. It is done when the repository has all that is there to be copied.
type copyWAL struct {
	repositories Repositories
	copies       Copies
	action       plan.CopyWAL
	bytes        int64
}

func (s *copyWAL) open(ctx context.Context) (from, to Cluster, err error) {
	a := s.action
	return pair{[2]string{a.From, a.Repository}, [2]string{a.FromID, a.RepositoryID}}.open(ctx, s.repositories, a.Server, a.SystemID)
}

func (s *copyWAL) Done(ctx context.Context) (bool, error) {
	from, to, err := s.open(ctx)
	if err != nil {
		return false, err
	}
	has, err := archived(ctx, to)
	if err != nil {
		return false, err
	}
	there, err := archived(ctx, from)
	if err != nil {
		return false, err
	}
	for _, r := range s.action.Ranges {
		for _, lacks := range wal.Missing(r, has.whole) {
			if len(wal.Missing(lacks, has.all)) > 0 && len(wal.Missing(lacks, there.whole)) == 0 || !has.reachesAs(there, lacks) {
				return false, nil
			}
		}
	}
	return s.historiesIn(ctx, to)
}

func (s *copyWAL) historiesIn(ctx context.Context, to Cluster) (bool, error) {
	if len(s.action.Histories) == 0 {
		return true, nil
	}
	histories, err := to.Histories(ctx)
	if err != nil {
		return false, fmt.Errorf("read histories: %w", err)
	}
	for _, t := range s.action.Histories {
		if !slices.ContainsFunc(histories, func(h wal.History) bool { return h.Timeline == t }) {
			return false, nil
		}
	}
	return true, nil
}

// archivedWAL is what a repository holds: whole segments, and those with what was pushed of unfinished ones.
type archivedWAL struct{ whole, all []wal.Range }

// archived reads it. A repository that does not know the cluster holds nothing.
func archived(ctx context.Context, c Cluster) (archivedWAL, error) {
	ranges, err := c.WALRanges(ctx)
	if errors.Is(err, store.ErrNotExist) {
		return archivedWAL{}, nil
	}
	if err != nil {
		return archivedWAL{}, fmt.Errorf("read WAL: %w", err)
	}
	var out archivedWAL
	for _, r := range ranges {
		out.whole = append(out.whole, r.Range)
		out.all = append(out.all, wal.Range{Timeline: r.Timeline, From: r.From, To: max(r.To, r.Partial)})
	}
	out.whole, out.all = wal.Merge(out.whole), wal.Merge(out.all)
	return out, nil
}

// reachesAs tells whether as much of a range is here as there.
func (w archivedWAL) reachesAs(there archivedWAL, r wal.Range) bool {
	for _, lacks := range wal.Missing(r, w.all) {
		if missing := wal.Missing(lacks, there.all); len(missing) != 1 || missing[0] != lacks {
			return false
		}
	}
	for _, part := range wal.Missing(r, w.whole) { // a part is not enough where the other has the whole segment
		if missing := wal.Missing(part, there.whole); len(missing) != 1 || missing[0] != part {
			return false
		}
	}
	return true
}

// Holds looks whether the WAL is still where it is copied from.
func (s *copyWAL) Holds(ctx context.Context, c plan.Condition) (verdict, error) {
	if c.Code != plan.NeedWAL {
		return unknownCondition(c), nil
	}
	from, to, err := s.open(ctx)
	if err != nil {
		return verdict{}, err
	}
	there, err := archived(ctx, from)
	if err != nil {
		return verdict{}, err
	}
	has, err := archived(ctx, to)
	if err != nil {
		return verdict{}, err
	}
	for _, r := range s.action.Ranges {
		for _, lacks := range wal.Missing(r, has.whole) {
			if gone := wal.Missing(lacks, there.all); len(gone) == 1 && gone[0] == lacks {
				return isStale("WAL of %s is not in repository %q any more: %s", s.action.Server, s.action.From, lacks), nil
			}
		}
	}
	return holds(), nil
}

func (s *copyWAL) Run(ctx context.Context, report func(done, total int64)) error {
	bytes, err := s.copies.WAL(ctx, s.action, report)
	s.bytes = bytes
	if err != nil {
		return fmt.Errorf("copy from repository %q into %q: %w", s.action.From, s.action.Repository, err)
	}
	return nil
}

// Note tells what was copied.
func (s *copyWAL) Note() string { return fmt.Sprintf("%s of WAL copied", plan.Size(s.bytes)) }
