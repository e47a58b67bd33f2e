package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pgkeep/pgkeep/state/repository/store"
)

// Run checks that a driver keeps the contract of store.Store. empty gives a new store without objects each time.
func Run(t *testing.T, empty func(t *testing.T) store.Store) {
	RunSome(t, empty)
}

// RunSome checks the named parts of the contract; all of them when none is named.
func RunSome(t *testing.T, empty func(t *testing.T) store.Store, names ...string) {
	tests := []struct {
		name string
		run  func(*testing.T, store.Store)
	}{
		{"put and get", putAndGet},
		{"ranges", ranges},
		{"second put", secondPut},
		{"one winner", oneWinner},
		{"absent", absent},
		{"bad keys", badKeys},
		{"body fails", bodyFails},
		{"list", list},
		{"list stops", listStops},
		{"list while changing", listWhileChanging},
		{"delete", deleteObjects},
		{"cancelled", cancelled},
	}
	for _, test := range tests {
		if len(names) > 0 && !slices.Contains(names, test.name) {
			continue
		}
		t.Run(test.name, func(t *testing.T) { test.run(t, empty(t)) })
	}
}

func put(t testing.TB, s store.Store, key string, body []byte) {
	t.Helper()
	if err := s.PutIfAbsent(t.Context(), key, bytes.NewReader(body), int64(len(body)), store.PutOptions{}); err != nil {
		t.Fatalf("put %s: %v", key, err)
	}
}

func get(t testing.TB, s store.Store, key string, off, n int64) []byte {
	t.Helper()
	r, err := s.Get(t.Context(), key, off, n)
	if err != nil {
		t.Fatalf("get %s: %v", key, err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("read %s: %v", key, err)
	}
	return b
}

// noise gives n bytes that differ from seed to seed.
func noise(n int, seed uint64) []byte {
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	b := make([]byte, n)
	rand.NewChaCha8(key).Read(b)
	return b
}

func putAndGet(t *testing.T, s store.Store) {
	for i, n := range []int{0, 1, 4096, 65536, 3<<20 + 17} {
		key := fmt.Sprintf("c/orders.eu/7335180256203400928/w/00000001/00000000/%024X", i)
		body := noise(n, uint64(i))
		put(t, s, key, body)
		if got := get(t, s, key, 0, -1); !bytes.Equal(got, body) {
			t.Errorf("%d bytes: %d other bytes came back", n, len(got))
		}
		info, err := s.Stat(t.Context(), key)
		if err != nil || info.Size != int64(n) || info.Key != key || info.Prefix {
			t.Errorf("stat of %d bytes: %+v, %v", n, info, err)
		}
	}
}

func ranges(t *testing.T, s store.Store) {
	body := noise(100_000, 4)
	put(t, s, "a/range", body)
	for _, r := range [][2]int64{{0, 0}, {0, 10}, {99_999, 1}, {5000, 60_000}, {40_000, -1}, {99_990, 100}, {100_000, -1}, {100_000, 5}, {200_000, 5}} {
		want := body[min(r[0], 100_000):]
		if r[1] >= 0 {
			want = want[:min(r[1], int64(len(want)))]
		}
		if got := get(t, s, "a/range", r[0], r[1]); !bytes.Equal(got, want) {
			t.Errorf("range %v: %d bytes, want %d, or other ones", r, len(got), len(want))
		}
	}
	if _, err := s.Get(t.Context(), "a/range", -1, 5); err == nil {
		t.Error("a negative offset was read")
	}
}

func secondPut(t *testing.T, s store.Store) {
	put(t, s, "a/b", []byte("first"))
	for _, other := range []string{"other", "first", "", strings.Repeat("long", 100_000)} {
		err := s.PutIfAbsent(t.Context(), "a/b", strings.NewReader(other), int64(len(other)), store.PutOptions{})
		if !errors.Is(err, store.ErrExists) {
			t.Errorf("second put of %d bytes: %v", len(other), err)
		}
	}
	if got := get(t, s, "a/b", 0, -1); string(got) != "first" {
		t.Errorf("the first object was replaced by %q", got)
	}
}

func oneWinner(t *testing.T, s store.Store) {
	const writers, rounds = 12, 8
	for round := range rounds {
		key := fmt.Sprintf("race/%d/object", round)
		errs := make([]error, writers)
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				body := noise(200_000, uint64(w))
				errs[w] = s.PutIfAbsent(t.Context(), key, bytes.NewReader(body), int64(len(body)), store.PutOptions{})
			})
		}
		wg.Wait()
		winner := slices.Index(errs, nil)
		for w, err := range errs {
			if w != winner && !errors.Is(err, store.ErrExists) {
				t.Errorf("round %d: writer %d of a taken key: %v", round, w, err)
			}
		}
		if winner < 0 || !bytes.Equal(get(t, s, key, 0, -1), noise(200_000, uint64(winner))) {
			t.Errorf("round %d: writer %d won, but the bytes are another's", round, winner)
		}
	}
}

