package receive

import (
	"context"
	"errors"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres"
)

// stream connects and receives, again and again. It returns when ctx ends, or with an error that trying again cannot
// mend.
func (s *session) stream(ctx context.Context) error {
	retry := newBackoff()
	defer func() { s.tail.lease(time.Time{}); s.tail.park(s.start.fenced); s.wakeUploads() }() // a stop waits for no further try
	for {
		s.start.broke = false
		worked, err := s.connectAndFollow(ctx)
		s.report.update(func(r *state.Receiver) { r.Streaming = false })
		if !s.start.broke || ctx.Err() != nil {
			s.unparkTail(err)
		}
		s.tail.demand()
		s.wakeUploads()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var other *otherClusterError
		if errors.As(err, &other) {
			return err
		}
		if isFinal(err) {
			s.report.problem(aboutStream, err)
			return err
		}
		if err != nil {
			s.report.problem(aboutStream, err)
		}
		if worked && quickly(err) {
			retry.worked()
		}
		switch state.CodeOf(err) {
		case state.CodeDiskFull:
			err = s.awaitRoom(ctx, retry)
		case state.CodeStandby:
			retry.soon()
			fallthrough
		default:
			err = retry.waitUnless(ctx, s.hurry)
		}
		if err != nil {
			return err
		}
	}
}

// connectAndFollow lives as long as one connection and goes through as many timelines as it serves. worked tells whether
// WAL, or word that there is none, came from the server.
func (s *session) connectAndFollow(ctx context.Context) (worked bool, err error) {
	if err := s.spool.RefuseFork(); err != nil {
		return false, err
	}
	if err := s.spool.CheckRoom(); err != nil {
		return false, err
	}
	if !s.start.tried {
		if err := s.askArchives(ctx, askBriefly); err != nil {
			return false, err
		}
	}
	conn, err := connect(ctx, &s.o)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	var next *begin
	for {
		b, err := s.agree(ctx, conn, next)
		if err != nil {
			return worked, err
		}
		s.start.lastPID = conn.PID()
		moved, err := s.follow(ctx, conn, b)
		worked = worked || moved
		var end *postgres.EndOfTimeline
		if !errors.As(err, &end) {
			return worked, err
		}
		next = &begin{timeline: end.Next, from: s.cluster.SegmentSize.Floor(end.Switch)}
	}
}

// agree finds out who the server is and where to begin. All of it is done within the timeout, or the server is
// taken for dead.
func (s *session) agree(ctx context.Context, conn connection, next *begin) (begin, error) {
	ctx, cancel := context.WithTimeout(ctx, s.o.Timeout)
	defer cancel()
	sys, c, err := identify(ctx, &s.o, conn)
	if err != nil {
		return begin{}, err
	}
	if c.SystemID != s.cluster.SystemID || c.SegmentSize != s.cluster.SegmentSize {
		return begin{}, &otherClusterError{cluster: c}
	}
	b, err := s.whereToBegin(ctx, conn, sys, next)
	if err != nil {
		return b, err
	}
	return s.afterRefusal(ctx, b)
}

// quickly tells whether a connection that worked is made anew at once after this error.
func quickly(err error) bool {
	if errors.Is(err, errLetGo) {
		return false
	}
	switch state.CodeOf(err) {
	case state.CodeDiskFull, state.CodeIO, state.CodePermission:
		return false
	default:
		return true
	}
}

// parkTail keeps the unfinished segment from the archives when a stream broke by itself: another receiver may have taken
// over while this one was stopped, and then it writes nothing more. The next try to connect tells.
func (s *session) parkTail(ctx context.Context, err error) {
	var end *postgres.EndOfTimeline
	if ctx.Err() == nil && !errors.As(err, &end) {
		s.start.broke = true
		s.tail.park(true)
	}
	s.tail.lease(time.Time{}) // asked after the tail was parked: no push comes in between
}

// unparkTail lets the unfinished segment go to the archives, unless the last try to connect found that the slot is another
// receiver's. A server that does not answer may be gone for good: then what we hold is all there is.
func (s *session) unparkTail(err error) {
	if code := state.CodeOf(err); code != "" || err == nil {
		s.start.fenced = code == state.CodeSlotInUse
	}
	s.tail.park(s.start.fenced)
}
