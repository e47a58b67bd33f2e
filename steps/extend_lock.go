package steps

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/store"
)

// extendLock locks anew what stays needed for longer than its lock. Locks only grow, so that it may be done again, and by two at once.
type extendLock struct {
	repositories Repositories
	action       plan.ExtendLock
	cluster      Cluster
	gone         []string // backups that went since the plan was made
	objects      int
	until        time.Time
}

func (s *extendLock) open(ctx context.Context) error {
	if s.cluster != nil {
		return nil
	}
	cluster, err := s.repositories.Cluster(ctx, s.action.Repository, s.action.Server, s.action.SystemID)
	if err == nil {
		err = sameRepository(cluster, s.action.Repository, s.action.RepositoryID)
	}
	if err != nil {
		return fmt.Errorf("open repository %q: %w", s.action.Repository, err)
	}
	s.cluster = cluster
	return nil
}

// look finds the backups that can no longer be locked as a whole: what was deleted since needs no lock.
func (s *extendLock) look(ctx context.Context) error {
	if err := s.open(ctx); err != nil {
		return err
	}
	var ids []string
	for _, n := range s.action.Locks {
		ids = append(ids, n.Backups...)
	}
	present, err := named(ctx, s.cluster, ids)
	if err != nil {
		return err
	}
	s.gone = slices.DeleteFunc(ids, func(id string) bool {
		b, there := present[id]
		return there && (b.State == state.BackupCommitted || b.State == state.BackupDamaged)
	})
	return nil
}

// left gives of a need what is there still.
func (s *extendLock) left(n plan.LockNeed) plan.LockNeed {
	n.Backups = slices.DeleteFunc(slices.Clone(n.Backups), func(id string) bool { return slices.Contains(s.gone, id) })
	return n
}

func (s *extendLock) Done(ctx context.Context) (bool, error) {
	if err := s.look(ctx); err != nil {
		return false, err
	}
	for _, n := range s.action.Locks {
		if locked, err := s.locked(ctx, s.left(n)); !locked || err != nil {
			return false, err
		}
	}
	return true, nil
}

// locked tells whether all of a need is locked for as long.
func (s *extendLock) locked(ctx context.Context, n plan.LockNeed) (bool, error) {
	for _, id := range n.Backups {
		until, err := s.cluster.LockedUntil(ctx, id)
		if err != nil || until.Before(n.Until) {
			return false, err
		}
	}
	for _, r := range n.WAL {
		until, err := s.cluster.WALLockedUntil(ctx, r)
		if errors.Is(err, store.ErrNotExist) {
			continue // it was deleted meanwhile; what is left of the stretch is another one's in the next plan
		}
		if err != nil || until.Before(n.Until) {
			return false, err
		}
	}
	if !n.Opening {
		return true, nil
	}
	until, err := s.cluster.OpeningLockedUntil(ctx)
	return err == nil && !until.Before(n.Until), err
}

// Holds passes over the backups that went meanwhile.
func (s *extendLock) Holds(ctx context.Context, c plan.Condition) (verdict, error) {
	if c.Code != plan.NeedBackup {
		return unknownCondition(c), nil
	}
	if err := s.look(ctx); err != nil {
		return verdict{}, err
	}
	if len(s.gone) > 0 {
		return verdict{kind: narrow, because: fmt.Sprintf("passed over, because they are deleted now: %v", s.gone)}, nil
	}
	return holds(), nil
}

func (s *extendLock) Run(ctx context.Context, _ func(done, total int64)) error {
	if err := s.look(ctx); err != nil {
		return err
	}
	for _, n := range s.action.Locks {
		objects, err := s.cluster.ExtendLock(ctx, s.left(n))
		s.objects += objects
		if err != nil {
			return fmt.Errorf("lock until %s: %w", plan.Moment(n.Until), err)
		}
		if n.Until.After(s.until) {
			s.until = n.Until
		}
	}
	return nil
}

// Note counts the objects, and tells what was passed over.
func (s *extendLock) Note() string {
	if s.until.IsZero() {
		return ""
	}
	note := fmt.Sprintf("%d objects are locked, at most until %s", s.objects, plan.Moment(s.until))
	if len(s.gone) > 0 {
		note += fmt.Sprintf("; passed over, because they are deleted now: %v", s.gone)
	}
	return note
}
