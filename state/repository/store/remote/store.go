package remote

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgkeep/pgkeep/state/repository/store"
)

// Store is a store.Store over a Backend.
type Store struct {
	b        Backend
	patience Patience

	probing sync.Mutex // one probe at a time
	probed  atomic.Bool
	reached atomic.Bool // the provider has answered once
}

var _ store.Store = (*Store)(nil)

// New gives a store over a provider. Nothing is asked before the first call.
func New(b Backend, p Patience) *Store {
	return &Store{b: b, patience: p.normal()}
}

// Close lets go of connections.
func (s *Store) Close() error { return s.b.Close() }

// maxSkew is how far clocks may be apart: leases and retention count in minutes.
const maxSkew = time.Minute

// Check tries everything that a repository needs of the provider: it can be reached, read, written to and listed, puts
// conditionally, and its clock is right. It leaves what Probe leaves.
func (s *Store) Check(ctx context.Context) error {
	if err := s.Probe(ctx); err != nil {
		return err
	}
	return s.checkClock(maxSkew)
}

// checkClock refuses clocks that are further apart than that, as far as the provider has told.
func (s *Store) checkClock(most time.Duration) error {
	clock, ok := s.b.(interface {
		Skew() (time.Duration, bool)
	})
	if !ok {
		return nil
	}
	skew, seen := clock.Skew()
	if !seen || skew.Abs() <= most {
		return nil
	}
	return &store.Trouble{
		Kind: store.Clock, Text: fmt.Sprintf("the clock of %s and this machine's are %s apart", s.b.Place(), skew.Abs().Round(time.Second)),
		Hint: "set this machine's clock: timedatectl set-ntp true",
	}
}

// Stat is store.Store's.
func (s *Store) Stat(ctx context.Context, key string) (store.Info, error) {
	if err := errors.Join(ctx.Err(), store.CheckKey(key)); err != nil {
		return store.Info{}, err
	}
	var o Object
	err := s.retry(ctx, func(ctx context.Context) (err error) {
		o, err = s.b.Stat(ctx, key)
		return err
	})
	if err != nil {
		return store.Info{}, fmt.Errorf("look at object %s: %w", key, err)
	}
	o.Key, o.Prefix = key, false
	return o.Info, nil
}

// deleteBatch is the most keys of one request, as S3 has it.
const deleteBatch = 1000

// Delete is store.Store's.
func (s *Store) Delete(ctx context.Context, keys ...string) error {
	for _, key := range keys {
		if err := store.CheckKey(key); err != nil {
			return err
		}
	}
	var problems []error
	for len(keys) > 0 && ctx.Err() == nil {
		some := keys[:min(len(keys), deleteBatch)]
		keys = keys[len(some):]
		err := s.retry(ctx, func(ctx context.Context) error { return s.b.Delete(ctx, some) })
		if err != nil {
			problems = append(problems, fmt.Errorf("delete objects: %w", err))
		}
	}
	return errors.Join(append(problems, ctx.Err())...)
}

// Capabilities is store.Store's. A store that cannot put conditionally is refused by the first put.
func (s *Store) Capabilities() store.Capabilities {
	_, locks := s.b.(Retainer)
	return store.Capabilities{ConditionalPut: true, ObjectLock: locks}
}
