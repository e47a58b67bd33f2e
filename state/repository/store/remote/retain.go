package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/pgkeep/pgkeep/state/repository/store"
)

// Extend is store.Store's.
func (s *Store) Extend(ctx context.Context, key string, r store.Retention) error {
	if err := errors.Join(ctx.Err(), store.CheckKey(key)); err != nil {
		return err
	}
	if r.IsZero() {
		return nil
	}
	b, ok := s.b.(Retainer)
	if !ok {
		return fmt.Errorf("retain object %s: %w", key, store.ErrUnsupported)
	}
	if !s.reached.Load() { // its clock is not known yet
		if _, err := s.Stat(ctx, key); err != nil {
			return err
		}
	}
	err := s.checkClock(lockSkew)
	if err == nil {
		err = s.retry(ctx, func(ctx context.Context) error { return moved(ctx, b, key, r) })
	}
	if err != nil {
		return fmt.Errorf("retain object %s: %w", key, err)
	}
	return nil
}

// moved is Retain, which providers refuse, as whoever is not allowed to, when another has moved the lock further meanwhile.
func moved(ctx context.Context, b Retainer, key string, r store.Retention) error {
	err := b.Retain(ctx, key, r)
	if err == nil || answered(err) {
		return err
	}
	has, askErr := b.Retained(ctx, key)
	if askErr != nil || has.Until.Before(r.Until.Truncate(time.Second)) || r.Compliance && !has.Compliance {
		return err
	}
	return nil
}

// Retained is store.Store's.
func (s *Store) Retained(ctx context.Context, key string) (r store.Retention, err error) {
	if err := errors.Join(ctx.Err(), store.CheckKey(key)); err != nil {
		return r, err
	}
	b, ok := s.b.(Retainer)
	if !ok {
		return r, fmt.Errorf("look at the retention of object %s: %w", key, store.ErrUnsupported)
	}
	err = s.retry(ctx, func(ctx context.Context) (err error) {
		r, err = b.Retained(ctx, key)
		return err
	})
	if err != nil {
		return r, fmt.Errorf("look at the retention of object %s: %w", key, err)
	}
	if !r.Until.After(s.now()) {
		return store.Retention{}, nil // providers keep telling of locks that have ended
	}
	return r, nil
}

// now gives the provider's time, as far as it has told it; else this machine's.
func (s *Store) now() time.Time {
	if clock, ok := s.b.(interface{ Now() time.Time }); ok {
		return clock.Now()
	}
	return time.Now()
}

// lockSkew is how far clocks may be apart where objects are locked: a lock that a wrong clock made too long cannot be undone.
const lockSkew = time.Hour

// mayRetain is asked once the provider has answered, so that its clock is known.
func (s *Store) mayRetain(r store.Retention) error {
	if r.IsZero() {
		return nil
	}
	if _, ok := s.b.(Retainer); !ok {
		return store.ErrUnsupported
	}
	return s.checkClock(lockSkew)
}

// A lock is tried with an object of its own each time, and those of earlier tries go when their locks have ended.
const (
	lockProbeKey  = ".pgkeep-lock-"
	lockProbeTime = 3 * time.Minute
	maxLockProbes = 100
)

// CheckLock tries whether the provider keeps an object that is to be retained: it puts one for three minutes from now, tries
// to delete it, and asks how it is locked. Trouble of kind Unlocked where the bucket does not lock, or deleted it, or locked it for less than
// it was asked for; ErrUnsupported where the driver cannot.
func (s *Store) CheckLock(ctx context.Context, compliance bool, now time.Time) error {
	r := store.Retention{Until: now.Add(lockProbeTime), Compliance: compliance}
	if err := s.mayRetain(r); err != nil {
		return fmt.Errorf("try an object lock: %w", err)
	}
	if err := s.checkClock(maxSkew); err != nil {
		return err
	}
	s.dropLockProbes(ctx)
	key, text := lockProbeKey+newToken(), "pgkeep tries with this object whether the store locks. It can be deleted after some minutes.\n"
	if err := s.put(ctx, key, io.NewSectionReader(strings.NewReader(text), 0, int64(len(text))), r); err != nil {
		return fmt.Errorf("try an object lock: %w", err)
	}
	err := s.retry(ctx, func(ctx context.Context) error { return s.b.Delete(ctx, []string{key}) })
	switch {
	case errors.Is(err, store.ErrRetained):
		return s.checkRetained(ctx, key, r)
	case isMissing(err):
		return &store.Trouble{
			Kind: store.Unlocked, Text: s.b.Place() + " took an object, and says that there is none when it is to be deleted, so whether it locks cannot be tried", Err: err,
			Hint: "look whether a proxy or gateway before the service answers 404 to what it does not know, as to ?versioning of S3",
		}
	case err != nil:
		return fmt.Errorf("try an object lock: %w", err)
	}
	return &store.Trouble{
		Kind: store.Unlocked, Text: s.b.Place() + " deleted an object that it was to keep locked",
		Hint: "make a bucket with object lock, and take the right to override locks from these credentials",
	}
}

// checkRetained compares a lock with what was asked for. Whoever may not know it is told nothing.
func (s *Store) checkRetained(ctx context.Context, key string, want store.Retention) error {
	b, ok := s.b.(Retainer)
	if !ok {
		return store.ErrUnsupported
	}
	var has store.Retention
	err := s.retry(ctx, func(ctx context.Context) (err error) {
		has, err = b.Retained(ctx, key)
		return err
	})
	if err != nil || !has.Until.Before(want.Until.Truncate(time.Second)) && (has.Compliance || !want.Compliance) {
		return nil
	}
	return &store.Trouble{
		Kind: store.Unlocked, Text: s.b.Place() + " locked an object for less than it was asked for: " + told(has) + " instead of " + told(want),
		Hint: "look whether a proxy or gateway before the service leaves out headers, and whether the bucket allows locks of that mode",
	}
}

// told says how long and how an object is locked.
func told(r store.Retention) string {
	switch {
	case r.IsZero():
		return "not at all"
	case r.Compliance:
		return "in compliance mode until " + r.Until.UTC().Format(time.RFC3339)
	}
	return "in governance mode until " + r.Until.UTC().Format(time.RFC3339)
}

// isMissing tells whether an object or its bucket is said not to exist.
func isMissing(err error) bool {
	var trouble *store.Trouble
	return errors.Is(err, store.ErrNotExist) || errors.As(err, &trouble) && trouble.Kind == store.Missing
}

// dropLockProbes removes what earlier tries left, as far as that may be.
func (s *Store) dropLockProbes(ctx context.Context) {
	var keys []string
	for info, err := range s.b.List(ctx, Query{Prefix: lockProbeKey}) {
		if err != nil || len(keys) == maxLockProbes {
			break
		}
		keys = append(keys, info.Key)
	}
	if len(keys) > 0 {
		_ = s.b.Delete(ctx, keys) // those that are still locked stay for the next try
	}
}
