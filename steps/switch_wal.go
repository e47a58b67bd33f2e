package steps

import (
	"context"
	"fmt"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state/wal"
)

// switchWAL is asked for by hand, so there is no state of the world in which it is done before it runs.
type switchWAL struct {
	server Server
	ended  wal.LSN
}

func (s *switchWAL) Done(context.Context) (bool, error) { return s.ended != 0, nil }

func (s *switchWAL) Holds(ctx context.Context, c plan.Condition) (verdict, error) {
	return serverCondition(ctx, s.server, c)
}

func (s *switchWAL) Run(ctx context.Context, _ func(done, total int64)) error {
	at, err := s.server.SwitchWAL(ctx)
	if err != nil {
		return fmt.Errorf("switch WAL: %w", err)
	}
	s.ended = at
	return nil
}

// Note tells where the segment ended.
func (s *switchWAL) Note() string { return "the segment ended at " + s.ended.String() }
