package recovery

import (
	"context"
	"time"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state/wal"
)

// Replay is how far a started server is on its way to the target.
type Replay struct {
	Done, Total int64         // bytes of WAL of the route
	LSN         wal.LSN       // of the WAL that is replayed, as near as it can be told; zero: not known yet. It never falls
	Commit      time.Time     // when the last transaction that was replayed ended; zero: it is not known
	Rate        float64       // bytes of WAL a second, the mean since replay was first seen; zero: it is not known
	Left        time.Duration // to the end of the route at that rate; zero: it is not known
}

// report tells how far the server is. What decides where recovery ended is its log; what the server answers only refines this.
func (s *starting) report(ctx context.Context) {
	if s.Report == nil {
		return
	}
	if s.asking == nil && s.log.log.readOnly && len(s.Roles) > 0 {
		s.asking = ask(ctx, s.copyAt(), s.Roles)
	}
	said := s.asking.last()
	if lsn := s.log.log.replayedTo(s.Route.SegmentSize); said.lsn == 0 || s.log.log.redo > said.lsn {
		said.lsn = lsn
	}
	if !s.log.log.last.IsZero() {
		said.commit = s.log.log.last
	}
	now := s.Now()
	if !s.replayed.IsZero() {
		now = s.replayed // the rate of what is over does not fall
	}
	s.pace.see(said, now)
	s.Report(s.pace.replay(&s.Route, now))
}

// replayedTo gives up to where the log says that WAL was replayed; zero: it does not.
func (l *serverLog) replayedTo(size wal.SegmentSize) wal.LSN {
	seg, err := wal.ParseSegmentName(l.behind, size)
	if err != nil {
		return l.at
	}
	return max(l.at, seg.Start(size))
}

// position is how far replay was at some moment. Its zero value: not known.
type position struct {
	lsn    wal.LSN
	commit time.Time // of the last transaction
}

// pace measures how fast WAL is replayed, from where it was first seen: a server that was found had come some way by then.
type pace struct {
	at    position
	first wal.LSN
	since time.Time // when it was at first
}

// see takes in where replay is. No position is behind one before: the log and the server tell with different delays.
func (p *pace) see(at position, now time.Time) {
	if p.first == 0 && at.lsn != 0 {
		p.first, p.since = at.lsn, now
	}
	p.at.lsn = max(p.at.lsn, at.lsn)
	if !at.commit.IsZero() {
		p.at.commit = at.commit
	}
}

// longest is the most time left that is told: what would take longer stands still.
const longest = 365 * 24 * time.Hour

func (p *pace) replay(route *plan.Route, now time.Time) Replay {
	r := Replay{Total: route.WALBytes, LSN: p.at.lsn, Commit: p.at.commit}
	if p.at.lsn == 0 {
		return r
	}
	if len(route.Path) > 0 {
		r.Done = min(max(int64(p.at.lsn)-int64(route.SegmentSize.Floor(route.Path[0].From)), 0), r.Total)
	}
	if took := now.Sub(p.since); took >= pollEvery { // it is not known closer
		r.Rate = float64(p.at.lsn-p.first) / took.Seconds()
	}
	if r.Rate > 0 && route.End > p.at.lsn {
		if seconds := float64(route.End-p.at.lsn) / r.Rate; seconds < longest.Seconds() {
			r.Left = time.Duration(seconds * float64(time.Second))
		}
	}
	return r
}
