package receive

import (
	"context"
	"time"

	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/wal"
)

// maxLease bounds a lease: a walsender also ends in ways that no timeout foretells.
const maxLease = 5 * time.Second

// lease is how long the slot is surely still ours while a stream runs. The server ends a walsender only after it has not
// heard of its receiver for wal_sender_timeout, and until then no other receiver gets the slot. So an answer to a question
// of ours proves that the slot is ours for half of that time from when we asked. A receiver that was stopped, and wakes up
// with WAL in its sockets, has no such answer: it may be a zombie, and writes nothing before it knows. A lease ends by the wall clock too:
// the other one does not run while the machine sleeps.
//
// A walsender of a physical slot answers each question with one keepalive that asks nothing itself, in order; all other
// keepalives ask for a reply (src/backend/replication/walsender.c, WalSndKeepalive and its callers, 13 to 18).
type lease struct {
	span  time.Duration
	asked []time.Time // the questions that wait for their answers, oldest first
	until time.Time
}

// newLease begins when the server was asked for the stream that it then gave. senderTimeout is the server's
// wal_sender_timeout; zero: it never gives a receiver up.
func newLease(senderTimeout time.Duration, asked time.Time) lease {
	l := lease{span: maxLease}
	if senderTimeout > 0 {
		l.span = min(l.span, senderTimeout/2)
	}
	l.until = asked.Add(l.span)
	return l
}

func (l *lease) ask(now time.Time) { l.asked = append(l.asked, now) }

// take lets an answer of the server prolong the lease. It tells whether it was one.
func (l *lease) take(m postgres.Message) bool {
	if !m.Keepalive || m.ReplyRequested || len(l.asked) == 0 {
		return false
	}
	l.until = l.asked[0].Add(l.span)
	l.asked = l.asked[1:]
	return true
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// startStream gives the stream and the first lease of it.
func (s *session) startStream(ctx context.Context, conn connection, b begin) (stream, lease, error) {
	ctx, cancel := context.WithTimeout(ctx, s.o.Timeout)
	defer cancel()
	patience, err := conn.SenderTimeout(ctx)
	if err != nil {
		return nil, lease{}, err
	}
	asked := time.Now()
	st, err := conn.Stream(ctx, postgres.StreamOptions{Slot: s.o.Slot, Timeline: b.timeline, From: b.from, ReportTimeout: s.o.Timeout})
	return st, newLease(patience, asked), err
}

// renew lets the archives have the unfinished segment for longer, once the server has answered.
func (f *flow) renew(m postgres.Message, now time.Time) {
	ended := !now.Before(f.lease.until)
	if !f.lease.take(m) {
		return
	}
	f.s.tail.lease(f.lease.until)
	if ended {
		f.s.wakeUploads()
	}
}

// unpushed tells whether the archives lack some of the unfinished segment.
func (f *flow) unpushed() bool {
	return f.segmentNow != wal.Segment{} && f.s.tail.held(len(f.s.uploads)) < f.w.Flushed()
}

// renewAt is when the server is to be asked next, so that what waits for the archives may be pushed. While WAL pours in that
// waits for the next report.
func (f *flow) renewAt() time.Time {
	at := later(f.lease.until.Add(-2*f.lease.span/3), f.askedAt.Add(f.lease.span/3))
	if f.behind() || f.st.Buffered() {
		at = later(at, f.told.Add(syncEvery))
	}
	return at
}
