package receive

import (
	"time"

	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/wal"
)

// proof is that at a moment of the server's clock it had flushed no WAL after a position.
type proof struct {
	at  time.Time
	end wal.LSN
}

// prove takes from a message what it proves. The end that a walsender tells is what it knew a while ago, and in a
// keepalive only what it has sent: one that was held up tells an old end with a new time. But between two messages it
// looks at the server's flush position: for each message of WAL, and for a keepalive when the walsender had already sent
// the message before it when we asked. So what a message says of the end was true at the time of the message before.
func (f *flow) prove(m postgres.Message) {
	if m.Keepalive && f.askedAt.Before(f.heard) || f.serverTime.IsZero() {
		return
	}
	f.proof = proof{at: f.serverTime, end: m.ServerEnd}
}

// caughtUp gives the last server time at which what is durable here is known to have been all that the server had; zero:
// it is not.
func (f *flow) caughtUp() time.Time {
	if f.serverEnd == 0 || f.proof.end == 0 || f.w.Flushed() < max(f.serverEnd, f.proof.end, f.flushAt) {
		return time.Time{}
	}
	return f.proof.at
}

// unproven tells whether everything came that the server told of, nothing proves yet that this was all, and no question
// is open: at the start of a stream one question more than usual is asked.
func (f *flow) unproven() bool {
	return f.proof.at.IsZero() && !f.serverTime.IsZero() && !f.heard.Before(f.askedAt) && f.w.Flushed() >= max(f.serverEnd, f.flushAt)
}
