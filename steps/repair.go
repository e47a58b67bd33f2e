package steps

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
)

// repair heals what verification found damaged, and looks again, so that what is whole counts again.
type repair struct {
	world  Verifications
	copies Copies
	action plan.Repair
	healed []Repaired
	seen   *state.Verification
}

// look is what is asked of Verifications: damage that is known is read again at every level.
func (s *repair) look() plan.Verify {
	a := s.action
	return plan.Verify{Server: a.Server, SystemID: a.SystemID, Repository: a.Repository, RepositoryID: a.RepositoryID, Level: string(state.VerifyQuick)}
}

// damage gives what the newest verification says of the action's objects.
func (s *repair) damage(ctx context.Context) ([]state.Damage, error) {
	v, err := s.world.Verified(ctx, s.look())
	if err != nil {
		return nil, fmt.Errorf("read evidence: %w", err)
	}
	if v == nil {
		return nil, nil
	}
	s.seen = v
	return slices.DeleteFunc(slices.Clone(v.Damage), func(f state.Damage) bool { return !slices.Contains(s.action.Objects, f.Object) }), nil
}

// Done tells whether none of the objects is known to be damaged any more.
func (s *repair) Done(ctx context.Context) (bool, error) {
	left, err := s.damage(ctx)
	return err == nil && len(left) == 0, err
}

// Holds tells whether there is still something to heal; what was healed meanwhile is passed over.
func (s *repair) Holds(_ context.Context, c plan.Condition) (verdict, error) {
	if c.Code != plan.NeedDamage {
		return unknownCondition(c), nil
	}
	return holds(), nil // Done has just looked, and Run proves each once more
}

func (s *repair) Run(ctx context.Context, report func(done, total int64)) error {
	damage, err := s.damage(ctx)
	if err != nil {
		return err
	}
	s.healed, err = s.copies.Repair(ctx, s.action, damage)
	if err != nil {
		return err
	}
	look := s.look()
	if s.seen.Wrong > len(s.seen.Damage) { // there is more than the evidence names, and only a look at everything names it
		look.Level = string(state.VerifyFull)
	}
	after, err := s.world.Verify(ctx, look, VerifyOptions{}, report)
	if err != nil {
		return fmt.Errorf("verify what was healed: %w", err)
	}
	s.seen = &after
	var left []string
	for _, r := range s.healed {
		if !r.Healed && !r.Sound {
			left = append(left, r.Object+": "+r.Why)
		}
	}
	if len(left) == 0 {
		return nil
	}
	text := fmt.Sprintf("%s; not healed: %s", s.summary(), strings.Join(left, "; "))
	if lost := lostBackups(after); lost != "" {
		text += "; lost in this repository: " + lost
	}
	return &state.Error{
		Code: state.CodeCorrupt, Text: text,
		Hint: fmt.Sprintf("what no repository has whole is lost; give up what cannot be restored: pgkeep backups delete ID --repository %s, and take a new one: pgkeep backup %s", s.action.Repository, s.action.Server),
	}
}

func lostBackups(v state.Verification) string {
	var out []string
	for _, b := range v.Backups {
		if b.Damaged {
			out = append(out, b.ID)
		}
	}
	return strings.Join(out, ", ")
}

func (s *repair) summary() string {
	healed, from := 0, []string{}
	for _, r := range s.healed {
		if !r.Healed {
			continue
		}
		healed++
		if !slices.Contains(from, r.From) {
			from = append(from, r.From)
		}
	}
	if healed == 0 {
		return fmt.Sprintf("0 of %d objects healed", len(s.healed))
	}
	return fmt.Sprintf("%d of %d objects healed from %s", healed, len(s.healed), strings.Join(from, ", "))
}

// Note tells what was healed and what the look after it says.
func (s *repair) Note() string {
	if s.seen == nil || s.healed == nil {
		return ""
	}
	note := s.summary() + "; verified again: " + Findings(*s.seen)
	if s.seen.Wrong > 0 {
		note += "; go on with them: pgkeep repair --server " + s.action.Server + " --repository " + s.action.Repository
	}
	return note
}
