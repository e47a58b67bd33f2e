package recovery

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/wal"
)

const (
	askEvery   = 500 * time.Millisecond
	askTimeout = 10 * time.Second
)

// asking asks a copy in recovery how far it is, beside all else: a copy that lets nobody in, or does not answer, keeps nobody
// waiting. Its zero pointer asks nobody.
type asking struct {
	end    context.CancelFunc
	ended  chan struct{}
	answer atomic.Pointer[position]
}

// ask begins to ask. The copy must have said that it takes connections: one that is turned away earlier would find its way into
// the reasons in its log.
func ask(ctx context.Context, at postgres.Copy, roles []string) *asking {
	ctx, end := context.WithCancel(ctx)
	a := &asking{end: end, ended: make(chan struct{})}
	go func() {
		defer close(a.ended)
		if c, err := letIn(ctx, at, roles); err == nil {
			a.follow(ctx, c)
			_ = c.Close() // the server ends it otherwise
		}
	}()
	return a
}

// letIn opens a session with the copy by its socket, as the first role that it lets in.
func letIn(ctx context.Context, at postgres.Copy, roles []string) (*postgres.Conn, error) {
	if !strings.HasPrefix(at.Socket, "/") {
		return nil, errors.New("it has no local socket")
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var refused []string
	for _, at.User = range roles {
		c, err := postgres.ConnectRecovered(ctx, at)
		if err == nil {
			return c, nil
		}
		refused = append(refused, err.Error())
	}
	return nil, errors.New(strings.Join(refused, "; "))
}

// follow asks until the session or ctx ends.
func (a *asking) follow(ctx context.Context, c *postgres.Conn) {
	defer a.answer.Store(nil) // from then on the log tells more
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for {
		lsn, commit, err := replayed(ctx, c)
		if err != nil {
			return
		}
		a.answer.Store(&position{lsn, commit})
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func replayed(ctx context.Context, c *postgres.Conn) (wal.LSN, time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return c.Replayed(ctx)
}

// last gives the newest answer.
func (a *asking) last() position {
	if a == nil {
		return position{}
	}
	if p := a.answer.Load(); p != nil {
		return *p
	}
	return position{}
}

// stop ends the asking.
func (a *asking) stop() {
	if a != nil {
		a.end()
		<-a.ended
	}
}
