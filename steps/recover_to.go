package steps

import (
	"context"
	"fmt"
	"time"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

type recoverTo struct {
	recoveries   Recoveries
	repositories Repositories
	spools       Spools
	action       plan.RecoverTo
	now          func() time.Time
	note         string  // where the started server reached its target
	replay       *Replay // of the started server; nil: none yet
	detour       string  // what was read from another repository than the route's
}

func (s *recoverTo) Done(ctx context.Context) (bool, error) {
	done, err := s.recoveries.Restored(ctx, s.action.Recovery, s.action.Route)
	if err == nil && done && s.action.Start {
		done, s.note, err = s.recoveries.Started(ctx, s.action.Route)
	}
	if err != nil {
		return false, fmt.Errorf("look at %s: %w", s.action.Route.Destination.Path, err)
	}
	return done, nil
}

// Note says where the started server reached its target, and what was read from another repository.
func (s *recoverTo) Note() string {
	if s.note != "" && s.detour != "" {
		return s.note + "; " + s.detour
	}
	return s.note + s.detour
}

// Replay tells how far the started server is.
func (s *recoverTo) Replay() *Replay { return s.replay }

// Holds looks again before the restore begins; the restore itself looks once more at the destination, under its lock.
func (s *recoverTo) Holds(ctx context.Context, c plan.Condition) (verdict, error) {
	switch c.Code {
	case plan.NeedDestination:
		return s.destinationFree(ctx)
	case plan.NeedBackup:
		return s.backupThere(ctx)
	case plan.NeedWAL:
		return s.walThere(ctx)
	case plan.NeedStartable:
		return s.startable(ctx)
	}
	return unknownCondition(c), nil
}

func (s *recoverTo) destinationFree(ctx context.Context) (verdict, error) {
	path := s.action.Route.Destination.Path
	d, err := s.recoveries.Destination(ctx, s.action.Route)
	switch {
	case err != nil:
		return verdict{}, fmt.Errorf("look at %s: %w", path, err)
	case d.Running && s.action.Start:
		ours, err := s.recoveries.Ours(ctx, s.action.Route)
		if err != nil || ours {
			return holds(), err
		}
		return isRefused("a PostgreSQL server runs in %s, which this recovery did not start", path), nil
	case d.Running:
		return isRefused("a PostgreSQL server runs in %s now", path), nil
	case d.Exists && !d.Empty && !d.Ours && !s.action.Route.Destination.Overwrite:
		return isRefused("%s is not empty now", path), nil
	case d.Exists && !d.Empty && d.Holds != s.action.Route.SystemID && (d.Holds != "" || !d.Ours):
		return isRefused("%s holds no data directory of system %s now", path, s.action.Route.SystemID), nil
	}
	return holds(), nil
}

func (s *recoverTo) cluster(ctx context.Context) (Cluster, error) {
	r := &s.action.Route
	c, err := s.repositories.Cluster(ctx, r.Repository, r.Server, r.SystemID)
	if err != nil {
		return nil, fmt.Errorf("open repository %q: %w", r.Repository, err)
	}
	return c, nil
}

// backupThere: committed, or deleted and held, which is how a backup is recovered that somebody wanted to keep.
func (s *recoverTo) backupThere(ctx context.Context) (verdict, error) {
	id := s.action.Route.Backup
	c, err := s.cluster(ctx)
	if err != nil {
		return verdict{}, err
	}
	found, err := named(ctx, c, []string{id})
	if err != nil {
		return verdict{}, err
	}
	b, there := found[id]
	switch {
	case !there:
		return isStale("backup %s is no longer in repository %q", id, s.action.Route.Repository), nil
	case b.State == state.BackupCommitted, b.State == state.BackupDeleted && heldAt(b, s.now()):
		return holds(), nil
	}
	return isStale("backup %s is %s now", id, b.State), nil
}

// walThere: every position of the route is archived, or in the spool of this machine.
func (s *recoverTo) walThere(ctx context.Context) (verdict, error) {
	r := &s.action.Route
	c, err := s.cluster(ctx)
	if err != nil {
		return verdict{}, err
	}
	archived, err := c.WALRanges(ctx)
	if err != nil {
		return verdict{}, fmt.Errorf("read WAL of repository %q: %w", r.Repository, err)
	}
	have := make([]wal.Range, 0, len(archived)+1)
	for _, a := range archived {
		have = append(have, wal.Range{Timeline: a.Timeline, From: a.From, To: max(a.To, a.Partial)})
	}
	sp, err := s.spools.Look(ctx, r.Server)
	if err == nil && sp.SystemID == r.SystemID {
		have = append(have, sp.Pending...)
		if sp.Durable > 0 {
			have = append(have, wal.Range{Timeline: sp.Timeline, From: r.SegmentSize.Floor(sp.Durable), To: sp.Durable})
		}
	} // a spool that cannot be asked adds nothing
	have = wal.Merge(have)
	for _, want := range r.Path {
		if missing := wal.Missing(want, have); len(missing) > 0 {
			return isStale("WAL of %s is neither in repository %q nor in the spool of this machine now", missing[0], r.Repository), nil
		}
	}
	return holds(), nil
}

// startable looks before anything is restored; a server that runs already is on its way.
func (s *recoverTo) startable(ctx context.Context) (verdict, error) {
	ours, err := s.recoveries.Ours(ctx, s.action.Route)
	if err != nil || ours {
		return holds(), err
	}
	if err := s.recoveries.Startable(ctx, s.action.Route, s.action.Major); err != nil {
		return verdict{}, err
	}
	return holds(), nil
}

// Run restores what is not restored yet and, when that is asked for, starts the server and waits for it.
func (s *recoverTo) Run(ctx context.Context, report func(done, total int64)) error {
	route := s.action.Route
	if !s.action.Start {
		return s.restore(ctx, report)
	}
	restored, err := s.recoveries.Restored(ctx, s.action.Recovery, route)
	if err != nil {
		return fmt.Errorf("look at %s: %w", route.Destination.Path, err)
	}
	var data int64
	if !restored {
		bytes := func(done, total int64) {
			data = total
			report(done, total+route.WALBytes)
		}
		if err := s.restore(ctx, bytes); err != nil {
			return err
		}
	}
	return s.recoveries.Start(ctx, s.action.Recovery, s.action, func(done, total int64, r Replay) {
		s.replay = &r
		report(data+done, data+total)
	})
}

func (s *recoverTo) restore(ctx context.Context, report func(done, total int64)) error {
	detour, err := s.recoveries.Restore(ctx, s.action, report)
	s.detour = detour
	if err != nil {
		return fmt.Errorf("restore backup %s into %s: %w", s.action.Route.Backup, s.action.Route.Destination.Path, err)
	}
	return nil
}
