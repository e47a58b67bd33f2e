package receive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/spool"
	"github.com/pgkeep/pgkeep/state/wal"
)

// begin is where a stream begins.
type begin struct {
	timeline wal.Timeline
	from     wal.LSN
	durable  wal.LSN // what we hold on this timeline; at least from
}

// whereToBegin compares what we hold with the line of history that the server is on. next is set when the timeline
// before has just ended.
func (s *session) whereToBegin(ctx context.Context, conn connection, sys postgres.System, next *begin) (begin, error) {
	s.start.flushAt = sys.FlushLSN
	line, err := s.keepHistories(ctx, conn, sys.Timeline)
	if err != nil {
		return begin{}, err
	}
	p := s.spool.Position()
	if p.Timeline > sys.Timeline { // whether that server has a slot of ours is of no matter
		return begin{}, s.stayOnLine(p, sys, line)
	}
	slot, err := s.slot(ctx, sys)
	if err != nil {
		return begin{}, err
	}
	if p.Timeline != 0 {
		s.start.held = true
		if err := s.stayOnLine(p, sys, line); err != nil {
			return begin{}, err
		}
	}
	if next != nil && next.timeline > p.Timeline {
		next.durable = next.from
		return *next, nil
	}
	b, left, err := s.beginWhereLeft(line)
	if left || err != nil {
		return b, err
	}
	p = s.spool.Position()
	if b := s.start.unread; p.Timeline == 0 && b.timeline != 0 {
		return b, s.stayOnLine(spool.Position{Timeline: b.timeline, Durable: b.from}, sys, line)
	}
	if p.Timeline == 0 {
		return s.beginAtSlot(slot, sys, line)
	}
	return begin{timeline: p.Timeline, from: p.Resume, durable: p.Durable}, nil
}

// beginWhereLeft begins with the timeline that follows the one which GoBack left, at the segment that holds the switch,
// where the spool has nothing that reaches up to there: what lay before was archived and removed, or is still on its way.
func (s *session) beginWhereLeft(line wal.History) (b begin, left bool, err error) {
	t, err := s.spool.Left()
	p := s.spool.Position()
	if err != nil || t == 0 || p.Timeline > t {
		return b, false, err
	}
	for i, parent := range line.Parents {
		if parent.Timeline != t {
			continue
		}
		from := s.cluster.SegmentSize.Floor(parent.Switch)
		if p.Timeline == t && p.Durable >= from {
			return b, false, nil
		}
		next := line.Timeline
		if i+1 < len(line.Parents) {
			next = line.Parents[i+1].Timeline
		}
		return begin{timeline: next, from: from, durable: from}, true, nil
	}
	if p.Timeline != 0 {
		return b, false, nil
	}
	return b, false, &state.Error{
		Code: state.CodeIdentity,
		Text: fmt.Sprintf("timeline %d of the server does not descend from timeline %d, whose end is under diverged", line.Timeline, t),
		Hint: "let the conninfo lead to the promoted server",
	}
}

// beginAtSlot begins at the segment that the slot keeps, when neither the spool nor any archive ever held WAL of this
// cluster: before it nothing was ever ours, so nothing is lost.
func (s *session) beginAtSlot(slot *state.Slot, sys postgres.System, line wal.History) (begin, error) {
	if s.start.held || !s.start.asked {
		s.start.tried = false
		return begin{}, &state.Error{
			Code: state.CodeIO,
			Text: fmt.Sprintf("the spool %s held WAL and now holds none: that is no first start; the repositories are asked where to go on", s.spool.Dir()),
			Hint: "look at what is under quarantine and diverged in the spool",
		}
	}
	at := slot.RestartLSN
	if at == 0 {
		at = sys.FlushLSN
	}
	t := sys.Timeline
	if t > 1 {
		t = line.TimelineAt(at)
	}
	from := s.cluster.SegmentSize.Floor(at)
	return begin{timeline: t, from: from, durable: from}, nil
}

