package recovery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/host"
	"github.com/pgkeep/pgkeep/state/wal"
)

const (
	startName = "start.json"
	startLog  = "server.log"
	pollEvery = 100 * time.Millisecond
	stopWait  = time.Minute // how long an interrupted Start waits for the server to shut down
)

// LogFile gives where a server that Start started in a data directory writes its log.
func LogFile(dataDir string) string { return filepath.Join(stateDir(dataDir), startLog) }

// StartOptions say which restored server to start.
type StartOptions struct {
	Route  plan.Route // as it was restored
	Major  int        // version of the cluster
	Now    func() time.Time
	Report func(Replay) // several times a second; nil: nobody listens
	// Roles are tried, each once, to ask the copy itself how far it is, for Report; none: only its log tells. It may not answer.
	Roles []string
	// Checks are asked of the server when it has reached the target, in a transaction that only reads, as the first of Roles that
	// it lets in.
	Checks []hclspec.Check
}

// started is start.json: the server that was started beside it.
type started struct {
	Version int       `json:"version"`
	Route   string    `json:"route"` // digest of the whole route
	PID     int       `json:"pid"`
	Began   time.Time `json:"began"`
	Reached *Reached  `json:"reached,omitempty"` // nil: not yet, as far as anybody looked
	// Passed are pages without content that earlier starts replayed WAL past, one of each database.
	Passed map[uint32]string `json:"passed_over,omitempty"`
	// Plan is the route itself: a recovery to the latest moment that is planned again ends at a later one.
	Plan plan.Route `json:"plan"`
}

// Start starts PostgreSQL in a directory that was restored for the route, and returns when recovery has reached the
// target: paused there, promoted, or shut down there. A server that an interrupted Start left on its way is waited for. It
// is started by the programs of the destination, as the owner, and outlives this process.
//
// What tells where recovery ended is PostgreSQL's log, and for a recovery to the end of the WAL the WAL itself: the last
// record that was replayed must be the last that there is. state.CodeMissed is the error when recovery ended elsewhere
// than the target, or broke off; the text holds what the log says of it. When ctx ends the server is shut down, and the
// error says how far it had come: the next Start goes on from there.
//
// That a check is answered otherwise than it must be is no error: Reached.Unmet says so.
func Start(ctx context.Context, o StartOptions) (Reached, Evidence, error) {
	s := &starting{StartOptions: o, dir: o.Route.Destination.Path, evidence: Evidence{
		Server: o.Route.Server, SystemID: o.Route.SystemID, Backup: o.Route.Backup, Path: o.Route.Destination.Path,
		Target: targetText(o.Route), Began: o.Now().UTC(),
	}}
	s.log.path = LogFile(s.dir)
	if err := s.begin(ctx); err != nil {
		return Reached{}, s.evidence, err
	}
	reached, err := s.await(ctx)
	s.asking.stop()
	if err != nil {
		return reached, s.evidence, err
	}
	s.evidence.Ended = o.Now().UTC() // what is asked then is no part of the recovery
	if reached.Checks, err = s.answers(ctx); err != nil {
		return reached, s.evidence, err
	}
	s.record.Reached = &reached
	if err := s.write(); err != nil {
		return reached, s.evidence, err
	}
	s.evidence.Reached, s.evidence.Phases = &reached, s.phases()
	return reached, s.evidence, nil
}

// watch notes when replay began and ended, as far as the log has told by now.
func (s *starting) watch() {
	l := &s.log.log
	if s.replays.IsZero() && (l.at != 0 || l.segments > 0) {
		s.replays = s.Now()
	}
	if s.replayed.IsZero() && l.redo != 0 {
		s.replayed = s.Now()
	}
}

// phases tells what is the same for every recovery, starting and promoting, from what grows with the WAL. Where the log does
// not tell them apart all of it counts as replay.
func (s *starting) phases() []Phase {
	all := s.evidence.Ended.Sub(s.evidence.Began).Seconds()
	if s.replays.IsZero() || s.replayed.IsZero() {
		return []Phase{{Name: "replay", Seconds: all, Bytes: s.Route.WALBytes}}
	}
	replay := max(s.replayed.Sub(s.replays), pollEvery).Seconds() // it is not known closer
	return []Phase{{Name: "start", Seconds: max(all-replay, 0)}, {Name: "replay", Seconds: replay, Bytes: s.Route.WALBytes}}
}

// Started gives where the server that was started for this very route reached its target; nil: none has, or not yet.
func Started(route plan.Route) (*Reached, error) {
	r, err := readStarted(route.Destination.Path)
	if err != nil || r == nil || r.Route != routeDigest(route) {
		return nil, err
	}
	return r.Reached, nil
}

