package receive

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/spool"
	"github.com/pgkeep/pgkeep/state/wal"
)

// Times of one stream.
const (
	syncEvery   = time.Second            // at latest: fsync and flush position
	askEvery    = 5 * time.Second        // at latest, when nothing comes: is the server there, how far is it
	holdReply   = 500 * time.Millisecond // how long an asked-for reply waits for the repositories
	secondAsk   = time.Second            // asked again within this, the server wants to end
	pollArchive = 20 * time.Millisecond  // how often the archives' position is looked at while the server waits for it
)

// farBehind is how much WAL the server must have, and say that it has, beyond what came, for a receiver to be catching
// up: more waits to be read then, although it is not here yet, and an fsync after each of the server's messages of
// 128 KiB would halve the speed. No commit waits for one: a commit's record is at the server's end.
const farBehind = 8 << 20

// errLetGo ends a connection because the server waits for a flush that we cannot give.
var errLetGo = &state.Error{
	Code: state.CodeUnreachable,
	Text: "the server waits for WAL to be flushed that the repositories do not take: the connection is closed, the slot keeps the WAL",
	Hint: "see why the repositories do not answer: pgkeep status",
}

// flow is one running stream of one timeline.
type flow struct {
	s        *session
	st       stream
	w        *spool.Writer
	timeline wal.Timeline
	durable  wal.LSN // what we held before; WAL up to there only comes to be compared
	least    wal.LSN // where the slot stood at the start: a flush position below it would take the slot back
	flushAt  wal.LSN // the server's own flush position, asked for before the start
	moved    bool    // something came

	heard, synced, told time.Time
	askedAt             time.Time // of our last request for a reply
	lease               lease
	sentWritten         wal.LSN
	sentFlushed         wal.LSN
	serverEnd           wal.LSN
	serverTime          time.Time
	proof               proof

	wanted     time.Time // since when a reply is owed; zero: none is
	wantedEnd  wal.LSN
	fellShort  time.Time // when a reply last told less than was wanted
	roomAt     time.Time
	segmentAt  time.Time // when the unfinished segment began
	segmentNow wal.Segment
	switched   chan error // the answer of a switch that was asked for; nil: none was
}

// follow streams one timeline until it ends (*postgres.EndOfTimeline), the connection does, or ctx.
func (s *session) follow(ctx context.Context, conn connection, b begin) (moved bool, err error) {
	st, lease, err := s.startStream(ctx, conn, b)
	if err != nil {
		return s.refused(b, err), err
	}
	s.tail.lease(lease.until)
	s.unparkTail(nil)
	w, err := s.spool.Writer(b.timeline, b.from, func(seg wal.Segment) { s.found(job{segment: seg}) })
	if err != nil {
		s.tail.lease(time.Time{}) // no stream runs that would renew it
		return false, err
	}
	now := time.Now()
	f := &flow{s: s, st: st, w: w, timeline: b.timeline, durable: b.durable, least: s.start.slotAt, flushAt: s.start.flushAt, lease: lease, heard: now, synced: now, segmentAt: now}
	s.o.Log.Info("streaming", "server", s.o.Server, "timeline", b.timeline, "from", b.from)
	s.report.update(func(r *state.Receiver) { r.Streaming, r.Timeline, r.CaughtUpAt = true, b.timeline, time.Time{} })
	err = f.run(ctx)
	if w.Written() == b.from {
		f.moved = s.refused(b, err) || f.moved
	}
	s.parkTail(ctx, err)
	return f.moved, f.end(err)
}

func (f *flow) run(ctx context.Context) error {
	asking, enough := context.WithCancel(ctx)
	defer f.awaitSwitch()
	defer enough()
	if err := f.tell(ctx, time.Now(), true); err != nil {
		return err
	}
	for {
		m, err := f.st.Next(ctx, f.deadline())
		now := time.Now()
		if err == nil {
			err = f.take(m, now)
		}
		if err != nil && !errors.Is(err, postgres.ErrIdle) {
			return err
		}
		if err := f.tend(ctx, now); err != nil {
			return err
		}
		f.endIdleSegment(asking, now)
	}
}

// take takes one message.
func (f *flow) take(m postgres.Message, now time.Time) error {
	if !f.moved {
		f.moved = true
		f.s.report.solved(aboutStream)
	}
	f.prove(m)
	f.heard = now
	f.renew(m, now)
	f.serverEnd, f.serverTime = m.ServerEnd, m.ServerTime
	if m.ReplyRequested && f.wanted.IsZero() {
		f.wanted, f.wantedEnd = now, m.ServerEnd
	}
	if m.Keepalive {
		return nil
	}
	return f.w.Write(m.Start, m.Data)
}

// tend does what is due: fsync, reports, questions, warnings.
func (f *flow) tend(ctx context.Context, now time.Time) error {
	calm := !f.st.Buffered() && !f.behind()
	if calm || now.Sub(f.synced) >= syncEvery || !f.wanted.IsZero() {
		if err := f.sync(now); err != nil {
			return err
		}
	}
	if calm {
		f.w.Prepare()
	}
	if err := f.reply(ctx, now); err != nil {
		return err
	}
	if now.Sub(f.heard) >= f.s.o.Timeout {
		return &state.Error{
			Code: state.CodeUnreachable,
			Text: fmt.Sprintf("%s has been silent for %s", f.s.o.Server, f.s.o.Timeout),
			Hint: "the connection is made anew by itself",
		}
	}
	ask := now.Sub(f.heard) >= f.askEvery() && now.Sub(f.askedAt) >= f.askEvery() || f.unproven() || f.unpushed() && !now.Before(f.renewAt())
	news := f.w.Written() > f.sentWritten || f.acknowledged() > f.sentFlushed
	if ask || news && (calm || now.Sub(f.told) >= syncEvery) {
		if err := f.tell(ctx, now, ask || calm && now.Sub(f.askedAt) >= syncEvery); err != nil {
			return err
		}
	}
	if now.Sub(f.roomAt) >= syncEvery {
		f.roomAt = now
		if err := f.s.watchRoom(); err != nil {
			return err
		}
	}
	return nil
}