// refuseStranger refuses a server whose line of history left ours: before its history is kept, which would stand in the
// way of the right server's, and before a slot is made there, which would keep WAL that nobody fetches. One that is on an
// older timeline than ours is none: it stayed behind.
func (s *session) refuseStranger(line wal.History) error {
	held, err := s.heldTimeline()
	if err != nil || held == 0 || held >= line.Timeline || slices.ContainsFunc(line.Parents, func(l wal.HistoryLine) bool { return l.Timeline == held }) {
		return err
	}
	return &state.Error{
		Code: state.CodeIdentity,
		Text: fmt.Sprintf("timeline %d of the server does not descend from timeline %d, the newest that was received", line.Timeline, held),
		Hint: "two servers were promoted from one; let the conninfo lead to the right one, and delete nothing before that is found out",
	}
}

// keepHistories fetches the histories of the server's timeline and of those before it, keeps them, and hands new ones to
// the archives: they get a timeline's history before its WAL.
func (s *session) keepHistories(ctx context.Context, conn connection, t wal.Timeline) (wal.History, error) {
	line := wal.History{Timeline: t}
	if t <= 1 {
		return line, nil
	}
	content, err := conn.TimelineHistory(ctx, t)
	if err != nil {
		return line, err
	}
	if line, err = wal.ParseHistory(t, content); err != nil {
		return line, &state.Error{Code: state.CodeCorrupt, Text: "the server's " + t.HistoryName() + " cannot be read", Err: err}
	}
	if err := s.refuseStranger(line); err != nil {
		return line, err
	}
	for _, parent := range line.Parents {
		if parent.Timeline <= 1 {
			continue
		}
		if err := s.keepParent(ctx, conn, parent.Timeline, line); err != nil {
			return line, err
		}
	}
	return line, s.keepHistory(t, content)
}

func (s *session) keepHistory(t wal.Timeline, content []byte) error {
	if _, err := s.spool.History(t); err == nil {
		return s.spool.PutHistory(t, content) // compares
	}
	if err := s.spool.PutHistory(t, content); err != nil {
		return err
	}
	s.found(job{history: t})
	return nil
}

// keepParent keeps the history of a timeline in between. Its lines stand in its descendant's too, so that a server which
// no longer has the file loses nothing, and that one which we hold is another's is seen: that is a fork, as everywhere.
func (s *session) keepParent(ctx context.Context, conn connection, t wal.Timeline, line wal.History) error {
	content, err := s.spool.History(t)
	if err == nil {
		return s.sameLine(t, content, line)
	}
	if content, err = conn.TimelineHistory(ctx, t); err == nil {
		err = s.keepHistory(t, content)
	}
	if state.CodeOf(err) == state.CodeFork {
		return err
	}
	if err != nil {
		s.o.Log.Info("the history of a timeline in between was not kept", "server", s.o.Server, "timeline", t, "error", err)
	}
	return nil
}

// sameLine tells whether the history that we hold of timeline t is how the server's line of history came to t.
func (s *session) sameLine(t wal.Timeline, content []byte, line wal.History) error {
	ours, err := wal.ParseHistory(t, content)
	if err != nil {
		return fmt.Errorf("read %s of the spool: %w", t.HistoryName(), err)
	}
	same := func(a, b wal.HistoryLine) bool { return a.Timeline == b.Timeline && a.Switch == b.Switch }
	i := slices.IndexFunc(line.Parents, func(l wal.HistoryLine) bool { return l.Timeline == t })
	n := min(len(ours.Parents), max(i, 0)) // a server that lacked old history files wrote a shorter one
	if i >= 0 && slices.EqualFunc(ours.Parents[len(ours.Parents)-n:], line.Parents[i-n:i], same) {
		return nil
	}
	return &state.Error{
		Code: state.CodeFork,
		Text: fmt.Sprintf("the server's timeline %d comes from another timeline %d than the one whose history is in %s", line.Timeline, t, s.spool.Dir()),
		Hint: "two servers were promoted to the same timeline; find out which is the right one before anything is deleted",
	}
}