// Unfinished gives the route of a start on its way in the route's directory, when it is of the same recovery (server,
// target, destination) and has not reached its target, or gave a wrong answer there: Start goes on with that one, whatever later end of the WAL, or
// newer backup, a plan finds by now. nil: there is none.
func Unfinished(route plan.Route) (*plan.Route, error) {
	r, err := readStarted(route.Destination.Path)
	if err != nil || r == nil || r.Reached != nil && r.Reached.Unmet() == "" || r.Route != routeDigest(r.Plan) || r.Plan.SystemID != route.SystemID || r.Plan.Request() != route.Request() {
		return nil, err
	}
	if there, err := Restored(r.Plan); err != nil || !there {
		return nil, err
	}
	return &r.Plan, nil
}

// Ours tells whether the server that runs in the route's directory is one that Start started for it.
func Ours(route plan.Route) (bool, error) {
	r, err := readStarted(route.Destination.Path)
	if err != nil || r == nil || r.Route != routeDigest(route) {
		return false, err
	}
	pid, err := host.Postmaster(route.Destination.Path)
	return pid != 0 && pid == r.PID, err
}

// stillWanted tells whether what was restored for a route, and written to since, is what a start for the same route made: on
// its way, at its end there, or running.
func stillWanted(route plan.Route) (bool, error) {
	s, err := readStarted(route.Destination.Path)
	if err != nil || s == nil || s.Route != routeDigest(route) {
		return false, err
	}
	if s.Reached == nil || s.Reached.Outcome == AtShutdown {
		return true, nil
	}
	pid, err := host.Postmaster(route.Destination.Path)
	return pid != 0, err
}

func readStarted(dir string) (*started, error) {
	b, err := os.ReadFile(filepath.Join(stateDir(dir), startName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", startName, err)
	}
	var r started
	if err := json.Unmarshal(b, &r); err != nil || r.Version != 1 {
		return nil, refuse("remove it; the server is then started anew", "%s in %s cannot be read", startName, stateDir(dir))
	}
	return &r, nil
}

// starting is one Start on its way.
type starting struct {
	StartOptions
	dir      string
	owner    host.Owner
	server   *postmaster
	record   started
	log      logFollower
	evidence Evidence
	pace     pace
	asking   *asking   // nil: nobody asks the copy
	replays  time.Time // when replay was first seen; zero: not yet
	replayed time.Time // when it was seen to have ended
}

// begin starts the server, or finds the one that an earlier call left.
func (s *starting) begin(ctx context.Context) error {
	ours, err := Ours(s.Route)
	if err != nil {
		return err
	}
	if ours {
		r, err := readStarted(s.dir)
		if err != nil {
			return err
		}
		s.record, s.server = *r, &postmaster{pid: r.PID, dir: s.dir}
		s.log.log.invalids = r.Passed
		return nil
	}
	pid, err := host.Postmaster(s.dir)
	if err != nil {
		return err
	}
	if pid != 0 {
		return refuse("stop it, or ask that server how far it is", "a PostgreSQL server runs in %s already, process %d, and it was not started by this recovery", s.dir, pid)
	}
	if s.owner, err = host.LookupOwner(s.Route.Destination.Owner); err != nil {
		return refuse("create the user, or name another with owner", "the owner of the restored files: %s", err)
	}
	if _, err := os.Lstat(filepath.Join(s.dir, "recovery.signal")); errors.Is(err, fs.ErrNotExist) {
		return refuse("pg_ctl -D "+s.dir+" start, or restore into another directory", "the recovery in %s has ended already, and nothing tells that it was at the target", s.dir)
	}
	binDir, err := Startable(ctx, s.Route.Destination, s.Major)
	if err != nil {
		return err
	}
	if err := s.passedBefore(); err != nil {
		return err
	}
	if s.server, err = launch(ctx, s.dir, binDir, s.owner, s.Major); err != nil {
		return err
	}
	s.record = started{Version: 1, Route: routeDigest(s.Route), PID: s.server.pid, Began: s.Now().UTC(), Plan: s.Route, Passed: s.log.log.invalids}
	return s.write()
}

// write puts start.json beside the data directory, durably.
func (s *starting) write() error {
	root, err := os.OpenRoot(stateDir(s.dir))
	if err != nil {
		return fmt.Errorf("write %s: %w", startName, err)
	}
	defer root.Close()
	b, err := json.MarshalIndent(s.record, "", "  ")
	if err != nil {
		return err
	}
	owner := &restore{owner: s.owner}
	if s.owner.UID == 0 { // a server that was found: the file has its owner already, and keeps the directory's
		if owner.owner, err = host.LookupOwner(s.Route.Destination.Owner); err != nil {
			return err
		}
	}
	return owner.replace(root, startName, append(b, '\n'))
}

// await follows the log until recovery has come to an end.
func (s *starting) await(ctx context.Context) (Reached, error) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		ended := s.server.ended() // before the log is read: what it wrote until then is read
		if err := s.log.read(); err != nil {
			return Reached{}, err
		}
		s.watch()
		s.report(ctx)
		l := &s.log.log
		switch {
		case l.atRest() && (!l.stoppedThere || ended):
			return s.verdict(ctx)
		case ended:
			return Reached{}, s.brokeOff()
		case l.pausedEarly && !l.paused:
			return Reached{}, s.missed(fmt.Sprintf("recovery paused before the target; the server, process %d, runs and can be read", s.server.pid), l.reasons())
		}
		select {
		case <-ctx.Done():
			return s.interrupted(ctx)
		case <-tick.C:
		}
	}
}

