package recovery

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/wal"
)

// The exit codes of wal-get.
const (
	ExitGot    = 0
	ExitAbsent = 10
	ExitFailed = 255
)

// WALGetOptions are the arguments of wal-get.
type WALGetOptions struct {
	Route string // the route file
	Name  string // %f
	Into  string // %p, from PostgreSQL's working directory
	// Program is the pgkeep that fetches what PostgreSQL will ask for next, see FetchAhead; empty: nothing is fetched ahead.
	Program string
	// Waiting is told why a file cannot be had yet while it is asked for again: after some seconds, then each minute; nil: nobody is.
	Waiting func(error)
}

// retryAtMost bounds the pause between two tries of repositories that do not answer.
const retryAtMost = 5 * time.Second

// When it is told that a file is waited for.
const (
	tellAfter = 10 * time.Second
	tellEvery = time.Minute
)

// otherNames are files that PostgreSQL may have in an archive and that a route never needs.
var otherNames = regexp.MustCompile(`^[0-9A-F]{24}(\.[0-9A-F]{8}\.backup|\.partial)$`)

// WALGet hands PostgreSQL one file of its WAL archive and gives the exit code: 0 when the file is there, 10 when it lies
// outside the route or, for a history file, when every repository has answered that there is none; 255 for everything
// else, a panic included. Inside the route every repository is asked again for as long as the route says.
func WALGet(ctx context.Context, o WALGetOptions) (exit int, err error) {
	defer caught(&exit, &err, o.Name)
	return walGet(ctx, o, (*routeFile).open)
}

// caught turns a panic into a failure.
func caught(exit *int, err *error, name string) {
	if p := recover(); p != nil {
		*exit, *err = ExitFailed, fmt.Errorf("get %q: panic: %v", name, p)
	}
}

func walGet(ctx context.Context, o WALGetOptions, open func(*routeFile, context.Context) *server) (int, error) {
	if o.Name == "" || o.Into == "" || o.Name != filepath.Base(o.Name) {
		return ExitFailed, fmt.Errorf("get %q into %q: wal-get takes PostgreSQL's %%f and %%p", o.Name, o.Into)
	}
	route, err := readRoute(o.Route)
	if err != nil {
		return ExitFailed, err
	}
	g := &getting{WALGetOptions: o, route: route, open: open}
	if digits, ok := strings.CutSuffix(o.Name, ".history"); ok {
		n, err := strconv.ParseUint(digits, 16, 32)
		t := wal.Timeline(n)
		if err != nil || t.HistoryName() != o.Name {
			return ExitFailed, fmt.Errorf("get %q: it is not the name of a history file", o.Name)
		}
		return g.history(ctx, t)
	}
	seg, err := wal.ParseSegmentName(o.Name, route.SegmentSize)
	switch {
	case err != nil && otherNames.MatchString(o.Name):
		return ExitAbsent, nil
	case err != nil:
		return ExitFailed, err
	}
	if _, ok := route.needs(seg); !ok {
		return g.later(ctx, seg)
	}
	if a, ok := aheadOf(o.Route); ok && len(route.Repositories) > 0 {
		served := a.serve(ctx, o.Name, o.Into)
		a.start(o.Program, o.Route, o.Name)
		if served {
			return ExitGot, nil
		}
	}
	return g.needed(ctx, seg)
}

// getting is one file that is wanted.
type getting struct {
	WALGetOptions
	route *routeFile
	open  func(*routeFile, context.Context) *server
	tell  time.Time // when Waiting is told next; zero: nothing was asked for yet
}

// needed gives a segment of the route.
func (g *getting) needed(ctx context.Context, seg wal.Segment) (int, error) {
	get := func() error {
		err := g.open(g.route, ctx).segment(ctx, seg, g.Into)
		if errors.Is(err, store.ErrNotExist) {
			return &state.Error{
				Code: state.CodeGap, Text: fmt.Sprintf("segment %s of %s is needed by the recovery, and no repository has it", g.Name, g.route.Server),
				Hint: "pgkeep wal gaps " + g.route.Server,
			}
		}
		return err
	}
	if g.route.Standby {
		return g.forStandby(ctx, seg, get)
	}
	if err := g.again(ctx, g.route.patience(), get); err != nil {
		return ExitFailed, fmt.Errorf("get %s: %w", g.Name, err)
	}
	return ExitGot, nil
}

// history serves any history that a repository has: PostgreSQL asks for the target's own, and probes higher numbers to
// find one for itself that nobody used.
func (g *getting) history(ctx context.Context, t wal.Timeline) (int, error) {
	route := g.route
	absent := false
	get := func() error {
		err := g.open(route, ctx).history(ctx, t, g.Into)
		absent = errors.Is(err, store.ErrNotExist)
		if absent && t > 1 && t == route.Timeline {
			return &state.Error{
				Code: state.CodeGap, Text: fmt.Sprintf("%s of %s is needed by the recovery, and no repository has it", t.HistoryName(), route.Server),
				Hint: "pgkeep wal list " + route.Server,
			}
		}
		if absent {
			return nil
		}
		return err
	}
	err := g.again(ctx, route.wait(t), get)
	switch {
	case err != nil && route.Standby && t > route.Timeline && ctx.Err() == nil:
		return ExitAbsent, fmt.Errorf("get %s: %w", t.HistoryName(), err)
	case err != nil:
		return ExitFailed, fmt.Errorf("get %s: %w", t.HistoryName(), err)
	case absent:
		return ExitAbsent, nil
	}
	return ExitGot, nil
}

// again repeats try, with growing pauses, until it succeeds or the time is over; no time is without end. Damaged objects
// are asked for again too: another repository may be there the next time.
func (g *getting) again(ctx context.Context, wait time.Duration, try func() error) error {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = 100*time.Millisecond, retryAtMost
	if g.tell.IsZero() {
		g.tell = time.Now().Add(tellAfter)
	}
	waits := func(err error, _ time.Duration) {
		if now := time.Now(); g.Waiting != nil && !now.Before(g.tell) {
			g.tell = now.Add(tellEvery)
			g.Waiting(err)
		}
	}
	_, err := backoff.Retry(ctx, func() (struct{}, error) { return struct{}{}, try() },
		backoff.WithBackOff(pause), backoff.WithMaxElapsedTime(wait), backoff.WithNotify(waits))
	return err
}
