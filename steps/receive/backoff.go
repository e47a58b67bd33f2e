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
	jitter     = 0.2
)

// retryPause gives growing pauses with jitter.
type retryPause struct {
	b     *backoff.ExponentialBackOff
	fresh bool      // the next pause is none
	last  time.Time // when a pause was none: never twice within firstPause
}

func newBackoff() *retryPause {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval, b.RandomizationFactor, b.Multiplier = firstPause*5/4, longPause, jitter, 1.7 // never under firstPause
	b.Reset()
	return &retryPause{b: b}
}

// worked makes the next pause none, and those after it short again.
func (r *retryPause) worked() {
	r.b.Reset()
	r.fresh = true
}

// soon makes the next pause a short one: what is waited for may come at any moment.
func (r *retryPause) soon() { r.b.Reset() }

// wait pauses, or ends with ctx's error.
func (r *retryPause) wait(ctx context.Context) error { return r.waitUnless(ctx, nil) }

// waitUnless pauses for no longer than firstPause once something comes over hurry.
func (r *retryPause) waitUnless(ctx context.Context, hurry <-chan struct{}) error {
	fresh := r.fresh
	r.fresh = false
	began := time.Now()
	if fresh && began.Sub(r.last) >= firstPause {
		r.last = began
		return ctx.Err()
	}
	t := time.NewTimer(r.b.NextBackOff())
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	case <-hurry:
		return pause(ctx, time.Until(began.Add(firstPause)))
	}
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
