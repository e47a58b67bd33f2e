package steps

import (
	"context"
	"fmt"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
)

type createRepository struct {
	repositories Repositories
	action       plan.CreateRepository
}

// Done: its REPOSITORY.json can be read. It is written last, so a creation that was cut short is not done.
func (s *createRepository) Done(ctx context.Context) (bool, error) {
	_, err := s.repositories.Identify(ctx, s.action.Repository)
	if state.CodeOf(err) == state.CodeAbsent {
		return false, nil
	}
	return err == nil, err
}

// Holds: Done has just seen the directory; one that is neither absent nor empty nor a repository is its error.
func (s *createRepository) Holds(_ context.Context, c plan.Condition) (verdict, error) {
	switch c.Code {
	case plan.NeedNoRepository:
		return holds(), nil
	}
	return unknownCondition(c), nil
}

func (s *createRepository) Run(ctx context.Context, _ func(done, total int64)) error {
	if err := s.repositories.Create(ctx, s.action.Repository); err != nil {
		return fmt.Errorf("create repository %q: %w", s.action.Repository, err)
	}
	return nil
}
