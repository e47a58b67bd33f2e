package steps

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
)

// Drills recovers for real, in scratch directories.
type Drills interface {
	// Drilled gives the newest evidence of the drill in the route's repository; nil: there is none.
	Drilled(ctx context.Context, a plan.Drill) (*state.Drill, error)
	// Evidence gives the evidence of every drill that a repository holds of any cluster, newest first for each.
	Evidence(ctx context.Context, repository string) ([]state.Drill, error)
	// Room refuses a scratch directory that has no room for the copy.
	Room(ctx context.Context, a plan.Drill) error
	// Open takes the scratch directory for this process; state.CodeLocked names the drill that works there.
	Open(ctx context.Context, a plan.Drill) (DrillPlace, error)
	// Keep puts what a drill has shown into its repository. The same again is success.
	Keep(ctx context.Context, d state.Drill) error
}

// DrillPlace is a scratch directory that this process has.
type DrillPlace interface {
	// Left lists what drills left that were killed.
	Left(ctx context.Context) ([]LeftDrill, error)
	// Begin makes a drill's marker and directory.
	Begin(ctx context.Context) (Drilling, error)
	// Remove ends what runs in a drill's directory and removes it; none is success.
	Remove(ctx context.Context, id string) error
	// Forget removes the marker of a drill whose directory is gone.
	Forget(ctx context.Context, id string) error
	Close()
}

// LeftDrill is what a drill left that was killed.
type LeftDrill struct {
	ID     string
	Result *state.Drill // nil: it did not come so far
}

// Drilling is one drill. What shows that the recovery is no good is not an error: then Failed tells so.
type Drilling interface {
	ID() string
	Restore(ctx context.Context, report func(done, total int64)) error
	Start(ctx context.Context, report func(done, total int64)) error
	Ask(ctx context.Context, report func(done, total int64)) error
	Failed() bool
	// Stop ends the copy's server.
	Stop(ctx context.Context) error
	// Finish gives the result, and writes it where the next drill finds it.
	Finish(ctx context.Context) (state.Drill, error)
}

// drill recovers a server for real and keeps what that has shown.
type drill struct {
	drills  Drills
	recover *recoverTo // of the same route: it looks at backup and WAL
	action  plan.Drill
	result  *state.Drill
}

// Done tells whether a drill that began since the step was due has left its evidence. That it failed makes it no less done: the
// evidence says so, and so do status and check.
func (s *drill) Done(ctx context.Context) (bool, error) {
	d, err := s.drills.Drilled(ctx, s.action)
	if err != nil {
		return false, fmt.Errorf("read evidence: %w", err)
	}
	s.result = d
	return d != nil && !d.Began.Before(s.action.Since), nil
}

// Holds asks again what the plan saw.
func (s *drill) Holds(ctx context.Context, c plan.Condition) (verdict, error) {
	switch c.Code {
	case plan.NeedUndrilled:
		if done, err := s.Done(ctx); err != nil || !done {
			return holds(), err
		}
		return isStale("the drill %s was made meanwhile", s.action.Drill), nil
	case plan.NeedScratch:
		return holds(), s.drills.Room(ctx, s.action)
	}
	return s.recover.Holds(ctx, c)
}

// Run removes what dead drills left, drills, and keeps the result. What the drill has shown to be wrong fails the step, so that who
// applies is told; it is not looked for again before the next time is due.
func (s *drill) Run(ctx context.Context, report func(done, total int64)) error {
	place, err := s.drills.Open(ctx, s.action)
	if err != nil {
		return err
	}
	defer place.Close()
	if err := s.sweep(ctx, place); err != nil {
		return err
	}
	if done, err := s.Done(ctx); err != nil || done { // a dead one had come to its end
		return errors.Join(err, s.verdict())
	}
	run, err := place.Begin(ctx)
	if err != nil {
		return errors.Join(err, s.clear(ctx, place, run))
	}
	if err := s.recoverAndAsk(ctx, run, report); err != nil {
		return errors.Join(err, s.clear(ctx, place, run))
	}
	result, err := run.Finish(ctx)
	if err != nil {
		return errors.Join(err, s.clear(ctx, place, run))
	}
	s.result = &result
	return s.put(ctx, place, LeftDrill{ID: run.ID(), Result: &result})
}

// sweep removes what drills left that were killed, and keeps the evidence of those that had come to their end.
func (s *drill) sweep(ctx context.Context, place DrillPlace) error {
	left, err := place.Left(ctx)
	if err != nil {
		return fmt.Errorf("look for what dead drills left: %w", err)
	}
	for _, l := range left {
		if err := s.settle(ctx, place, l); err != nil {
			return fmt.Errorf("remove what a dead drill left: %w", err)
		}
	}
	return nil
}