// stayOnLine refuses a server that does not descend from what we hold, and goes back to the switch point where we hold
// more of the old timeline than the promoted server had.
func (s *session) stayOnLine(p spool.Position, sys postgres.System, line wal.History) error {
	if p.Timeline == sys.Timeline {
		if p.Durable <= sys.FlushLSN {
			return nil
		}
		return &state.Error{
			Code: state.CodeAhead,
			Text: fmt.Sprintf("the server has timeline %d up to %s, we hold it up to %s: nothing is received from it before it has caught up", sys.Timeline, sys.FlushLSN, p.Durable),
			Hint: "a standby may lag; a primary that lost WAL is not the server that it was",
		}
	}
	if p.Timeline > sys.Timeline {
		return &state.Error{
			Code: state.CodeIdentity,
			Text: fmt.Sprintf("the server is on timeline %d, we hold timeline %d: it did not take part in the promotion", sys.Timeline, p.Timeline),
			Hint: "let the conninfo lead to the promoted server, or make this one its standby",
		}
	}
	for _, parent := range line.Parents {
		if parent.Timeline != p.Timeline {
			continue
		}
		if p.Durable > parent.Switch {
			return s.goBack(p, parent.Switch, sys.Timeline)
		}
		return nil
	}
	return &state.Error{
		Code: state.CodeIdentity,
		Text: fmt.Sprintf("timeline %d of the server does not descend from timeline %d, which we hold up to %s", sys.Timeline, p.Timeline, p.Durable),
		Hint: "two servers were promoted from one; find out which is the right one before anything is deleted",
	}
}

func (s *session) goBack(p spool.Position, at wal.LSN, to wal.Timeline) error {
	aside, err := s.spool.GoBack(p.Timeline, at)
	if err != nil {
		return err
	}
	s.tail.back(p.Timeline, at)
	s.start.passed = nil
	s.start.asked = false // what the archives said before is of the line that was left
	s.o.Log.Warn("the promoted server did not have the end of the WAL that was received; it is kept under diverged",
		"server", s.o.Server, "timeline", p.Timeline, "received", p.Durable, "switch", at, "new_timeline", to, "files", aside)
	return nil
}

// askArchives finds whether an archive reaches further than the spool, as after a move to another machine, and then lets
// the spool begin there. An empty spool needs every archive's answer: else we could take for a first start what is none.
// With a spool that holds WAL the archives are given a moment once, so that a dead one holds up no commit; they are asked
// again only before a gap is declared.
//
// Where archives reach differently far, the stream begins where the last of them ends, so that it gets from the server
// what it lacks; only once the server has refused that, it begins where the furthest ends, and what the others lack stays
// unacknowledged there.
func (s *session) askArchives(ctx context.Context, limit time.Duration) error {
	empty := s.spool.Position().Timeline == 0
	if empty {
		limit = s.o.Timeout
	}
	all, err := s.answersOf(ctx, limit)
	if err != nil && empty {
		return fmt.Errorf("ask where to go on: %w", err)
	}
	best := furthest(all)
	from := best
	if s.start.gone == nil {
		from = least(all)
	}
	if s.isFurther(from.newest) && (err == nil || s.start.gone != nil) {
		if err := s.seed(ctx, from, all); err != nil {
			return err
		}
	}
	s.start.tried = true
	s.start.asked = err == nil && (from.newest == best.newest || !s.isFurther(best.newest))
	return nil
}

// isFurther tells whether what an archive holds reaches further than the spool, on the line of history that we follow. What the spool has
// and cannot check counts: it may be all that there is.
func (s *session) isFurther(n wal.Range) bool {
	p := s.spool.Position()
	return !n.Empty() && !s.tail.leaves(n.Timeline, n.To) && after(n, wal.Range{Timeline: p.Timeline, To: max(p.Durable, p.Unchecked)})
}

// askBriefly bounds how long a start waits for the archives when the spool tells where to go on.
const askBriefly = 2 * time.Second

