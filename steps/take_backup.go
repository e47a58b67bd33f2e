package steps

import (
	"context"
	"fmt"
	"time"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
)

// takeBackup takes one backup into all its repositories. One that a schedule ordered is done when every repository
// holds a committed backup that began at or after the tick; any other is done only when this very run took it.
type takeBackup struct {
	server       Server
	backups      Backups
	repositories Repositories
	action       plan.TakeBackup
	taken        string
	systemID     string
}

func (s *takeBackup) Done(ctx context.Context) (bool, error) {
	if s.taken == "" && s.action.Due.IsZero() {
		return false, nil
	}
	for _, label := range s.action.Repositories {
		found, err := s.committedIn(ctx, label)
		if err != nil || !found {
			return false, err
		}
	}
	return true, nil
}

func (s *takeBackup) committedIn(ctx context.Context, label string) (bool, error) {
	backups, err := s.listed(ctx, label)
	if err != nil {
		return false, err
	}
	for _, b := range backups {
		switch {
		case b.State != state.BackupCommitted:
		case s.taken == b.ID:
			return true, nil
		case s.taken == "" && b.Schedule == s.action.Schedule && !b.Began.Before(s.action.Due):
			return true, nil
		}
	}
	return false, nil
}

func (s *takeBackup) listed(ctx context.Context, label string) ([]state.Backup, error) {
	if s.systemID == "" {
		facts, err := s.server.Facts(ctx)
		if err != nil {
			return nil, fmt.Errorf("look at %s: %w", s.action.Server, err)
		}
		s.systemID = facts.SystemID
	}
	cluster, err := s.repositories.Cluster(ctx, label, s.action.Server, s.systemID)
	if err != nil {
		return nil, fmt.Errorf("open repository %q: %w", label, err)
	}
	backups, err := cluster.Backups(ctx)
	if err != nil {
		return nil, fmt.Errorf("list backups in repository %q: %w", label, err)
	}
	return backups, nil
}

func (s *takeBackup) Holds(ctx context.Context, c plan.Condition) (verdict, error) {
	if c.Code != plan.NeedNoBackupSince {
		return serverCondition(ctx, s.server, c)
	}
	for _, label := range s.action.Repositories {
		backups, err := s.listed(ctx, label)
		if err != nil {
			return verdict{}, err
		}
		for _, b := range backups {
			open := b.State == state.BackupRunning || b.State == state.BackupCommitted
			if open && !b.Began.Before(s.action.Due) {
				return isStale("backup %s began at %s and is %s", b.ID, b.Began.UTC().Format(time.RFC3339), b.State), nil
			}
		}
	}
	return holds(), nil
}

func (s *takeBackup) Run(ctx context.Context, report func(done, total int64)) error {
	id, err := s.backups.Take(ctx, s.action, report)
	if err != nil {
		return fmt.Errorf("take a %s backup of %s: %w", s.action.Kind, s.action.Server, err)
	}
	s.taken = id
	return nil
}

// Note names the backup.
func (s *takeBackup) Note() string { return "backup " + s.taken }
