package receive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/wal"
)

// heal fetches a segment that is in quarantine again, over a connection of its own, until the server has given it or
// said that it no longer can. The repositories get nothing that comes after before that: their WAL stays in order.
func (c *checker) heal(ctx context.Context, seg wal.Segment) error {
	retry := newBackoff()
	for {
		same, err := c.fetch(ctx, seg)
		switch {
		case err == nil:
			passed, err := c.accept(ctx, seg, same)
			if passed || err != nil {
				return err
			}
		case c.leftBehind(seg, err):
			c.s.o.Log.Warn("a damaged segment is not fetched again: the line of history left its timeline before its end",
				"server", c.s.o.Server, "segment", seg.Name(c.s.cluster.SegmentSize), "error", err)
			c.s.report.solved(aboutCheck)
			c.s.tail.hole(seg.Timeline, seg.Start(c.s.cluster.SegmentSize))
			return c.s.spool.GiveUp(seg)
		case state.CodeOf(err) == state.CodeGap:
			return c.lose(seg)
		default:
			c.s.report.problem(aboutCheck, fmt.Errorf("fetch segment %s again: %w", seg.Name(c.s.cluster.SegmentSize), err))
		}
		if err := retry.wait(ctx); err != nil {
			return err
		}
	}
}

// leftBehind tells whether the server's line of history left the timeline before the segment's end, so that nobody can
// give it whole, and nobody needs it: what lies before the switch comes again with the stream, as an unfinished segment.
func (c *checker) leftBehind(seg wal.Segment, err error) bool {
	end := seg.End(c.s.cluster.SegmentSize)
	var left *postgres.EndOfTimeline
	return errors.As(err, &left) && left.Switch < end || state.CodeOf(err) == state.CodeGap && c.s.tail.leaves(seg.Timeline, end)
}

func (c *checker) fetch(ctx context.Context, seg wal.Segment) (same bool, err error) {
	conn, err := connect(ctx, &c.s.o)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	starting, cancel := context.WithTimeout(ctx, c.s.o.Timeout)
	defer cancel()
	sys, err := conn.IdentifySystem(starting)
	if err != nil {
		return false, err
	}
	if sys.ID != c.s.cluster.SystemID {
		return false, &state.Error{Code: state.CodeIdentity, Text: "the server is another cluster now: " + sys.ID}
	}
	z := c.s.cluster.SegmentSize
	st, err := conn.Stream(starting, postgres.StreamOptions{Timeline: seg.Timeline, From: seg.Start(z)})
	if err != nil {
		return false, err
	}
	r := &streamReader{ctx: ctx, st: st, at: seg.Start(z), end: seg.End(z), timeout: c.s.o.Timeout}
	return c.s.spool.Replace(seg, r)
}

// accept judges a segment that was fetched again. One that fails as before is what the server itself has: if it is good
// WAL that does not continue ours, the server's history is another; else it is archived as it is, and said so.
func (c *checker) accept(ctx context.Context, seg wal.Segment, same bool) (bool, error) {
	name := seg.Name(c.s.cluster.SegmentSize)
	sum, err := c.scan(seg)
	var corrupt *wal.CorruptError
	switch {
	case err == nil:
		c.s.report.solved(aboutCheck)
	case !errors.As(err, &corrupt):
		return false, err
	case !same:
		return false, c.s.spool.Quarantine(seg)
	case c.passesAlone(seg):
		return false, &state.Error{
			Code: state.CodeFork,
			Text: fmt.Sprintf("segment %s of the server does not continue the WAL that came before it (%s at %s)", name, corrupt.Why, corrupt.LSN),
			Hint: "two servers wrote the same timeline; find out which is the right one before anything is deleted",
		}
	default:
		c.s.report.problem(aboutCheck, &state.Error{
			Code: state.CodeCorrupt,
			Text: fmt.Sprintf("the server itself holds segment %s damaged at %s (%s); it is archived as it is", name, corrupt.LSN, corrupt.Why),
			Hint: "take a new base backup: recovery from an older one stops there",
		})
		sum.End = seg.End(c.s.cluster.SegmentSize)
	}
	c.s.queue.add(job{segment: seg, sum: sum})
	return true, nil
}

func (c *checker) passesAlone(seg wal.Segment) bool {
	f, err := c.s.spool.OpenSegment(seg)
	if err != nil {
		return false
	}
	defer f.Close()
	sum, err := wal.NewScanner(c.s.cluster.SegmentSize, c.system, seg.Timeline).Segment(seg, f, nil)
	return err == nil && sum.End == seg.End(c.s.cluster.SegmentSize)
}

// lose records that a segment which failed its checks can no longer be had.
func (c *checker) lose(seg wal.Segment) error {
	z := c.s.cluster.SegmentSize
	g := state.Gap{
		Range:    wal.Range{Timeline: seg.Timeline, From: seg.Start(z), To: seg.End(z)},
		Reason:   "received damaged, and the server no longer has it; what came is in quarantine",
		Recorded: time.Now().UTC(),
	}
	if err := c.s.recordGap(g); err != nil {
		return err
	}
	return c.s.spool.GiveUp(seg)
}

// streamReader reads one segment out of a stream.
type streamReader struct {
	ctx     context.Context
	st      stream
	at, end wal.LSN
	rest    []byte
	timeout time.Duration
}

// Read gives the next bytes; io.EOF at the segment's end.
func (r *streamReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		if r.at >= r.end {
			return 0, io.EOF
		}
		m, err := r.st.Next(r.ctx, time.Now().Add(r.timeout))
		if err != nil {
			return 0, err
		}
		if m.Keepalive {
			if m.ReplyRequested {
				err = r.st.SendStatus(r.ctx, postgres.Status{Written: r.at, Now: time.Now()})
			}
			if err != nil {
				return 0, err
			}
			continue
		}
		if m.Start != r.at {
			return 0, fmt.Errorf("read the stream: WAL from %s came where %s was to follow", m.Start, r.at)
		}
		r.rest = m.Data[:min(wal.LSN(len(m.Data)), r.end-r.at)]
		r.at += wal.LSN(len(r.rest))
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}
