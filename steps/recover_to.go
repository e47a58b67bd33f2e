package steps

import (
	"context"
	"fmt"

	"github.com/pgkeep/pgkeep/plan"
)

type recoverTo struct {
	recoveries Recoveries
	action     plan.RecoverTo
}

func (s *recoverTo) Done(ctx context.Context) (bool, error) {
	done, err := s.recoveries.Restored(ctx, s.action.Recovery, s.action.Route)
	if err != nil {
		return false, fmt.Errorf("look at %s: %w", s.action.Route.Destination.Path, err)
	}
	return done, nil
}

func (s *recoverTo) Holds(_ context.Context, c plan.Condition) (verdict, error) {
	switch c.Code {
	// The restore itself re-reads these under the destination's lock, before its first write.
	case plan.NeedDestination, plan.NeedBackup, plan.NeedWAL:
		return holds(), nil
	}
	return unknownCondition(c), nil
}

func (s *recoverTo) Run(ctx context.Context, report func(done, total int64)) error {
	if err := s.recoveries.Restore(ctx, s.action.Recovery, s.action.Route, report); err != nil {
		return fmt.Errorf("restore backup %s into %s: %w", s.action.Route.Backup, s.action.Route.Destination.Path, err)
	}
	return nil
}
