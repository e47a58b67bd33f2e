package steps

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/host"
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
	Beyond wal.LSN // the server's end where it answered and no receiver runs that would bring what is after Held
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
	for {
		p, err := r.pushOnce(ctx, dir, server)
		// Whoever held the spool has let it go, or took it just now: another push that emptied it, a receiver that was
		// stopped or is being started. What is in the spool then is looked at anew.
		if code := state.CodeOf(err); code != state.CodeAbsent && code != state.CodeLocked {
			return p, err
		}
		select {
		case <-ctx.Done():
			return p, err
		case <-time.After(pushLook):
		}
	}
}

// pushOnce asks the process that holds the spool, or empties it itself.
func (r real) pushOnce(ctx context.Context, dir, server string) (Pushed, error) {
	seen, err := spool.Look(dir, server)
	if err != nil {
		return Pushed{}, err
	}
	p := Pushed{Wanted: seen.Spool.Durable}
	if !seen.Receiver.Running {
		if seen.Spool.Durable == 0 {
			return p, nil
		}
		p.Held, err = r.drain(ctx, server)
		facts, ok := r.serverNow(ctx, server, seen.Spool.SystemID)
		if ok && (facts.FlushLSN > p.Held || facts.Timeline != seen.Spool.Timeline) {
			p.Beyond = facts.FlushLSN
		}
		return p, err
	}
	goal := wal.Range{To: p.Wanted}
	if facts, ok := r.serverNow(ctx, server, seen.Spool.SystemID); ok {
		p.Wanted, p.Server = facts.FlushLSN, true
		goal = wal.Range{Timeline: facts.Timeline, To: facts.FlushLSN}
	}
	p.Held, err = pushByReceiver(ctx, dir, server, goal)
	return p, err
}

// serverNow asks a server where its durable WAL ends; ok is false for one that does not answer, or is another cluster than
// the spool's.
func (r real) serverNow(ctx context.Context, server, systemID string) (facts state.Server, ok bool) {
	ctx, done := context.WithTimeout(ctx, connectTimeout)
	defer done()
	conn, err := realServers{r}.Connect(ctx, server)
	if err != nil {
		return facts, false
	}
	defer conn.Close()
	facts, err = conn.Facts(ctx)
	return facts, err == nil && (systemID == "" || facts.SystemID == systemID)
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
	return pushByReceiver(ctx, dir, server, wal.Range{To: upTo})
}

// pushByReceiver wants WAL up to goal.To, and the receiver on goal's timeline, if that is not zero.
func pushByReceiver(ctx context.Context, dir, server string, goal wal.Range) (wal.LSN, error) {
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
		if r.Archived >= goal.To && r.Archived != 0 && (goal.Timeline == 0 || goal.Timeline == r.Timeline) {
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
			return r.Archived, slow(r, server, goal.To)
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
