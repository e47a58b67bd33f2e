package receive

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// loadWork puts what an earlier run left in the spool before the checker, in the order in which repositories must get
// it: each timeline's history before its WAL, its unfinished end after.
func (s *session) loadWork() error {
	w, err := s.spool.Work()
	if err != nil {
		return err
	}
	for i := range w.Gaps {
		s.found(job{gap: &w.Gaps[i]})
		s.remember(w.Gaps[i].Range)
	}
	jobs := map[wal.Timeline][]job{}
	var newest wal.Timeline
	add := func(t wal.Timeline, j job) {
		jobs[t] = append(jobs[t], j)
		newest = max(newest, t)
	}
	for _, t := range w.Histories {
		add(t, job{history: t})
	}
	for _, seg := range w.Missing {
		add(seg.Timeline, job{missing: seg})
	}
	for _, seg := range w.Segments {
		add(seg.Timeline, job{segment: seg})
	}
	for _, e := range w.Ended {
		add(e.Segment.Timeline, job{ended: &ended{segment: e.Segment, upTo: e.UpTo}})
	}
	for t := wal.Timeline(1); t <= newest; t++ {
		for _, j := range jobs[t] {
			s.found(j)
		}
	}
	return nil
}

// loadTail takes the unfinished segment of an earlier run to the repositories too: the server may be gone for good.
func (s *session) loadTail() {
	p := s.spool.Position()
	s.tail.set(p.Timeline, p.Unfinished, p.Proven)
}

// found hands what came into the spool to the checker.
func (s *session) found(j job) {
	s.queue.expect(1)
	s.work.put(j)
}

// checker reads completed segments in order.
type checker struct {
	s       *session
	system  uint64
	scanner *wal.Scanner
	last    wal.Segment // the one scanned last without error
}

// check goes through what came into the spool: segments are scanned, those that fail are fetched again, and all is
// passed on to the archives.
func (s *session) check(ctx context.Context) error {
	defer s.queue.close()
	system, err := strconv.ParseUint(s.cluster.SystemID, 10, 64)
	if err != nil {
		return fmt.Errorf("read system identifier: %w", err)
	}
	c := &checker{s: s, system: system}
	for {
		j, ok := s.work.take(ctx)
		if !ok {
			return nil
		}
		err := c.pass(ctx, j)
		s.queue.expect(-1)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
}

func (c *checker) pass(ctx context.Context, j job) error {
	var err error
	switch {
	case j.missing != wal.Segment{}:
		return c.heal(ctx, j.missing)
	case j.segment != wal.Segment{}:
		j.sum, err = c.scan(j.segment)
		if errors.Is(err, os.ErrNotExist) {
			return c.s.spool.RefuseFork() // else set aside because the line of history left before it
		}
		var corrupt *wal.CorruptError
		if errors.As(err, &corrupt) {
			return c.quarantine(ctx, j.segment, corrupt)
		}
		if err != nil {
			return err
		}
	}
	c.s.queue.add(j)
	return nil
}

// scan reads a complete segment after the one before it, which the spool keeps for this. A segment that ends before its
// end is as corrupt as one whose checksums fail.
func (c *checker) scan(seg wal.Segment) (wal.Summary, error) {
	before := wal.Segment{Timeline: seg.Timeline, Number: seg.Number - 1}
	if c.scanner == nil || c.last != before {
		c.scanner = c.newScanner(seg.Timeline)
		if _, err := c.read(before); err != nil {
			c.scanner = c.newScanner(seg.Timeline)
		}
	}
	sum, err := c.read(seg)
	if err != nil {
		c.scanner = nil
		return sum, err
	}
	c.last = seg
	return sum, nil
}

// newScanner gives one that also tells what transactions destroyed, for the index.
func (c *checker) newScanner(t wal.Timeline) *wal.Scanner {
	s := wal.NewScanner(c.s.cluster.SegmentSize, c.system, t)
	s.Follow(wal.FollowOptions{})
	return s
}

func (c *checker) read(seg wal.Segment) (wal.Summary, error) {
	f, err := c.s.spool.OpenSegment(seg)
	if err != nil {
		return wal.Summary{}, err
	}
	defer f.Close()
	sum, err := c.scanner.Segment(seg, f, nil)
	if end := seg.End(c.s.cluster.SegmentSize); err == nil && sum.End < end {
		err = &wal.CorruptError{LSN: sum.End, Why: "the WAL ends before its segment does"}
	}
	return sum, err
}

// quarantine puts a segment aside and has it fetched again.
func (c *checker) quarantine(ctx context.Context, seg wal.Segment, why *wal.CorruptError) error {
	name := seg.Name(c.s.cluster.SegmentSize)
	c.s.report.problem(aboutCheck, &state.Error{
		Code: state.CodeCorrupt,
		Text: fmt.Sprintf("segment %s was received and is damaged at %s (%s): it is kept in quarantine and fetched again", name, why.LSN, why.Why),
		Hint: "look at this machine's disk and memory",
	})
	if err := c.s.spool.Quarantine(seg); err != nil {
		return err
	}
	return c.heal(ctx, seg)
}
