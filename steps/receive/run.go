package receive

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/spool"
)

// Run receives a server's WAL until ctx ends, which is no error, or until something stops it that a receiver cannot mend:
// a slot that was lost or dropped (state.CodeSlotLost, state.CodeSlotAbsent: the planner replaces it), a fork (state.CodeFork), a spool in use
// (state.CodeLocked). Everything else (a server that is away, a full disk, a repository that does not answer, a wrong
// system identifier) is reported and tried again. When Run returns, all that it started has stopped.
func Run(ctx context.Context, o Options) error {
	if err := o.check(); err != nil {
		return err
	}
	o = o.withDefaults()
	asked, ignore := orders() // before the lock, which promises that the signal is taken
	defer ignore()
	o.asked = asked
	claim, err := spool.Take(o.Spool, o.Server, o.Holder)
	if err != nil {
		return err
	}
	rep := newReporter(o, claim)
	ctx, cancel := context.WithCancel(ctx)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return rep.run(ctx) })
	g.Go(func() error {
		defer cancel()
		return clusters(ctx, o, claim, rep)
	})
	err = g.Wait()
	rep.last(err)
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	return errors.Join(err, claim.Release())
}

// clusters runs one session after the other, each for the cluster that the server is.
func clusters(ctx context.Context, o Options, claim *spool.Claim, rep *reporter) error {
	c, known, err := o.knownCluster()
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		if !known {
			if c, err = awaitCluster(ctx, &o, rep); err != nil {
				return err
			}
		}
		var other *otherClusterError
		err := openAndRun(ctx, o, c, claim, rep)
		if !errors.As(err, &other) {
			return err
		}
		o.Log.Warn("the server is another cluster that is allowed", "server", o.Server, "before", c.SystemID, "now", other.cluster.SystemID)
		c, known = other.cluster, true
	}
	return nil
}

// openAndRun opens the cluster's spool, again and again while its disk refuses, and runs a session.
func openAndRun(ctx context.Context, o Options, c ClusterIdentity, claim *spool.Claim, rep *reporter) error {
	if o.Acknowledge == Repository && c.SegmentSize > maxPushSegment {
		return &state.Error{
			Code: state.CodeSettings,
			Text: fmt.Sprintf("acknowledge = \"repository\" pushes the unfinished segment every second, and those of %s have %d MiB: at most %d are accepted", o.Server, c.SegmentSize>>20, maxPushSegment>>20),
			Hint: "use acknowledge = \"spool\"",
		}
	}
	retry := newBackoff()
	for {
		sp, err := claim.Open(spool.Options{
			Name: o.Server, SystemID: c.SystemID, SegmentSize: c.SegmentSize, Limit: o.SpoolLimit, AllowVolatile: o.AllowVolatileSpool,
		})
		if err == nil {
			rep.solved(aboutSpool)
			return newSession(o, c, sp, rep).run(ctx)
		}
		rep.problem(aboutSpool, err)
		if err := retry.wait(ctx); err != nil {
			return err
		}
	}
}

// awaitCluster asks the server who it is until it answers.
func awaitCluster(ctx context.Context, o *Options, rep *reporter) (ClusterIdentity, error) {
	retry := newBackoff()
	for {
		c, err := askCluster(ctx, o)
		if err == nil {
			rep.solved(aboutStream)
			return c, nil
		}
		if isFinal(err) {
			return c, err
		}
		rep.problem(aboutStream, err)
		if err := retry.wait(ctx); err != nil {
			return c, err
		}
	}
}

func askCluster(ctx context.Context, o *Options) (ClusterIdentity, error) {
	conn, err := connect(ctx, o)
	if err != nil {
		return ClusterIdentity{}, err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	_, c, err := identify(ctx, o, conn)
	return c, err
}

// isFinal tells whether an error cannot go away while the receiver goes on.
func isFinal(err error) bool {
	var f *finalError
	if errors.As(err, &f) {
		return true
	}
	switch state.CodeOf(err) {
	case state.CodeFork, state.CodeSlotLost, state.CodeConninfo, state.CodeVersion:
		return true
	default:
		return false
	}
}

// finalError marks an error that only a plan or a person can mend.
type finalError struct{ err error }

func (f *finalError) Error() string { return f.err.Error() }
func (f *finalError) Unwrap() error { return f.err }

func final(err error) error { return &finalError{err: err} }
