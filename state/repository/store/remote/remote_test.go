package remote_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/repository/store/remote"
	"github.com/pgkeep/pgkeep/state/repository/store/storetest"
)

// hasty is the patience of tests: many tries, no time.
func hasty() remote.Patience {
	return remote.Patience{First: time.Microsecond, Longest: time.Millisecond, Total: time.Minute}
}

func TestCleanProviderConforms(t *testing.T) {
	storetest.Run(t, func(*testing.T) store.Store { return remote.New(storetest.NewProvider(1, storetest.Faults{}), hasty()) })
}

// TestFaultyProviderConforms runs the suite over a provider that fails a third of all calls in every way it knows, twice
// as many puts among them after having stored.
func TestFaultyProviderConforms(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			storetest.Run(t, func(*testing.T) store.Store {
				return remote.New(storetest.NewProvider(seed, storetest.EveryFault()), hasty())
			})
		})
	}
}

func TestRaces(t *testing.T) {
	p := storetest.NewProvider(7, storetest.EveryFault())
	storetest.Race(t, func(testing.TB) store.Store { return remote.New(p, hasty()) })
}

// TestLostAnswer tells our own object from another's of the same bytes, by its token; where none is kept, by its bytes.
func TestLostAnswer(t *testing.T) {
	for _, x := range []struct {
		name, theirs string
		forgets      bool
		want         error
	}{
		{"our own", "", false, nil},
		{"our own, no tokens", "", true, nil},
		{"another's", "other", false, store.ErrExists},
		{"another's of the same bytes", "bytes", false, store.ErrExists},
		{"another's, no tokens", "other", true, store.ErrExists},
		{"another's of the same size, no tokens", "BYTES", true, store.ErrExists},
	} {
		t.Run(x.name, func(t *testing.T) {
			p := storetest.NewProvider(1, storetest.Faults{})
			p.Forgets = x.forgets
			st := remote.New(p, hasty())
			if err := st.Probe(t.Context()); err != nil {
				t.Fatal(err)
			}
			lost := false
			p.Hook = func(call, key string, do func() error) error {
				if call != "put" || lost {
					return do()
				}
				lost = true
				if x.theirs != "" {
					storetest.Plant(p, key, []byte(x.theirs))
					return net.ErrClosed // ours never arrived
				}
				return errors.Join(do(), net.ErrClosed)
			}
			err := st.PutIfAbsent(t.Context(), "a/b", strings.NewReader("bytes"), 5, store.PutOptions{})
			if !errors.Is(err, x.want) || x.want == nil && err != nil {
				t.Errorf("put: %v, want %v", err, x.want)
			}
		})
	}
}

func TestUnfitStoresAreRefused(t *testing.T) {
	for name, x := range map[string]struct {
		spoil func(p *storetest.Provider)
		want  string
	}{
		"ignores the condition": {func(p *storetest.Provider) { p.Careless = true }, "accepted a second object"},
		"lists what was before": {func(p *storetest.Provider) { p.Stale = true }, "does not list an object"},
	} {
		t.Run(name, func(t *testing.T) {
			p := storetest.NewProvider(1, storetest.Faults{})
			x.spoil(p)
			st := remote.New(p, hasty())
			err := st.PutIfAbsent(t.Context(), "a/b", strings.NewReader("x"), 1, store.PutOptions{})
			var trouble *store.Trouble
			if !errors.As(err, &trouble) || trouble.Kind != store.Unconditional || trouble.Hint == "" || !strings.Contains(err.Error(), x.want) {
				t.Errorf("put: %v", err)
			}
			if _, err := st.Stat(t.Context(), "a/b"); !errors.Is(err, store.ErrNotExist) {
				t.Errorf("the refused store holds the object: %v", err)
			}
		})
	}
}

func TestListInWrongOrderIsRefused(t *testing.T) {
	p := storetest.NewProvider(1, storetest.Faults{})
	p.Shuffled = true
	for _, key := range []string{"a", "b", "c"} {
		storetest.Plant(p, key, nil)
	}
	var last error
	for _, err := range remote.New(p, hasty()).List(t.Context(), "", "", false) {
		last = err
	}
	if last == nil || !strings.Contains(last.Error(), "not in byte order") {
		t.Errorf("list: %v", last)
	}
}

// TestUnreachable says so after a few tries and not after a minute, with what to do.
func TestUnreachable(t *testing.T) {
	p := storetest.NewProvider(1, storetest.Faults{})
	calls := 0
	p.Hook = func(string, string, func() error) error {
		calls++
		return &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
	}
	_, err := remote.New(p, hasty()).Stat(t.Context(), "a")
	var trouble *store.Trouble
	if !errors.As(err, &trouble) || trouble.Kind != store.Unreachable || trouble.Hint == "" {
		t.Errorf("stat: %v", err)
	}
	if calls != 3 {
		t.Errorf("%d tries, want 3", calls)
	}
}

// TestCancelledWhileWaiting returns at once, and says why it had waited.
func TestCancelledWhileWaiting(t *testing.T) {
	p := storetest.NewProvider(1, storetest.Faults{})
	ctx, cancel := context.WithCancel(t.Context())
	p.Hook = func(string, string, func() error) error {
		cancel()
		return io.ErrUnexpectedEOF
	}
	_, err := remote.New(p, remote.Patience{First: time.Hour, Longest: time.Hour, Total: 10 * time.Hour}).Stat(ctx, "a")
	if !errors.Is(err, context.Canceled) || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("stat: %v", err)
	}
}

// TestReaderGoesOn gives every byte once although each connection breaks after a few.
func TestReaderGoesOn(t *testing.T) {
	p := storetest.NewProvider(3, storetest.Faults{Cut: 0.9})
	body := bytes.Repeat([]byte("0123456789abcdef"), 4096)
	storetest.Plant(p, "a", body)
	r, err := remote.New(p, hasty()).Get(t.Context(), "a", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := iotest.TestReader(r, body); err != nil {
		t.Error(err)
	}
}
