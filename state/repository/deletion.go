package repository

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/store"
)

// LockedError tells that objects could not be deleted because they are locked. Nothing is wrong: they go another time.
type LockedError struct {
	Until time.Time // the latest end of a lock that was seen
	Err   error     // wraps store.ErrRetained
}

// Error gives the moment.
func (e *LockedError) Error() string {
	return "it is locked until " + e.Until.UTC().Format(time.RFC3339)
}

// Unwrap gives the store's own refusal.
func (e *LockedError) Unwrap() error { return e.Err }

// laterLock keeps of two refusals the one whose lock ends last.
func laterLock(a, b error) error {
	var x, y *LockedError
	if errors.As(a, &x) && errors.As(b, &y) && y.Until.Before(x.Until) {
		return a
	}
	return b
}

// mostLooked bounds how many locks are asked for to explain one refusal.
const mostLooked = 20

// deleteKeys deletes objects, and tells those that are locked (*LockedError) from those that this user may not delete.
func (c *Cluster) deleteKeys(ctx context.Context, keys ...string) error {
	st := c.repo.Store()
	err := st.Delete(ctx, keys...)
	if !errors.Is(err, store.ErrRetained) || !st.Capabilities().ObjectLock {
		return err
	}
	var latest time.Time
	looked := 0
	for _, key := range keys {
		r, askErr := st.Retained(ctx, key)
		switch {
		case errors.Is(askErr, store.ErrNotExist):
			continue
		case askErr != nil:
			return err // whether it is locked is not known
		}
		if r.Until.After(latest) {
			latest = r.Until
		}
		if looked++; looked == mostLooked {
			break
		}
	}
	if latest.IsZero() {
		return &state.Error{
			Code: state.CodePermission, Text: fmt.Sprintf("this user may not delete %s", keys[0]),
			Hint: "let another user prune who may, or grant it: see Credentials in docs/repositories.md", Err: err,
		}
	}
	return &LockedError{Until: latest, Err: err}
}

// LockedUntil tells until when a committed backup and what it reads are locked, as its decision was put or extended last; of
// one that is not committed, what it left. Zero: not at all, or the store does not lock.
func (c *Cluster) LockedUntil(ctx context.Context, id string) (time.Time, error) {
	if err := CheckBackupID(id); err != nil {
		return time.Time{}, err
	}
	st := c.repo.Store()
	if !st.Capabilities().ObjectLock {
		return time.Time{}, nil
	}
	for _, key := range []string{c.key.commitFile(id), c.key.startFile(id)} { // a decision to abort is not locked
		r, err := st.Retained(ctx, key)
		if err != nil && !errors.Is(err, store.ErrNotExist) {
			return time.Time{}, fmt.Errorf("look at the lock of backup %s: %w", id, err)
		}
		if !r.IsZero() {
			return r.Until, nil
		}
	}
	return time.Time{}, nil
}

// locks looks at the locks of backups.
func (c *Cluster) locks(ctx context.Context, backups []state.Backup) error {
	g, inner := errgroup.WithContext(ctx)
	g.SetLimit(extenders)
	for i := range backups {
		g.Go(func() (err error) {
			backups[i].LockedUntil, err = c.LockedUntil(inner, backups[i].ID)
			return err
		})
	}
	return g.Wait()
}
