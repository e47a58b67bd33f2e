package steps

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/host"
	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/spool"
	"github.com/pgkeep/pgkeep/state/wal"
	"github.com/pgkeep/pgkeep/steps/receive"
)

// Times of a push.
const (
	pushLook  = 20 * time.Millisecond  // how often the receiver's report is read
	pushAgain = 250 * time.Millisecond // how often it is asked again: WAL that was still on its way came meanwhile
)

// Pushed is what came of bringing a server's last WAL into its repositories.
type Pushed struct {
	Held   wal.LSN // every repository holds WAL up to here
	Wanted wal.LSN // the server's end when it was asked, else the end of the spool; zero: there is no WAL here
	Server bool    // the server answered: Wanted is its end
	By     string  // "receiver" or "spool": who brought it
}

// PushWAL brings all WAL that this machine has of a server into its repositories, and returns when they hold it: what is
// durable in the spool and, where a receiver runs and the server answers, everything up to the position that is durable
// there now. A receiver that runs is asked; where none does, the spool is emptied by the same code. A receiver of another
// machine cannot be asked and gives state.CodeOtherHost.
func PushWAL(ctx context.Context, spec *hclspec.Spec, server string, o BindOptions) (Pushed, error) {
	r := real{spec: spec, o: o.withDefaults()}
	dir, err := r.spoolOf(server)
	if err != nil {
		return Pushed{}, err
	}
	seen, err := spool.Look(dir, server)
	if err != nil {
		return Pushed{}, err
	}
	p := Pushed{Wanted: seen.Spool.Durable}
	if !seen.Receiver.Running {
		if seen.Spool.Durable == 0 {
			return p, nil
		}
		p.By = "spool"
		p.Held, err = r.drain(ctx, server)
		return p, err
	}
	p.By = "receiver"
	if seen.Receiver.Streaming {
		if end, ok := r.serverEnd(ctx, server, seen.Spool); ok {
			p.Wanted, p.Server = max(p.Wanted, end), true
		}
	}
	p.Held, err = PushByReceiver(ctx, dir, server, p.Wanted)
	return p, err
}

// serverEnd asks a server for the end of its durable WAL; a server that does not answer, or is another than the spool's,
// has none.
func (r real) serverEnd(ctx context.Context, server string, sp state.Spool) (wal.LSN, bool) {
	conn, err := r.control(ctx, server)
	if err != nil {
		return 0, false
	}
	defer conn.Close()
	asks, ok := conn.(*postgres.Conn)
	if !ok {
		return 0, false
	}
	facts, err := asks.Facts(ctx)
	if err != nil || facts.SystemID != sp.SystemID || facts.Timeline != sp.Timeline {
		return 0, false
	}
	return facts.FlushLSN, true
}

// drain empties the spool where no receiver runs.
func (r real) drain(ctx context.Context, server string) (wal.LSN, error) {
	o, err := ReceiverOptions(r.spec, server, r.o)
	if err != nil {
		return 0, err
	}
	o.Holder = spool.Holder{PID: os.Getpid(), Who: r.o.Who, Since: r.o.Now().UTC()}
	held, err := receive.Drain(ctx, o)
	if err != nil {
		return held, fmt.Errorf("push the WAL in the spool of %s: %w", server, err)
	}
	return held, nil
}

// PushByReceiver asks the process that holds the spool's lock, the agent or a receiver of its own, until that reports
// that every repository holds WAL up to a position. It gives how far they do.
func PushByReceiver(ctx context.Context, dir, server string, upTo wal.LSN) (wal.LSN, error) {
	asked := time.Time{}
	tick := time.NewTicker(pushLook)
	defer tick.Stop()
	for {
		r, err := spool.LookAtReceiver(dir, server)
		if err != nil {
			return 0, err
		}
		if !r.Running {
			return r.Archived, &state.Error{Code: state.CodeAbsent, Text: "no receiver of " + server + " runs here", Hint: "pgkeep apply starts it"}
		}
		if r.Archived >= upTo && r.Archived != 0 {
			return r.Archived, nil
		}
		if now := time.Now(); now.Sub(asked) >= pushAgain {
			asked = now
			if _, err := host.Signal(r.PID, spool.LockPath(dir, server), receive.PushSignal); err != nil {
				return r.Archived, fmt.Errorf("ask the receiver of %s to push its WAL: %w", server, err)
			}
		}
		select {
		case <-ctx.Done():
			return r.Archived, slow(r, server, upTo)
		case <-tick.C:
		}
	}
}

// slow says why a push took too long, as far as the receiver tells.
func slow(r state.Receiver, server string, upTo wal.LSN) error {
	e := &state.Error{
		Code: state.CodeUnreachable, Hint: "pgkeep receiver status " + server,
		Text: fmt.Sprintf("the receiver of %s (process %d) has archived WAL up to %s and not yet up to %s", server, r.PID, r.Archived, upTo),
	}
	if r.Problem != nil {
		e.Code, e.Hint = r.Problem.Code, r.Problem.Hint
		e.Text += ": " + r.Problem.Text
	}
	return e
}

// Push asks the detached receiver.
func (r detachedReceivers) Push(ctx context.Context, server string, upTo wal.LSN) (wal.LSN, error) {
	dir, err := r.spoolOf(server)
	if err != nil {
		return 0, err
	}
	return PushByReceiver(ctx, dir, server, upTo)
}
