package steps

import (
	"context"
	"fmt"
	"time"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
)

// startPatience is how long a receiver may take from its start to its first byte: it makes its partials durable, asks
// every repository for its end, and connects.
const startPatience = 60 * time.Second

type startReceiver struct {
	server    Server
	receivers Receivers
	action    plan.StartReceiver
	now       func() time.Time
}

// Done: it holds its lock here, and the server sees our slot in use by our application_name. Either alone is not enough:
// a process may be starting, and the slot may be used from elsewhere.
func (s *startReceiver) Done(ctx context.Context) (bool, error) {
	seen, err := s.receivers.Look(ctx, s.action.Server)
	if err != nil {
		return false, fmt.Errorf("look at the receiver of %s: %w", s.action.Server, err)
	}
	if !seen.Running {
		return false, nil
	}
	return s.streaming(ctx)
}

func (s *startReceiver) streaming(ctx context.Context) (bool, error) {
	name, application := s.receivers.Names(s.action.Server)
	slot, err := s.server.Slot(ctx, name)
	if err != nil {
		return false, fmt.Errorf("look at slot %q: %w", name, err)
	}
	if slot == nil || !slot.Active {
		return false, nil
	}
	facts, err := s.server.Facts(ctx)
	if err != nil {
		return false, fmt.Errorf("look at %s: %w", s.action.Server, err)
	}
	for _, sender := range facts.Senders {
		if sender.PID == slot.ActivePID {
			// A role that may not see others' rows gets an empty name for them; its own it always sees.
			return sender.Application == application, nil
		}
	}
	return false, nil
}

func (s *startReceiver) Holds(ctx context.Context, c plan.Condition) (verdict, error) {
	switch c.Code {
	case plan.NeedSlotPresent, plan.NeedSlotInactive:
		name, _ := s.receivers.Names(s.action.Server)
		return slotNeed(ctx, s.server, name, c)
	case plan.NeedNoReceiver: // starting one that runs is nothing, and Run waits until it streams
		return holds(), nil
	}
	return serverCondition(ctx, s.server, c)
}

func (s *startReceiver) Run(ctx context.Context, _ func(done, total int64)) error {
	before, err := s.receivers.Look(ctx, s.action.Server)
	if err != nil {
		return fmt.Errorf("look at the receiver of %s: %w", s.action.Server, err)
	}
	if err := s.receivers.Start(ctx, s.action.Server); err != nil {
		return fmt.Errorf("start the receiver of %s: %w", s.action.Server, err)
	}
	return s.await(ctx, before)
}

func (s *startReceiver) await(ctx context.Context, before state.Receiver) error {
	deadline := s.now().Add(startPatience)
	pause := 50 * time.Millisecond
	for {
		done, err := s.Done(ctx)
		if err != nil || done {
			return err
		}
		gone, seen, err := s.ended(ctx, before)
		if err != nil {
			return fmt.Errorf("look at the receiver of %s: %w", s.action.Server, err)
		}
		if gone || s.now().After(deadline) {
			return s.notStreaming(seen)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		pause = min(2*pause, time.Second)
	}
}

// ended tells whether the receiver that was started after the look before is gone again: one that lived left its report,
// which says when it began. It looks twice, for one that takes its lock and reports between the two halves of a look. The
// agent starts its own again by itself.
func (s *startReceiver) ended(ctx context.Context, before state.Receiver) (gone bool, seen state.Receiver, err error) {
	for range 2 {
		seen, err = s.receivers.Look(ctx, s.action.Server)
		if err != nil || seen.Running || seen.Agent || !before.Running && seen.Since.Equal(before.Since) {
			return false, seen, err
		}
	}
	return true, seen, nil
}

// notStreaming says what the receiver says of itself.
func (s *startReceiver) notStreaming(seen state.Receiver) error {
	if seen.Problem != nil {
		return &state.Error{Code: seen.Problem.Code, Text: seen.Problem.Text, Hint: seen.Problem.Hint}
	}
	text := fmt.Sprintf("does not stream after %s: it runs, and the server does not see it streaming from our slot", startPatience)
	if !seen.Running {
		text = "ended soon after its start"
	}
	return &state.Error{
		Code: state.CodeUnreachable,
		Text: fmt.Sprintf("the receiver of %s %s", s.action.Server, text),
		Hint: "look at its log: pgkeep receiver status " + s.action.Server,
	}
}
