package receive

import (
	"context"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// Times between tries. The first try after a connection that worked comes at once.
const (
	firstPause = time.Second
	longPause  = 8 * time.Second
)

// retryPause gives growing pauses with jitter.
type retryPause struct {
	b     *backoff.ExponentialBackOff
	fresh bool      // the next pause is none
	last  time.Time // when a pause was none: never twice within firstPause
}

func newBackoff() *retryPause {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval, b.RandomizationFactor, b.Multiplier = firstPause, longPause, 0.2, 1.7
	b.Reset()
	return &retryPause{b: b}
}

// worked makes the next pause none, and those after it short again.
func (r *retryPause) worked() {
	r.b.Reset()
	r.fresh = true
}

// wait pauses, or ends with ctx's error.
func (r *retryPause) wait(ctx context.Context) error {
	fresh := r.fresh
	r.fresh = false
	if now := time.Now(); fresh && now.Sub(r.last) >= firstPause {
		r.last = now
		return ctx.Err()
	}
	return pause(ctx, r.b.NextBackOff())
}

// pause waits for d, or ends with ctx's error.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