// verdict compares where recovery ended with where it was to end.
func (s *starting) verdict(ctx context.Context) (Reached, error) {
	l := &s.log.log
	r, why := l.judge(&s.Route)
	if why == "" && (s.Route.AtEnd || s.Route.Target.Latest) {
		var err error
		if why, err = s.unreplayed(ctx, l.redo); err != nil && ctx.Err() != nil {
			text := fmt.Sprintf("interrupted; the server in %s, process %d, has ended recovery and runs, and whether that was all WAL was not looked at: the same command looks", s.dir, s.server.pid)
			return r, &leftRunning{text: text, err: errors.Join(ctx.Err(), context.Cause(ctx))}
		}
		if err != nil {
			return r, s.missed("it cannot be told whether all WAL was replayed", err.Error())
		}
	}
	if why != "" {
		return r, s.missed("recovery ended elsewhere than the target: "+why, l.reasons())
	}
	page, err := s.passedOver()
	if err == nil && page != "" {
		err = s.missed("recovery passed over a page of a database that was restored, which is not whole: "+page, "")
	}
	if err != nil {
		return r, err
	}
	return r, nil
}

func (s *starting) missed(text, reasons string) error {
	if reasons != "" {
		text += "\n" + reasons
	}
	return missed(s.log.path, text, nil)
}

// brokeOff says why a server ended before its target. One that never began to recover did not miss it: it did not start.
func (s *starting) brokeOff() error {
	l := &s.log.log
	why := l.reasons()
	if why == "" {
		why = tailOf(s.log.path, 10)
	}
	if l.at == 0 && l.segments == 0 {
		return &state.Error{Code: state.CodeDestination, Text: "the restored server did not start:\n" + why, Hint: "its log is " + s.log.path + "; mend what it says (a port: in " + filepath.Join(s.dir, autoConf) + ") and run the same command again"}
	}
	text := fmt.Sprintf("recovery broke off%s, short of the target, and the server has ended; nothing is lost: the same command goes on from there", l.where())
	return s.missed(text, why)
}

// where says how far recovery has come; empty: it is not known.
func (l *serverLog) where() string {
	switch {
	case l.segment != "":
		return " in segment " + l.segment
	case l.at != 0:
		return " behind " + l.at.String()
	}
	return ""
}

// interrupted shuts the server down, so that it is known what is left: nothing that runs.
func (s *starting) interrupted(ctx context.Context) (Reached, error) {
	cause := context.Cause(ctx)
	stopped := s.server.stop(stopWait)
	if err := s.log.read(); err != nil {
		return Reached{}, errors.Join(err, cause)
	}
	l := &s.log.log
	text := fmt.Sprintf("interrupted; the server in %s was shut down%s, before its target: the same command goes on from there", s.dir, l.where())
	if !stopped {
		text = fmt.Sprintf("interrupted; the server in %s, process %d, was asked to shut down and has not yet; the same command goes on", s.dir, s.server.pid)
	}
	return Reached{}, &leftRunning{text: text, err: errors.Join(ctx.Err(), cause)}
}

// unreplayed says which WAL of the route was not replayed by a server whose last record began at last; empty: none. It
// reads what restore_command would have served, from the segment of that record on.
func (s *starting) unreplayed(ctx context.Context, last wal.LSN) (string, error) {
	if last == 0 {
		return "the log does not say up to where it replayed", nil
	}
	route, err := readRoute(RouteFile(s.dir))
	if err != nil {
		return "", err
	}
	later, err := route.recordAfter(ctx, last, stateDir(s.dir))
	if err != nil || later == 0 {
		return "", err
	}
	return fmt.Sprintf("the last record that was replayed began at %s, and the WAL goes on with one at %s", last, later), nil
}
