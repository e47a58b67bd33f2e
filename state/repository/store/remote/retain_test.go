package remote_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/repository/store/remote"
	"github.com/pgkeep/pgkeep/state/repository/store/storetest"
)

// locker is a provider that locks, whose clock is told with its first answer.
type locker struct {
	*storetest.Provider
	has      store.Retention // of every object
	refuses  error           // what it says to a Retain
	mute     error           // what it says to a Retained
	retained int             // objects that were put locked, or whose locks were moved
	skew     time.Duration
	answered bool
}

func (l *locker) Put(ctx context.Context, up remote.Upload) error {
	l.answered = true
	if !up.Retain.IsZero() {
		l.retained++
	}
	return l.Provider.Put(ctx, up)
}

func (l *locker) Stat(ctx context.Context, key string) (remote.Object, error) {
	l.answered = true
	return l.Provider.Stat(ctx, key)
}

func (l *locker) Retain(context.Context, string, store.Retention) error {
	l.retained++
	return l.refuses
}

func (l *locker) Retained(context.Context, string) (store.Retention, error) { return l.has, l.mute }

func (l *locker) Skew() (time.Duration, bool) { return l.skew, l.answered }

func newLocker() *locker { return &locker{Provider: storetest.NewProvider(1, storetest.Faults{})} }

// TestExtendBesideAnother: a lock that another moved further while ours was on its way is no failure, although the provider
// refuses to move it back; any other refusal is.
func TestExtendBesideAnother(t *testing.T) {
	until := time.Now().Add(time.Hour)
	for name, x := range map[string]struct {
		has  store.Retention
		want bool
	}{
		"further":    {store.Retention{Until: until.Add(time.Hour), Compliance: true}, true},
		"as far":     {store.Retention{Until: until.Truncate(time.Second), Compliance: true}, true},
		"not so far": {store.Retention{Until: until.Add(-time.Minute), Compliance: true}, false},
		"weaker":     {store.Retention{Until: until.Add(time.Hour)}, false},
	} {
		l := newLocker()
		l.has, l.refuses = x.has, &store.Trouble{Kind: store.Denied, Text: "refused"}
		storetest.Plant(l.Provider, "a", []byte("x"))
		err := remote.New(l, hasty()).Extend(t.Context(), "a", store.Retention{Until: until, Compliance: true})
		if (err == nil) != x.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestNothingIsLockedByAWrongClock: not even the first object, before which the provider's clock was not known.
func TestNothingIsLockedByAWrongClock(t *testing.T) {
	r := store.Retention{Until: time.Now().AddDate(10, 0, 0), Compliance: true}
	for name, do := range map[string]func(*remote.Store) error{
		"put": func(st *remote.Store) error {
			return st.PutIfAbsent(t.Context(), "b", strings.NewReader("x"), 1, store.PutOptions{Retain: r})
		},
		"extend": func(st *remote.Store) error { return st.Extend(t.Context(), "a", r) },
	} {
		l := newLocker()
		l.skew = -10 * 365 * 24 * time.Hour
		storetest.Plant(l.Provider, "a", []byte("x"))
		err := do(remote.New(l, hasty()))
		var trouble *store.Trouble
		if !errors.As(err, &trouble) || trouble.Kind != store.Clock || l.retained > 0 {
			t.Errorf("%s: %d locked, %v", name, l.retained, err)
		}
	}
}

// TestEndedLock is none: providers tell of it still.
func TestEndedLock(t *testing.T) {
	l := newLocker()
	l.has = store.Retention{Until: time.Now().Add(-time.Minute), Compliance: true}
	if r, err := remote.New(l, hasty()).Retained(t.Context(), "a"); err != nil || !r.IsZero() {
		t.Errorf("%+v, %v", r, err)
	}
}

// keeper is a locker that deletes nothing.
type keeper struct{ *locker }

func (keeper) Delete(context.Context, []string) error { return store.ErrRetained }

// TestLockIsAsAsked: a service, or a proxy before it, that keeps an object for less than it was asked for is told apart from one that does
// as it is told; one that does not say is taken to.
func TestLockIsAsAsked(t *testing.T) {
	now := time.Now()
	for name, x := range map[string]struct {
		has  store.Retention
		want string // in the error; empty: none
	}{
		"as asked":  {store.Retention{Until: now.Add(3 * time.Minute), Compliance: true}, ""},
		"longer":    {store.Retention{Until: now.Add(time.Hour), Compliance: true}, ""},
		"weaker":    {store.Retention{Until: now.Add(time.Hour)}, "in governance mode until"},
		"shorter":   {store.Retention{Until: now.Add(time.Minute), Compliance: true}, "in compliance mode until"},
		"no lock":   {store.Retention{}, "not at all instead of in compliance mode"},
		"who knows": {store.Retention{}, ""},
	} {
		l := newLocker()
		if l.has = x.has; name == "who knows" {
			l.mute = &store.Trouble{Kind: store.Denied, Text: "may not know"}
		}
		err := remote.New(keeper{l}, hasty()).CheckLock(t.Context(), true, now)
		var trouble *store.Trouble
		switch {
		case x.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case x.want != "" && (!errors.As(err, &trouble) || trouble.Kind != store.Unlocked || !strings.Contains(trouble.Text, x.want)):
			t.Errorf("%s: %v", name, err)
		}
	}
}

// lavish answers with all of an object whatever was asked for, from the offset on.
type lavish struct{ *storetest.Provider }

func (l lavish) Get(ctx context.Context, key string, off, _ int64) (io.ReadCloser, error) {
	return l.Provider.Get(ctx, key, off, -1)
}

// TestGetMoreThanAsked never hands on bytes behind the range.
func TestGetMoreThanAsked(t *testing.T) {
	p := storetest.NewProvider(1, storetest.Faults{})
	storetest.Plant(p, "a", []byte("0123456789"))
	for n, want := range map[int64]string{4: "0123", 10: "0123456789", 20: "0123456789", -1: "0123456789"} {
		r, err := remote.New(lavish{p}, hasty()).Get(t.Context(), "a", 0, n)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		r.Close()
		if err != nil || string(got) != want {
			t.Errorf("%d bytes are %q, %v", n, got, err)
		}
	}
}
