package steps

import (
	"context"
	"fmt"
	"time"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
)

// Verifications proves what repositories hold.
type Verifications interface {
	// Held gives the clusters that a repository holds anything of, and opens nothing of them: those that cannot be read too.
	Held(ctx context.Context, repository string) ([]HeldCluster, error)
	// Verified gives what the newest evidence says; nil: there is none.
	Verified(ctx context.Context, v plan.Verify) (*state.Verification, error)
	// Verify looks, and keeps what it found as evidence.
	Verify(ctx context.Context, v plan.Verify, o VerifyOptions, report func(done, total int64)) (state.Verification, error)
}

// HeldCluster names a cluster in a repository.
type HeldCluster struct {
	Server   string // its stored name
	SystemID string
	Backups  []string // ids of everything below it that is named like a backup
}

// VerifyOptions are what a verification by hand asks for beyond what a plan does.
type VerifyOptions struct {
	Backups []string      // only these, and the WAL; empty: everything
	MaxAge  time.Duration // backups that were read whole within it are looked at quickly; 0: none
	Restart bool          // begin anew where an earlier look was broken off
}

// verify proves what one repository holds of one cluster.
type verify struct {
	world  Verifications
	action plan.Verify
	result *state.Verification
}

// Done tells whether a look of this level that began since the step was due is finished. That it found damage makes it no less
// done: the evidence says so, and so do status and check.
func (s *verify) Done(ctx context.Context) (bool, error) {
	v, err := s.world.Verified(ctx, s.action)
	if err != nil {
		return false, fmt.Errorf("read evidence: %w", err)
	}
	if v == nil {
		return false, nil
	}
	s.result = v
	look := v.Quick
	if s.action.Level == string(state.VerifyFull) {
		look = v.Full
	}
	return !look.Began.IsZero() && !look.Began.Before(s.action.Since) && enough(look.Sample, s.action.Sample), nil
}

// enough tells whether a look at a sample answers for one that asks for a share; 0 is all.
func enough(had, asked int) bool { return had == 0 || asked != 0 && had >= asked }

// Holds asks again whether somebody else looked meanwhile.
func (s *verify) Holds(ctx context.Context, c plan.Condition) (verdict, error) {
	if c.Code != plan.NeedUnverified {
		return unknownCondition(c), nil
	}
	if done, err := s.Done(ctx); err != nil || !done {
		return holds(), err
	}
	return isStale("%s was verified in %s meanwhile", s.action.Server, s.action.Repository), nil
}

// Run looks. Damage fails the step, so that who applies is told; it is not looked for again before the next time is due.
func (s *verify) Run(ctx context.Context, report func(done, total int64)) error {
	v, err := s.world.Verify(ctx, s.action, VerifyOptions{}, report)
	if err != nil {
		return err
	}
	s.result = &v
	if v.Wrong == 0 {
		return nil
	}
	return &state.Error{
		Code: state.CodeCorrupt,
		Text: fmt.Sprintf("what repository %q holds of %s is damaged: %s", s.action.Repository, s.action.Server, Findings(v)),
		Hint: "see what cannot be restored: pgkeep verify --server " + s.action.Server + " --repository " + s.action.Repository + " --level quick",
	}
}

// Note tells what was looked at.
func (s *verify) Note() string {
	if s.result == nil {
		return ""
	}
	return fmt.Sprintf("%s: %d backups, %d reads, %s read: %s", s.result.Level, len(s.result.Backups), s.result.Objects, plan.Size(s.result.Bytes), Findings(*s.result))
}

// Findings says in a few words what a verification found: "no damage", or how much and the first of it.
func Findings(v state.Verification) string {
	if v.Wrong == 0 {
		return "no damage"
	}
	lost := 0
	for _, b := range v.Backups {
		if !b.Restorable {
			lost++
		}
	}
	text := fmt.Sprintf("%d damaged", v.Wrong)
	if v.Wrong == 1 {
		text = "1 damaged object"
	} else {
		text += " objects"
	}
	if lost > 0 {
		text += fmt.Sprintf(", %d of %d backups cannot be restored", lost, len(v.Backups))
	}
	if len(v.Damage) > 0 {
		text += "; first " + v.Damage[0].Object + ": " + v.Damage[0].Text
	}
	return text
}