// answersOf asks all archives at once. The error is the first archive's that did not answer; the answers of the others
// come all the same.
func (s *session) answersOf(ctx context.Context, limit time.Duration) ([]answer, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	answers := make(chan answer, len(s.uploads)) // an archive on a dead mount may hear of ctx late
	for _, u := range s.uploads {
		go func() { answers <- u.furthest(ctx) }()
	}
	var all []answer
	missing := map[string]bool{}
	for _, u := range s.uploads {
		missing[u.archive.Name] = true
	}
	var failed error
	for range s.uploads {
		select {
		case a := <-answers:
			delete(missing, a.name)
			failed = cmp.Or(failed, a.err)
			if a.err == nil {
				all = append(all, a)
			}
		case <-ctx.Done():
			names := slices.Sorted(maps.Keys(missing))
			return all, cmp.Or(failed, fmt.Errorf("repositories %v do not answer: %w", names, ctx.Err()))
		}
	}
	return all, failed
}

// answer is how far one archive reaches.
type answer struct {
	name    string
	cluster Cluster
	newest  wal.Range // its To is the end, partials included; empty: it holds nothing
	err     error
}

// furthest asks with a handle of its own: the uploader's may be stuck.
func (u *uploader) furthest(ctx context.Context) answer {
	a := answer{name: u.archive.Name}
	a.cluster, a.err = u.archive.Open(ctx, u.s.cluster)
	if a.err != nil {
		a.err = u.named("open the archive", a.err)
		return a
	}
	ranges, err := a.cluster.WALRanges(ctx)
	a.err = u.named("list archived WAL", err)
	for _, r := range ranges {
		end := wal.Range{Timeline: r.Timeline, From: r.From, To: max(r.To, r.Partial)}
		if end.Timeline > a.newest.Timeline || end.Timeline == a.newest.Timeline && end.To > a.newest.To {
			a.newest = end
		}
	}
	return a
}

// seed puts the segment where an archive's WAL ends into the spool: the stream then goes on from there, and what comes
// again is compared with it.
func (s *session) seed(ctx context.Context, a answer, all []answer) error {
	z := s.cluster.SegmentSize
	seg := z.SegmentAt(a.newest.Timeline, a.newest.To-1)
	s.o.Log.Info("a repository reaches further than the spool: the stream goes on from there", "server", s.o.Server, "timeline", seg.Timeline, "position", a.newest.To)
	if a.newest.To == seg.End(z) {
		r, err := a.cluster.OpenSegment(ctx, seg)
		if err == nil {
			defer r.Close()
			if err := s.passOver(all, seg.Timeline, seg.End(z)); err != nil {
				return err
			}
			return s.spool.Seed(seg, a.newest.To, r)
		}
		if state.CodeOf(err) == state.CodeNoKey {
			return s.beginUnread(all, begin{timeline: seg.Timeline, from: seg.End(z)})
		}
		if !errors.Is(err, store.ErrNotExist) {
			return fmt.Errorf("read segment %s from a repository: %w", seg.Name(z), err)
		}
	}
	r, upTo, err := a.cluster.OpenPartial(ctx, seg)
	if state.CodeOf(err) == state.CodeNoKey {
		return s.beginUnread(all, begin{timeline: seg.Timeline, from: seg.Start(z)})
	}
	if err != nil {
		return fmt.Errorf("read unfinished segment %s from a repository: %w", seg.Name(z), err)
	}
	defer r.Close()
	if err := s.passOver(all, seg.Timeline, seg.Start(z)); err != nil {
		return err
	}
	return s.spool.Seed(seg, upTo, r)
}

// beginUnread notes where an archive's WAL ends that cannot be decrypted here, at a border of segments: the stream begins there with an empty
// spool, and what comes again of an unfinished segment is archived again.
func (s *session) beginUnread(all []answer, b begin) error {
	b.durable = b.from
	s.start.unread = b
	s.o.Log.Info("what a repository holds cannot be read here: the stream begins where it ends, and nothing is put into the spool beforehand",
		"server", s.o.Server, "timeline", b.timeline, "position", b.from)
	return s.passOver(all, b.timeline, b.from)
}
