package steps

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
)

// step is one action bound to the world. Its methods may be called again after any failure.
type step interface {
	// Done tells whether the world is already as Run would leave it.
	Done(ctx context.Context) (bool, error)
	// Holds re-reads one condition of the plan.
	Holds(ctx context.Context, c plan.Condition) (verdict, error)
	// Run does it. report is told bytes done and in total (0: not known).
	Run(ctx context.Context, report func(done, total int64)) error
}

// noted is a step that has something to say when it is done.
type noted interface{ Note() string }

// replaying is a step that may wait for a server which replays WAL. Replay is asked while Run reports, and gives nil until then.
type replaying interface{ Replay() *Replay }

// verdict is what came of re-reading a condition.
type verdict struct {
	kind    verdictKind
	because string // one sentence; empty when satisfied
}

type verdictKind int

const (
	satisfied verdictKind = iota
	narrow                // holds for a part: the step does less, as it finds by itself
	stale                 // the world is not what the plan saw: plan again
	blocked               // cannot be known now, or someone else must act first
	refuse                // must not be done, whatever the plan says
)

func holds() verdict { return verdict{} }

func isStale(format string, args ...any) verdict {
	return verdict{kind: stale, because: fmt.Sprintf(format, args...)}
}

func isRefused(format string, args ...any) verdict {
	return verdict{kind: refuse, because: fmt.Sprintf(format, args...)}
}

// unknownCondition is the answer to a code that this pgkeep does not know, as in a plan of a newer one: what cannot be
// checked is not done.
func unknownCondition(c plan.Condition) verdict {
	return isRefused("the plan requires %q (%s), which this pgkeep cannot check", c.Code, c.Text)
}

// carryOut is check, act, verify, under the step's lock.
func (a *applier) carryOut(ctx context.Context, s *plan.Step) (Outcome, string, error) {
	b, err := a.bind(s.Action)
	if err != nil {
		return OutcomeFailed, "", err
	}
	bound, release, err := a.take(ctx, s, b)
	if err != nil {
		return a.failure(ctx, err)
	}
	defer release()
	done, err := bound.Done(ctx)
	if err != nil {
		return a.failure(ctx, err)
	}
	if done {
		return OutcomeAlready, noteOf(bound), nil
	}
	note, err := conditions(ctx, bound, s.Requires)
	if err != nil {
		return a.failure(ctx, err)
	}
	m := &meter{step: s, now: a.o.Now, began: a.o.Now(), tell: a.tell}
	if r, ok := bound.(replaying); ok {
		m.replay = r.Replay
	}
	if err := bound.Run(ctx, m.report); err != nil {
		return a.failure(ctx, err)
	}
	return a.verify(ctx, s, bound, note)
}

func (a *applier) verify(ctx context.Context, s *plan.Step, bound step, note string) (Outcome, string, error) {
	done, err := bound.Done(ctx)
	if err != nil {
		return a.failure(ctx, fmt.Errorf("verify %s: %w", s.ID, err))
	}
	if !done {
		return OutcomeFailed, "", fmt.Errorf("verify %s: it ran without an error, and looking again the world is not as it should be", s.ID)
	}
	if n := noteOf(bound); n != "" {
		note = n
	}
	return OutcomeDone, note, nil
}

func noteOf(s step) string {
	if n, ok := s.(noted); ok {
		return n.Note()
	}
	return ""
}

// conditions re-reads what the plan requires. The note tells of what was narrowed.
func conditions(ctx context.Context, bound step, requires []plan.Condition) (note string, err error) {
	var notes []string
	for _, c := range requires {
		v, err := bound.Holds(ctx, c)
		if err != nil {
			return "", fmt.Errorf("re-read condition %s: %w", c.Code, err)
		}
		switch v.kind {
		case satisfied:
		case narrow:
			notes = append(notes, v.because)
		case stale:
			return "", &state.Error{Code: state.CodeStale, Text: v.because, Hint: "look again: pgkeep plan"}
		case blocked:
			return "", &state.Error{Code: state.CodeStale, Text: "blocked: " + v.because, Hint: "look again: pgkeep plan"}
		case refuse:
			return "", &state.Error{Code: state.CodeStale, Text: "refused: " + v.because, Hint: "look again: pgkeep plan"}
		}
	}
	return strings.Join(slices.Compact(notes), "; "), nil
}

func (a *applier) failure(ctx context.Context, err error) (Outcome, string, error) {
	if ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
		var left interface{ Left() string }
		if errors.As(err, &left) {
			return OutcomeCanceled, left.Left(), err
		}
		return OutcomeCanceled, "interrupted; the next look finds what it left", err
	}
	switch state.CodeOf(err) {
	case state.CodeStale:
		return OutcomeStale, err.Error(), err
	case state.CodeLocked:
		return OutcomeLocked, err.Error(), err
	}
	return OutcomeFailed, err.Error(), err
}
