package receive

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// indexEvery is how long new WAL may stay out of an archive's index.
const indexEvery = time.Hour

// errPush marks what went wrong with an unfinished segment. Other bytes in the archive are no fork yet: they may have been
// damaged here. The check of the whole segment, and its put, decide.
var errPush = errors.New("the segment is unfinished")

// uploader brings the queue, and between its jobs the unfinished segment, into one archive. It waits for nobody and
// nobody waits for it.
type uploader struct {
	s       *session
	archive Archive
	index   int
	wake    chan struct{}

	cluster  Cluster    // open; nil: not yet, or to be opened again
	packings []*packing // the segments that the queue begins with, one after another

	pushed    wal.LSN // of the unfinished segment pushedSeg
	pushedSeg wal.Segment
	pushedAt  time.Time
	unindexed map[wal.Timeline]bool // timelines that got WAL since indexedAt
	indexedAt time.Time
	lookedAt  time.Time // when the archive was asked last whether its hole is filled
}

func (u *uploader) nudge() {
	select {
	case u.wake <- struct{}{}:
	default:
	}
}

// run works until the queue is closed and done, or ctx ends. Only a fork is an error; all else is tried again.
func (u *uploader) run(ctx context.Context) error {
	defer u.dropPackings()
	retry := newBackoff()
	u.unindexed = map[wal.Timeline]bool{}
	u.indexedAt = time.Now()
	for ctx.Err() == nil {
		last, err := u.once(ctx)
		if err == nil {
			u.s.report.solved(aboutArchive(u.archive.Name))
			retry.worked()
			if last {
				return nil
			}
			continue
		}
		if ctx.Err() != nil {
			return nil
		}
		if state.CodeOf(err) == state.CodeFork && !errors.Is(err, errPush) {
			return err
		}
		u.s.report.problem(aboutArchive(u.archive.Name), err)
		u.reopen()
		if err := retry.wait(ctx); err != nil {
			return nil
		}
	}
	return nil
}

// once does the next job, or pushes the unfinished segment when it is time, or waits for either.
func (u *uploader) once(ctx context.Context) (last bool, err error) {
	c, err := u.open(ctx)
	if err != nil {
		return false, err
	}
	j, some, last := u.s.queue.next(u.index)
	if some {
		return false, u.do(ctx, c, j)
	}
	return u.rest(ctx, c, last)
}

// rest pushes the unfinished segment when it is time, writes indexes when it is, and otherwise waits.
func (u *uploader) rest(ctx context.Context, c Cluster, last bool) (bool, error) {
	if err := u.lookAtLack(ctx, c); err != nil {
		return false, err
	}
	tli, seg, upTo, demanded := u.s.tail.get()
	settled := u.s.queue.settled(u.index) // asked after the tail: what completed before it is then in the queue
	if settled && u.s.cluster.SegmentSize.Offset(upTo) == 0 && (seg == wal.Segment{} || upTo == seg.Start(u.s.cluster.SegmentSize)) {
		u.s.tail.reached(u.index, tli, upTo) // whole segments lie before it; in the middle of one only a push tells
	}
	wait := u.untilPush(time.Now(), seg, upTo, demanded, last)
	if wait <= 0 && u.s.tail.isParked() { // asked after the tail: it was parked before it moved
		wait = u.s.pushEvery()
	}
	if wait <= 0 {
		if _, err := u.push(ctx, c, seg, upTo); err != nil {
			return false, err
		}
		wait = u.s.pushEvery()
	}
	if settled && seg == u.pushedSeg {
		u.s.tail.reached(u.index, tli, min(u.pushed, upTo))
	}
	u.s.report.archived(u.s.tail)
	u.writeIndexes(ctx, c, last)
	if !last {
		u.sleep(ctx, wait)
	}
	return last, nil
}

func (u *uploader) sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-u.wake:
	case <-t.C:
	}
}

// open gives the cluster, opening the repository when needed.
func (u *uploader) open(ctx context.Context) (Cluster, error) {
	if u.cluster != nil {
		return u.cluster, nil
	}
	c, err := u.archive.Open(ctx, u.s.cluster)
	if err != nil {
		return nil, fmt.Errorf("open repository %s: %w", u.archive.Name, err)
	}
	u.cluster = c
	return c, nil
}

func (u *uploader) reopen() {
	u.dropPackings()
	u.cluster = nil
}

// do puts one job into the archive and counts it.
func (u *uploader) do(ctx context.Context, c Cluster, j job) error {
	reached, err := u.put(ctx, c, j)
	if err != nil {
		return err
	}
	u.s.tail.reached(u.index, j.timeline(), reached)
	u.s.report.archived(u.s.tail)
	for _, done := range u.s.queue.done(u.index) {
		if err := u.s.retire(done); err != nil {
			u.s.report.problem(aboutSpool, err)
		}
	}
	return nil
}

