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
}

// retryAtMost bounds the pause between two tries of repositories that do not answer.
const retryAtMost = 5 * time.Second

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
	if digits, ok := strings.CutSuffix(o.Name, ".history"); ok {
		n, err := strconv.ParseUint(digits, 16, 32)
		t := wal.Timeline(n)
		if err != nil || t.HistoryName() != o.Name {
			return ExitFailed, fmt.Errorf("get %q: it is not the name of a history file", o.Name)
		}
		return getHistory(ctx, route, t, o.Into, open)
	}
	seg, err := wal.ParseSegmentName(o.Name, route.SegmentSize)
	switch {
	case err != nil && otherNames.MatchString(o.Name):
		return ExitAbsent, nil
	case err != nil:
		return ExitFailed, err
	}
	if _, ok := route.needs(seg); !ok {
		return getLater(ctx, route, seg, o.Into, open)
	}
	if a, ok := aheadOf(o.Route); ok && len(route.Repositories) > 0 {
		served := a.serve(ctx, o.Name, o.Into)
		a.start(o.Program, o.Route, o.Name)
		if served {
			return ExitGot, nil
		}
	}
	err = again(ctx, route.wait(), func() error {
		err := open(route, ctx).segment(ctx, seg, o.Into)
		if errors.Is(err, store.ErrNotExist) {
			return &state.Error{
				Code: state.CodeGap, Text: fmt.Sprintf("segment %s of %s is needed by the recovery, and no repository has it", o.Name, route.Server),
				Hint: "pgkeep wal gaps " + route.Server,
			}
		}
		return err
	})
	if err != nil {
		return ExitFailed, fmt.Errorf("get %s: %w", o.Name, err)
	}
	return ExitGot, nil
}

// getLater gives a standby what was archived behind its route. Where no repository has that it is absent, and PostgreSQL asks its
// primary; also where a repository has not answered for as long as the route says, because a standby does not end its recovery then.
func getLater(ctx context.Context, route *routeFile, seg wal.Segment, into string, open func(*routeFile, context.Context) *server) (int, error) {
	if !route.Standby {
		return ExitAbsent, nil
	}
	err := again(ctx, route.patience(), func() error {
		err := open(route, ctx).whole(ctx, seg, into)
		if errors.Is(err, store.ErrNotExist) {
			return backoff.Permanent(err)
		}
		return err
	})
	switch {
	case err == nil:
		return ExitGot, nil
	case errors.Is(err, store.ErrNotExist):
		return ExitAbsent, nil
	case state.CodeOf(err) == state.CodeDestination: // of the guard
		return ExitFailed, err
	}
	return ExitAbsent, fmt.Errorf("get %s: %w", seg.Name(route.SegmentSize), err)
}

// getHistory serves any history that a repository has: PostgreSQL asks for the target's own, and probes higher numbers to
// find one for itself that nobody used.
func getHistory(ctx context.Context, route *routeFile, t wal.Timeline, into string, open func(*routeFile, context.Context) *server) (int, error) {
	absent := false
	err := again(ctx, route.wait(), func() error {
		err := open(route, ctx).history(ctx, t, into)
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
	})
	switch {
	case err != nil:
		return ExitFailed, fmt.Errorf("get %s: %w", t.HistoryName(), err)
	case absent:
		return ExitAbsent, nil
	}
	return ExitGot, nil
}

// again repeats try, with growing pauses, until it succeeds or the time is over; no time is without end. Damaged objects
// are asked for again too: another repository may be there the next time.
func again(ctx context.Context, wait time.Duration, try func() error) error {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = 100*time.Millisecond, retryAtMost
	_, err := backoff.Retry(ctx, func() (struct{}, error) { return struct{}{}, try() },
		backoff.WithBackOff(pause), backoff.WithMaxElapsedTime(wait))
	return err
}