func absent(t *testing.T, s store.Store) {
	put(t, s, "a/b/c", []byte("x"))
	for _, key := range []string{"a", "a/b", "a/b/d", "a/b/c/d", "z/y"} {
		if _, err := s.Get(t.Context(), key, 0, -1); !errors.Is(err, store.ErrNotExist) {
			t.Errorf("get %s: %v", key, err)
		}
		if _, err := s.Stat(t.Context(), key); !errors.Is(err, store.ErrNotExist) {
			t.Errorf("stat %s: %v", key, err)
		}
	}
}

// hostileKeys are names that no store may let through.
func hostileKeys() []string {
	return []string{
		"", "/", "/etc/passwd", "a/", "a//b", "..", "../x", "a/../b", ".", "a/./b", ".hidden", "a/.hidden/b", "a\x00b", "a\nb",
		"a b", `a\b`, "a;b", "$(x)", "`x`", "ä", "a%2e%2e", "a:b", "a*b", "~/x", strings.Repeat("a", 201), strings.Repeat("abc/", 300) + "x",
	}
}

func badKeys(t *testing.T, s store.Store) {
	for _, key := range hostileKeys() {
		if err := s.PutIfAbsent(t.Context(), key, strings.NewReader("x"), 1, store.PutOptions{}); err == nil || errors.Is(err, store.ErrExists) {
			t.Errorf("put %q: %v", key, err)
		}
		if _, err := s.Get(t.Context(), key, 0, -1); err == nil || errors.Is(err, store.ErrNotExist) {
			t.Errorf("get %q: %v", key, err)
		}
		if _, err := s.Stat(t.Context(), key); err == nil || errors.Is(err, store.ErrNotExist) {
			t.Errorf("stat %q: %v", key, err)
		}
		if err := s.Delete(t.Context(), key); err == nil {
			t.Errorf("delete %q was accepted", key)
		}
	}
	for info, err := range s.List(t.Context(), "", "", false) {
		t.Errorf("there is %+v, %v", info, err)
	}
}

// broken is a body that fails after some bytes.
type broken struct{ good int64 }

var errBroken = errors.New("the body broke")

func (b broken) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) <= b.good {
		return len(p), nil
	}
	return int(max(0, b.good-off)), errBroken
}

func bodyFails(t *testing.T, s store.Store) {
	err := s.PutIfAbsent(t.Context(), "a/broken", broken{100_000}, 500_000, store.PutOptions{})
	if !errors.Is(err, errBroken) {
		t.Errorf("a broken body: %v", err)
	}
	if err := s.PutIfAbsent(t.Context(), "a/short", strings.NewReader("short"), 50, store.PutOptions{}); err == nil {
		t.Error("a body shorter than its size was stored")
	}
	for _, key := range []string{"a/broken", "a/short"} {
		if _, err := s.Stat(t.Context(), key); !errors.Is(err, store.ErrNotExist) {
			t.Errorf("stat %s: %v", key, err)
		}
		put(t, s, key, []byte("whole")) // the failed try does not stand in the way
	}
}

func cancelled(t *testing.T, s store.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.PutIfAbsent(ctx, "a/b", strings.NewReader("x"), 1, store.PutOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("put: %v", err)
	}
	if _, err := s.Get(ctx, "a/b", 0, -1); !errors.Is(err, context.Canceled) {
		t.Errorf("get: %v", err)
	}
	for _, err := range s.List(ctx, "", "", false) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("list: %v", err)
		}
	}
	if _, err := s.Stat(t.Context(), "a/b"); !errors.Is(err, store.ErrNotExist) {
		t.Errorf("a cancelled put left: %v", err)
	}
}

func diff(want, got any) string { return cmp.Diff(want, got) }