// behind tells whether the server has told of much more than what came.
func (f *flow) behind() bool {
	return f.serverEnd > f.w.Written() && f.serverEnd-f.w.Written() >= farBehind
}

func (f *flow) askEvery() time.Duration { return min(askEvery, f.s.o.Timeout/3) }

// sync makes durable what was taken and lets the uploaders and the onlookers know.
func (f *flow) sync(now time.Time) error {
	if err := f.w.Sync(); err != nil { // also of a writer that broke before: it knows of no unfinished segment any more
		return err
	}
	f.synced = now
	seg, unfinished := f.w.Segment()
	if !unfinished {
		seg = wal.Segment{}
	}
	if seg != f.segmentNow {
		f.segmentNow, f.segmentAt = seg, now
	}
	f.s.tail.set(f.timeline, seg, f.w.Flushed())
	f.s.report.update(func(r *state.Receiver) {
		r.Written, r.Flushed, r.ServerEnd = f.w.Written(), f.w.Flushed(), f.serverEnd
		if at := f.caughtUp(); !at.IsZero() {
			r.CaughtUpAt = at
		}
	})
	return nil
}

// acknowledged is the position that may be called flushed. While WAL comes again, and until the archives have told that
// they hold as much as before the start, it is none: a position below the slot's would let the slot go back to where the
// server keeps nothing.
func (f *flow) acknowledged() wal.LSN {
	at := f.w.Flushed()
	if at < f.durable {
		return 0
	}
	if f.s.o.Acknowledge == Repository {
		at = min(at, f.s.tail.held(f.s.o.Quorum))
	}
	if at < f.least {
		return 0
	}
	return at
}

// reply answers a request for a reply. One that would tell less than the server has sent waits a moment for the
// repositories; when the server then asks again at once it wants to end, and we let go.
func (f *flow) reply(ctx context.Context, now time.Time) error {
	if f.wanted.IsZero() {
		return nil
	}
	short := f.acknowledged() < f.wantedEnd
	if short && f.s.o.Acknowledge == Repository && now.Sub(f.wanted) < holdReply {
		f.s.tail.demand()
		f.s.wakeUploads()
		return nil
	}
	if short && !f.fellShort.IsZero() && now.Sub(f.fellShort) < secondAsk {
		return errLetGo
	}
	f.wanted, f.fellShort = time.Time{}, time.Time{}
	if short {
		f.fellShort = now
	}
	return f.tell(ctx, now, false)
}

// tell reports our positions; ask wants an answer.
func (f *flow) tell(ctx context.Context, now time.Time, ask bool) error {
	written, flushed := f.w.Written(), f.acknowledged()
	err := f.st.SendStatus(ctx, postgres.Status{Written: written, Flushed: flushed, Now: now, RequestReply: ask})
	if err != nil {
		return err
	}
	f.told, f.sentWritten, f.sentFlushed = now, written, flushed
	if ask {
		f.askedAt = now
		f.lease.ask(now)
	}
	return nil
}

// deadline is when something is due although nothing comes.
func (f *flow) deadline() time.Time {
	at := f.heard.Add(f.askEvery())
	if !f.askedAt.IsZero() && f.askedAt.Add(f.askEvery()).After(at) {
		at = f.askedAt.Add(f.askEvery())
	}
	at = earlier(at, f.heard.Add(f.s.o.Timeout))
	if f.w.Flushed() < f.w.Written() {
		at = earlier(at, f.synced.Add(syncEvery))
	}
	if f.s.o.Acknowledge == Repository && f.acknowledged() < f.w.Written() {
		at = earlier(at, time.Now().Add(pollArchive))
	}
	if f.unpushed() {
		at = earlier(at, f.renewAt())
	}
	return earlier(at, f.roomAt.Add(5*syncEvery))
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// end closes the writer after err ended the stream. Its unfinished segment stays the tail, which the archives still get;
// where a timeline ended, it goes to them as that timeline's end.
func (f *flow) end(err error) error {
	failed := f.sync(time.Now()) // a writer that is closed knows of no unfinished segment any more
	if closeErr := f.w.Close(); failed == nil {
		failed = closeErr
	}
	if failed != nil {
		if errors.Is(err, failed) {
			return err
		}
		return errors.Join(failed, err)
	}
	var end *postgres.EndOfTimeline
	if !errors.As(err, &end) {
		f.farewell()
		return withCode(err)
	}
	if f.w.Flushed() != end.Switch {
		return &state.Error{
			Code: state.CodeIO,
			Text: fmt.Sprintf("timeline %d ends at %s, but WAL came up to %s", f.timeline, end.Switch, f.w.Flushed()),
			Hint: "the connection is made anew by itself",
		}
	}
	if z := f.s.cluster.SegmentSize; z.Offset(end.Switch) != 0 {
		f.s.found(job{ended: &ended{segment: z.SegmentAt(f.timeline, end.Switch), upTo: end.Switch}})
	}
	return err
}

// withCode gives the server's clean end a code.
func withCode(err error) error {
	if errors.Is(err, postgres.ErrServerShutdown) {
		return &state.Error{Code: state.CodeStarting, Text: "the stream ended", Err: err, Hint: "the connection is made anew by itself once the server is up"}
	}
	return err
}

// farewell tells the server our last position, if it still listens, so that it need not keep what we have.
func (f *flow) farewell() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = f.tell(ctx, time.Now(), false)
}
