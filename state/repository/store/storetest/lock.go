package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state/repository/store"
)

// Locker is a store that locks, as the drivers of providers are.
type Locker interface {
	store.Store
	// CheckLock is remote.Store's.
	CheckLock(ctx context.Context, compliance bool, now time.Time) error
}

// LockPlaces give new stores without objects: in a bucket that locks objects, and in one that does not.
type LockPlaces struct{ Locking, Lockless func(t *testing.T) Locker }

// RunLocks checks that a driver keeps the contract of store.Store about locks.
func RunLocks(t *testing.T, at LockPlaces) {
	for _, compliance := range []bool{false, true} {
		t.Run(fmt.Sprint("compliance ", compliance), func(t *testing.T) {
			locks(t, at.Locking(t), compliance)
		})
	}
	t.Run("compliance of governance", func(t *testing.T) { stronger(t, at.Locking(t)) })
	t.Run("lock ends", func(t *testing.T) { lockEnds(t, at.Locking(t)) })
	t.Run("lockless", func(t *testing.T) { lockless(t, at.Lockless(t)) })
}

// PutLocked puts one byte under a lock; the zero value: none.
func PutLocked(t testing.TB, st store.Store, key string, r store.Retention) {
	t.Helper()
	if err := st.PutIfAbsent(t.Context(), key, strings.NewReader("x"), 1, store.PutOptions{Retain: r}); err != nil {
		t.Fatalf("put %s: %v", key, err)
	}
}

// locks retains objects: they cannot be deleted, and locks only grow.
func locks(t *testing.T, st Locker, compliance bool) {
	until := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	lockedUntil := func(key string, want time.Time) {
		t.Helper()
		if r, err := st.Retained(t.Context(), key); err != nil || !r.Until.Equal(want) || r.Compliance != (compliance && !want.IsZero()) {
			t.Errorf("%s has %+v, want until %s: %v", key, r, want, err)
		}
	}
	PutLocked(t, st, "a/locked", store.Retention{Until: until, Compliance: compliance})
	PutLocked(t, st, "a/free", store.Retention{})
	PutLocked(t, st, "a/later", store.Retention{})
	lockedUntil("a/locked", until)
	lockedUntil("a/free", time.Time{})
	if err := st.PutIfAbsent(t.Context(), "a/locked", strings.NewReader("y"), 1, store.PutOptions{Retain: store.Retention{Until: until}}); !errors.Is(err, store.ErrExists) {
		t.Errorf("put over what is locked: %v", err)
	}

	if err := st.Extend(t.Context(), "a/locked", store.Retention{Until: until.Add(-time.Minute), Compliance: compliance}); err != nil {
		t.Errorf("a shorter lock: %v", err)
	}
	lockedUntil("a/locked", until)
	until = until.Add(time.Hour)
	for _, key := range []string{"a/locked", "a/later"} {
		if err := st.Extend(t.Context(), key, store.Retention{Until: until, Compliance: compliance}); err != nil {
			t.Errorf("extend %s: %v", key, err)
		}
		lockedUntil(key, until)
	}
	if err := st.Extend(t.Context(), "a/none", store.Retention{Until: until}); !errors.Is(err, store.ErrNotExist) {
		t.Errorf("extend what is not there: %v", err)
	}
	if _, err := st.Retained(t.Context(), "a/none"); !errors.Is(err, store.ErrNotExist) {
		t.Errorf("the lock of what is not there: %v", err)
	}

	for _, keys := range [][]string{{"a/locked"}, {"a/none", "a/free", "a/locked", "a/later"}} {
		if err := st.Delete(t.Context(), keys...); !errors.Is(err, store.ErrRetained) {
			t.Errorf("delete %v: %v", keys, err)
		}
	}
	lockedUntil("a/locked", until)
	lockedUntil("a/later", until)
	if _, err := st.Stat(t.Context(), "a/free"); !errors.Is(err, store.ErrNotExist) {
		t.Errorf("what is free beside what is locked stays: %v", err)
	}
	if err := st.CheckLock(t.Context(), compliance, time.Now()); err != nil {
		t.Errorf("check: %v", err)
	}
}

// stronger turns governance into compliance, and never back; neither makes a lock shorter.
func stronger(t *testing.T, st Locker) {
	until := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	PutLocked(t, st, "a", store.Retention{Until: until})
	for _, x := range []struct{ ask, want store.Retention }{
		{store.Retention{Until: until.Add(-time.Minute), Compliance: true}, store.Retention{Until: until, Compliance: true}},
		{store.Retention{Until: until.Add(time.Minute)}, store.Retention{Until: until.Add(time.Minute), Compliance: true}},
	} {
		if err := st.Extend(t.Context(), "a", x.ask); err != nil {
			t.Errorf("extend to %+v: %v", x.ask, err)
		}
		if r, err := st.Retained(t.Context(), "a"); err != nil || r != x.want {
			t.Errorf("extended to %+v it is %+v, %v; want %+v", x.ask, r, err, x.want)
		}
	}
}

// lockEnds deletes an object once its lock has ended.
func lockEnds(t *testing.T, st Locker) {
	PutLocked(t, st, "first", store.Retention{}) // the probe's time is not the lock's
	var until time.Time
	for d := 2 * time.Second; ; d *= 2 { // a slow machine asks for a lock that has ended already
		until = time.Now().Add(d)
		err := st.PutIfAbsent(t.Context(), "a", strings.NewReader("x"), 1, store.PutOptions{Retain: store.Retention{Until: until, Compliance: true}})
		if err == nil {
			break
		}
		if d > time.Minute {
			t.Fatal(err)
		}
	}
	time.Sleep(time.Until(until.Add(time.Second)))
	if err := st.Delete(t.Context(), "a"); err != nil {
		t.Errorf("delete after the lock's end: %v", err)
	}
	if _, err := st.Stat(t.Context(), "a"); !errors.Is(err, store.ErrNotExist) {
		t.Errorf("what was deleted is there: %v", err)
	}
	PutLocked(t, st, "a", store.Retention{})
}

// lockless is told by the first object that is to be retained, and by the check.
func lockless(t *testing.T, st Locker) {
	r := store.Retention{Until: time.Now().Add(time.Hour)}
	PutLocked(t, st, "b", store.Retention{})
	for what, err := range map[string]error{
		"put":    st.PutIfAbsent(t.Context(), "a", strings.NewReader("x"), 1, store.PutOptions{Retain: r}),
		"extend": st.Extend(t.Context(), "b", r),
		"check":  st.CheckLock(t.Context(), false, time.Now()),
	} {
		var trouble *store.Trouble
		if !errors.As(err, &trouble) || trouble.Kind != store.Unlocked || trouble.Hint == "" {
			t.Errorf("%s: %v", what, err)
		}
	}
}
