package storetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/pgkeep/pgkeep/state/repository/store"
)

func keysOf(t testing.TB, s store.Store, prefix, after string, delimited bool) []string {
	t.Helper()
	var out []string
	for info, err := range s.List(t.Context(), prefix, after, delimited) {
		if err != nil {
			t.Fatalf("list %q after %q: %v", prefix, after, err)
		}
		if info.Prefix != strings.HasSuffix(info.Key, "/") {
			t.Errorf("list gave %+v", info)
		}
		out = append(out, info.Key)
	}
	return out
}

// list compares random listings of random keys with those of Memory. The parts are chosen so that the order of
// directories and the order of bytes differ: "a-b" < "a/b" < "a0".
func list(t *testing.T, s store.Store) {
	r := rand.New(rand.NewPCG(11, 12))
	parts := []string{"a", "a-b", "a.b", "a0", "b", "B", "a=", "ab", "00000001"}
	random := func() string {
		n := 1 + r.IntN(4)
		p := make([]string, n)
		for i := range p {
			p[i] = parts[r.IntN(len(parts))]
		}
		return strings.Join(p, "/")
	}
	want := NewMemory(nil)
	for range 150 {
		key := random() + ".o" // never a directory of another key
		if want.PutIfAbsent(t.Context(), key, strings.NewReader(key), int64(len(key)), store.PutOptions{}) == nil {
			put(t, s, key, []byte(key))
		}
	}
	for range 400 {
		prefix, after := "", ""
		if r.IntN(4) > 0 {
			prefix = random()
			prefix = prefix[:r.IntN(len(prefix)+1)] + []string{"", "/"}[r.IntN(2)]
		}
		if store.CheckPrefix(prefix) != nil {
			continue
		}
		if r.IntN(2) > 0 {
			after = random() + []string{"", "/", ".o"}[r.IntN(3)]
		}
		delimited := r.IntN(2) > 0
		if d := diff(keysOf(t, want, prefix, after, delimited), keysOf(t, s, prefix, after, delimited)); d != "" {
			t.Fatalf("list %q after %q delimited %v (-want +got):\n%s", prefix, after, delimited, d)
		}
	}
}

func listStops(t *testing.T, s store.Store) {
	for i := range 30 {
		put(t, s, fmt.Sprintf("n/%d/%02d", i%3, i), nil)
	}
	n := 0
	for _, err := range s.List(t.Context(), "n/", "", false) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n == 7 {
			break
		}
	}
	if n != 7 {
		t.Errorf("list gave %d of 7 objects", n)
	}
}

// listWhileChanging lists while others put and delete: what is there all the time is always listed, in order, once.
func listWhileChanging(t *testing.T, s store.Store) {
	var still []string
	for i := range 20 {
		still = append(still, fmt.Sprintf("m/%02d/still", i))
		put(t, s, still[i], []byte("x"))
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	for w := range 3 {
		wg.Go(func() { change(t, s, w, done) })
	}
	for range 20 {
		keys := keysOf(t, s, "m/", "", false)
		if !slices.IsSorted(keys) || len(slices.Compact(slices.Clone(keys))) != len(keys) {
			t.Errorf("not in order, or twice: %v", keys)
		}
		kept := slices.DeleteFunc(keys, func(k string) bool { return !strings.HasSuffix(k, "still") })
		if d := diff(still, kept); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
	}
	close(done)
	wg.Wait()
}

func change(t *testing.T, s store.Store, w int, done chan struct{}) {
	for i := 0; ; i++ {
		select {
		case <-done:
			return
		default:
		}
		key := fmt.Sprintf("m/%02d/moving-%d/%d", i%20, w, i%3)
		if err := s.PutIfAbsent(t.Context(), key, strings.NewReader("y"), 1, store.PutOptions{}); err != nil {
			t.Errorf("put %s: %v", key, err)
		}
		if err := s.Delete(t.Context(), key); err != nil {
			t.Errorf("delete %s: %v", key, err)
		}
	}
}

func deleteObjects(t *testing.T, s store.Store) {
	for _, key := range []string{"d/1/x", "d/1/y", "d/2/x", "d/3"} {
		put(t, s, key, []byte(key))
	}
	if err := s.Delete(t.Context()); err != nil {
		t.Errorf("delete nothing: %v", err)
	}
	if err := s.Delete(t.Context(), "d/1/x", "d/absent", "d/1/y", "d/1", "absent/absent"); err != nil {
		t.Errorf("delete: %v", err)
	}
	if d := diff([]string{"d/2/", "d/3"}, keysOf(t, s, "d/", "", true)); d != "" {
		t.Errorf("a deleted object's prefix is listed (-want +got):\n%s", d)
	}
	if _, err := s.Get(t.Context(), "d/1/x", 0, -1); !errors.Is(err, store.ErrNotExist) {
		t.Errorf("get a deleted object: %v", err)
	}
	put(t, s, "d/1/x", []byte("again"))
}