// settle removes a drill's directory, keeps its evidence, and only then forgets it. Evidence that no repository of this
// configuration takes stays in its marker.
func (s *drill) settle(ctx context.Context, place DrillPlace, l LeftDrill) error {
	if err := place.Remove(ctx, l.ID); err != nil {
		return err
	}
	if l.Result != nil {
		if err := s.drills.Keep(ctx, *l.Result); err != nil {
			if l.Result.Drill != s.action.Drill {
				return nil // another configuration's
			}
			return fmt.Errorf("keep the evidence of the drill: %w", err)
		}
	}
	return place.Forget(ctx, l.ID)
}

func (s *drill) put(ctx context.Context, place DrillPlace, l LeftDrill) error {
	ctx, stop := lingering(ctx)
	defer stop()
	if err := s.settle(ctx, place, l); err != nil {
		return err
	}
	return s.verdict()
}

// clear removes a drill that came to nothing.
func (s *drill) clear(ctx context.Context, place DrillPlace, run Drilling) error {
	if run == nil {
		return nil
	}
	ctx, stop := lingering(ctx)
	defer stop()
	return s.settle(ctx, place, LeftDrill{ID: run.ID()})
}

// lingering goes on for a while after an interruption: what was begun is put away.
func lingering(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), 5*time.Minute)
}

func (s *drill) recoverAndAsk(ctx context.Context, run Drilling, report func(done, total int64)) error {
	limit, err := time.ParseDuration(s.action.Timeout)
	if err != nil {
		return fmt.Errorf("read the timeout of the drill: %w", err)
	}
	ctx, stop := context.WithTimeoutCause(ctx, limit, fmt.Errorf("the drill took longer than its timeout of %s", limit))
	defer stop()
	route := &s.action.Route
	all := route.DataBytes + route.WALBytes
	parts := []func() error{
		func() error { return run.Restore(ctx, func(done, _ int64) { report(min(done, route.DataBytes), all) }) },
		func() error {
			return run.Start(ctx, func(done, _ int64) { report(route.DataBytes+min(done, route.WALBytes), all) })
		},
		func() error { return run.Ask(ctx, func(int64, int64) { report(all, all) }) },
	}
	for _, part := range parts {
		if err := part(); err != nil {
			err = errors.Join(err, end(ctx, run))
			if ctx.Err() != nil { // the copy goes: what the error says of going on there is not so
				return errors.Join(ctx.Err(), context.Cause(ctx))
			}
			return err
		}
		if run.Failed() {
			break
		}
	}
	return end(ctx, run)
}

// end ends the copy, and the hold of its backup: also of a drill that comes to nothing.
func end(ctx context.Context, run Drilling) error {
	ctx, stop := lingering(ctx)
	defer stop()
	return run.Stop(ctx)
}

// verdict is what who applies is told.
func (s *drill) verdict() error {
	if s.result == nil || s.result.Passed {
		return nil
	}
	return &state.Error{
		Code: state.CodeDrill, Text: fmt.Sprintf("the drill %s of %s failed: %s", s.action.Drill, s.action.Route.Server, DrillFailure(*s.result)),
		Hint: "see all of it: pgkeep drill show " + s.action.Drill,
	}
}

// DrillFailure says in a few words why a drill failed: the first finding and how many more there are.
func DrillFailure(d state.Drill) string {
	if len(d.Failures) == 0 {
		return "no reason was kept"
	}
	if n := len(d.Failures) - 1; n > 0 {
		return fmt.Sprintf("%s; and %d more", d.Failures[0], n)
	}
	return d.Failures[0]
}

// Note tells what was recovered and how long that took.
func (s *drill) Note() string {
	d := s.result
	if d == nil {
		return ""
	}
	if !d.Passed {
		return "" // the error tells
	}
	text := fmt.Sprintf("passed: recovered %s of %s in %s", d.Backup, d.Server, plan.Span(time.Duration(d.RTO*float64(time.Second))))
	if a := d.Amcheck; a.Indexes+a.Tables > 0 {
		text += fmt.Sprintf("; amcheck found no damage in %d indexes and %d tables", a.Indexes, a.Tables)
	}
	if d.Amcheck.Skipped != "" && d.Amcheck.Level != "off" {
		text += "; not all of amcheck: " + d.Amcheck.Skipped
	}
	switch n := len(d.Checks); n {
	case 0:
	case 1:
		text += "; 1 check holds"
	default:
		text += fmt.Sprintf("; %d checks hold", n)
	}
	return text
}
