package steps

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
)

// Pauses between two tries for a lock that another pgkeep holds.
const (
	lockPause    = 100 * time.Millisecond
	lockPauseMax = time.Second
)

// take opens what the step works under, and waits for it as long as Options.LockTimeout says. One who waits has no
// session on the server. The holder is told once, when the wait begins, and again when another one has it. Rounds after
// the first do not wait.
func (a *applier) take(ctx context.Context, s *plan.Step, b binding) (step, func(), error) {
	if a.again {
		return a.tryTake(ctx, b)
	}
	over := time.NewTimer(a.o.LockTimeout)
	defer over.Stop()
	told := ""
	for pause := lockPause; ; pause = min(2*pause, lockPauseMax) {
		bound, release, err := a.tryTake(ctx, b)
		if state.CodeOf(err) != state.CodeLocked || a.o.LockTimeout <= 0 {
			return bound, release, err
		}
		if told != err.Error() {
			told = err.Error()
			a.tell(Event{Kind: Held, Step: s, At: a.o.Now(), Note: fmt.Sprintf("waits for at most %s: %s", a.o.LockTimeout, told)})
		}
		select {
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		case <-over.C:
			return nil, nil, fmt.Errorf("wait for %s: %w", a.o.LockTimeout, err)
		case <-time.After(pause):
		}
	}
}

// tryTake opens it or fails at once: an advisory lock in a session on the step's server, or a lock of this machine.
func (a *applier) tryTake(ctx context.Context, b binding) (step, func(), error) {
	if b.server == "" {
		unlock, err := a.world.Locks.TryLock(ctx, b.lock)
		if err != nil {
			return nil, nil, err
		}
		return b.make(nil), unlock, nil
	}
	session, err := a.world.Servers.Connect(ctx, b.server)
	if err != nil {
		return nil, nil, fmt.Errorf("connect to %s: %w", b.server, err)
	}
	unlock, err := session.TryLock(ctx, b.lock)
	if err != nil {
		return nil, nil, errors.Join(err, session.Close())
	}
	release := func() {
		unlock()
		_ = session.Close() // the work is verified; how the session ends changes nothing
	}
	return b.make(session), release, nil
}
