package steps

import (
	"context"
	"fmt"

	"github.com/pgkeep/pgkeep/plan"
)

type stopReceiver struct {
	receivers Receivers
	action    plan.StopReceiver
}

func (s *stopReceiver) Done(ctx context.Context) (bool, error) {
	seen, err := s.receivers.Look(ctx, s.action.Server)
	if err != nil {
		return false, fmt.Errorf("look at the receiver of %s: %w", s.action.Server, err)
	}
	return !seen.Running, nil
}

func (s *stopReceiver) Holds(_ context.Context, c plan.Condition) (verdict, error) {
	if c.Code == plan.NeedReceiver { // Done has just looked
		return holds(), nil
	}
	return unknownCondition(c), nil
}

func (s *stopReceiver) Run(ctx context.Context, _ func(done, total int64)) error {
	if err := s.receivers.Stop(ctx, s.action.Server); err != nil {
		return fmt.Errorf("stop the receiver of %s: %w", s.action.Server, err)
	}
	return nil
}
