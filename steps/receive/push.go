package receive

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/spool"
	"github.com/pgkeep/pgkeep/state/wal"
)

// PushSignal asks the process of a receiver to bring all that is durable in its spool into the repositories at once,
// and to report how far that came. Run takes it before it claims the spool, so that a process which holds the lock of a
// spool knows the signal.
const PushSignal = syscall.SIGUSR1

// eagerFor is how long after a push was asked for each step of it is reported at once.
const eagerFor = 10 * time.Second

// orders takes the signal until stop is called.
func orders() (asked <-chan os.Signal, stop func()) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, PushSignal)
	return c, func() { signal.Stop(c) }
}

// obey pushes whenever it is asked to.
func (s *session) obey(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.o.asked:
			s.report.hurry(time.Now().Add(eagerFor))
			s.tail.demand()
			s.wakeUploads()
			select { // somebody waits for WAL: the server is asked again as soon as that is decent
			case s.hurry <- struct{}{}:
			default:
			}
		}
	}
}

// Drain brings what lies in a server's spool into the repositories, where no receiver runs that would: the same checks,
// the same uploads, and no connection to the server but where a damaged segment must be fetched again. It gives the
// position that every repository then holds, zero when the spool holds no WAL. Whatever it could not bring away when ctx
// ends stays in the spool. A spool that a receiver holds gives state.CodeLocked.
func Drain(ctx context.Context, o Options) (held wal.LSN, err error) {
	if err := o.check(); err != nil {
		return 0, err
	}
	o = o.withDefaults()
	asked, ignore := orders() // whoever asks the holder of the lock for a push has it already
	defer ignore()
	o.asked = asked
	c, known, err := o.knownCluster()
	if err != nil || !known {
		return 0, err
	}
	before, err := spool.Look(o.Spool, o.Server) // the last receiver's report, so that what it knew of the server is not lost
	if err != nil {
		return 0, err
	}
	claim, err := spool.Take(o.Spool, o.Server, o.Holder)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, claim.Release()) }()
	rep := newReporter(o, claim)
	sp, err := claim.Open(spool.Options{
		Name: o.Server, SystemID: c.SystemID, SegmentSize: c.SegmentSize, Limit: o.SpoolLimit, AllowVolatile: o.AllowVolatileSpool,
	})
	if err != nil {
		return 0, err
	}
	s := newSession(o, c, sp, rep)
	s.produce = func(context.Context) error { return nil }
	s.patience = 0
	err = s.run(ctx)
	held = s.tail.held(len(o.Archives))
	switch p := sp.Position(); {
	case err != nil:
	case held < p.Proven:
		err = rep.undone(fmt.Sprintf("WAL up to %s is in the spool %s, and the repositories hold it only up to %s", p.Proven, sp.Dir(), held))
	case held < p.Unchecked:
		err = &state.Error{
			Code: state.CodeIO,
			Text: fmt.Sprintf("WAL up to %s is in the spool %s, and the repositories hold it only up to %s: what follows begins with the rest of a record that cannot be checked",
				p.Unchecked, sp.Dir(), held),
			Hint: "let a receiver fetch it again (pgkeep apply); if the server is gone for good, keep a copy of the spool",
		}
	}
	last := before.Receiver
	last.Streaming, last.Archived = false, s.archivedNow(ctx)
	return held, errors.Join(err, claim.Report(last))
}

// archivedNow asks the archives themselves how far all of them reach, whatever an earlier report said: one that does not
// answer counts for no more than was put into it.
func (s *session) archivedNow(ctx context.Context) wal.LSN {
	all, err := s.answersOf(context.WithoutCancel(ctx), askBriefly)
	if err != nil {
		s.o.Log.Warn("not every repository says how far it reaches", "server", s.o.Server, "error", err)
	}
	for i, u := range s.uploads {
		for _, a := range all {
			if a.name == u.archive.Name && a.newest.Timeline == s.spool.Position().Timeline {
				s.tail.reached(i, a.newest.Timeline, a.newest.To)
			}
		}
	}
	return s.tail.held(len(s.uploads))
}

// undone makes an error of what the receiver would report as its problem.
func (r *reporter) undone(text string) error {
	e := &state.Error{Code: state.CodeIO, Text: text, Hint: "pgkeep status"}
	if p := r.snapshot().Problem; p != nil {
		e.Code, e.Hint = p.Code, p.Hint
		e.Text += ": " + p.Text
	}
	return e
}