// put gives how far the archive reaches by it.
func (u *uploader) put(ctx context.Context, c Cluster, j job) (wal.LSN, error) {
	switch {
	case j.history > 0:
		content, err := u.s.spool.History(j.history)
		if err != nil {
			return 0, err
		}
		return 0, u.named("archive "+j.history.HistoryName(), c.PutHistory(ctx, j.history, content))
	case j.gap != nil:
		return 0, u.named("record gap "+j.gap.Range.String(), c.RecordGap(ctx, *j.gap))
	case j.ended != nil:
		pushed, err := u.push(ctx, c, j.ended.segment, j.ended.upTo)
		if !pushed {
			return 0, err // it is not in the spool any more, and nobody says that the archive has it
		}
		u.unindexed[j.ended.segment.Timeline] = true
		u.writeIndexes(ctx, c, true)
		return j.ended.upTo, nil
	default:
		return u.putSegment(ctx, c, j)
	}
}

// named says which repository an error is of.
func (u *uploader) named(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s in repository %s: %w", doing, u.archive.Name, err)
}

// untilPush tells how long the unfinished segment may still wait; at most 0: push it now.
func (u *uploader) untilPush(now time.Time, seg wal.Segment, upTo, demanded wal.LSN, last bool) time.Duration {
	z := u.s.cluster.SegmentSize
	if seg == (wal.Segment{}) || upTo == seg.Start(z) || seg == u.pushedSeg && upTo <= u.pushed {
		return u.s.pushEvery()
	}
	if last || seg == u.pushedSeg && demanded > u.pushed || seg != u.pushedSeg && demanded > seg.Start(z) {
		return 0
	}
	return u.pushedAt.Add(u.s.pushEvery()).Sub(now)
}

// pushEvery is a second when commits wait for it. Big segments are pushed more rarely: each push is the segment's whole
// beginning.
func (s *session) pushEvery() time.Duration {
	if s.o.Acknowledge == Repository {
		return time.Second
	}
	return s.o.PushEvery * time.Duration(max(1, s.cluster.SegmentSize/maxPushSegment))
}

// push puts the beginning of an unfinished segment; false without an error: the spool has it no longer as such.
func (u *uploader) push(ctx context.Context, c Cluster, seg wal.Segment, upTo wal.LSN) (bool, error) {
	f, err := u.s.spool.OpenPartial(seg)
	if errors.Is(err, os.ErrNotExist) {
		u.pushedAt = time.Now() // completed meanwhile: it comes through the queue, and only then is it held
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	name := fmt.Sprintf("push segment %s up to %s", seg.Name(u.s.cluster.SegmentSize), upTo)
	if err := u.named(name, c.PutPartial(ctx, seg, upTo, f)); err != nil {
		return false, errors.Join(err, errPush)
	}
	u.pushedSeg, u.pushed, u.pushedAt = seg, upTo, time.Now()
	return true, nil
}

// writeIndexes brings the archive's index up to date: hourly, at a timeline's end, and when the receiver stops. An index
// only makes finding faster, so that a failure is told and does not hold up WAL.
func (u *uploader) writeIndexes(ctx context.Context, c Cluster, now bool) {
	if !now && time.Since(u.indexedAt) < indexEvery {
		return
	}
	u.indexedAt = time.Now()
	for t := range u.unindexed {
		if err := c.WriteIndex(ctx, t); err != nil {
			u.s.o.Log.Warn("the index of archived WAL could not be written", "server", u.s.o.Server, "repository", u.archive.Name, "timeline", t, "error", err)
			continue
		}
		delete(u.unindexed, t)
	}
}

// retire lets the spool forget what every archive holds.
func (s *session) retire(j job) error {
	switch {
	case j.gap != nil:
		s.report.solved(aboutGap) // the repositories tell of it from here on, also once a new backup has healed it
		return s.forgetGaps(j.gap.Range)
	case j.ended != nil:
		return s.spool.DoneEnded(j.ended.segment)
	case j.segment != wal.Segment{}:
		return errors.Join(s.spool.Done(j.segment), s.forgetGaps())
	default:
		return nil // history files stay: they tell whose WAL this is
	}
}

// archived tells how far every archive reaches.
func (r *reporter) archived(t *tail) {
	held := t.held(len(r.o.Archives))
	news := false
	r.update(func(s *state.Receiver) {
		news = held != s.Archived && time.Now().Before(r.eager)
		s.Archived = held
	})
	if news {
		r.wake()
	}
}
