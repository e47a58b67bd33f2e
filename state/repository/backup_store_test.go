package repository

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state/repository/seal"
	"github.com/pgkeep/pgkeep/state/repository/store"
)

// memory is a store in memory. Before every call it asks step, which may fail the call, before or after its effect, or
// hold it up: the tests of crashes and of interleavings live on that.
type memory struct {
	mu      sync.Mutex
	objects map[string][]byte
	step    func(call string) (before, after error)
}

func newMemory() *memory { return &memory{objects: map[string][]byte{}} }

func (m *memory) do(call string, effect func() error) error {
	var after error
	if m.step != nil {
		var before error
		if before, after = m.step(call); before != nil {
			return before
		}
	}
	m.mu.Lock()
	err := effect()
	m.mu.Unlock()
	if after != nil {
		return after
	}
	return err
}

func (m *memory) PutIfAbsent(ctx context.Context, key string, body io.ReaderAt, size int64, _ store.PutOptions) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	b := make([]byte, size)
	if n, err := body.ReadAt(b, 0); int64(n) != size {
		return err
	}
	return m.do("put "+key, func() error {
		if _, ok := m.objects[key]; ok {
			return fmt.Errorf("%s: %w", key, store.ErrExists)
		}
		m.objects[key] = b
		return nil
	})
}

func (m *memory) Get(_ context.Context, key string, off, n int64) (io.ReadCloser, error) {
	var out []byte
	err := m.do("get "+key, func() error {
		b, ok := m.objects[key]
		if !ok {
			return fmt.Errorf("%s: %w", key, store.ErrNotExist)
		}
		off = min(off, int64(len(b)))
		if n < 0 || off+n > int64(len(b)) {
			n = int64(len(b)) - off
		}
		out = b[off : off+n]
		return nil
	})
	return io.NopCloser(bytes.NewReader(out)), err
}

func (m *memory) Stat(_ context.Context, key string) (store.Info, error) {
	info := store.Info{Key: key}
	err := m.do("stat "+key, func() error {
		b, ok := m.objects[key]
		if !ok {
			return fmt.Errorf("%s: %w", key, store.ErrNotExist)
		}
		info.Size = int64(len(b))
		return nil
	})
	return info, err
}

func (m *memory) List(_ context.Context, prefix, after string, delimited bool) iter.Seq2[store.Info, error] {
	return func(yield func(store.Info, error) bool) {
		var keys []string
		var infos []store.Info
		err := m.do("list "+prefix, func() error {
			keys = slices.Sorted(maps.Keys(m.objects))
			last := ""
			for _, k := range keys {
				if !strings.HasPrefix(k, prefix) || k <= after {
					continue
				}
				rest := k[len(prefix):]
				if i := strings.Index(rest, "/"); delimited && i >= 0 {
					if p := prefix + rest[:i+1]; p != last {
						infos = append(infos, store.Info{Key: p, Prefix: true})
						last = p
					}
					continue
				}
				infos = append(infos, store.Info{Key: k, Size: int64(len(m.objects[k]))})
			}
			return nil
		})
		if err != nil {
			yield(store.Info{}, err)
			return
		}
		for _, info := range infos {
			if !yield(info, nil) {
				return
			}
		}
	}
}

func (m *memory) Delete(_ context.Context, keys ...string) error {
	for _, k := range keys {
		if err := m.do("delete "+k, func() error { delete(m.objects, k); return nil }); err != nil {
			return err
		}
	}
	return nil
}

func (m *memory) Extend(context.Context, string, store.Retention) error { return store.ErrUnsupported }
func (m *memory) Retained(context.Context, string) (store.Retention, error) {
	return store.Retention{}, store.ErrUnsupported
}
func (m *memory) Capabilities() store.Capabilities { return store.Capabilities{ConditionalPut: true} }

func (m *memory) keys() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.objects))
}

func testCluster(st store.Store) *Cluster {
	key := ClusterKey{Name: "orders.eu", SystemID: "7335180256203400928"}
	known := map[ClusterKey]ClusterFacts{key: {Major: 15, SegmentSize: 16 << 20, PageSize: 8192, PageChecksums: true}}
	r := &Repository{st: st, shared: &shared{facts: known}}
	if ring := suiteKeys(); ring != nil {
		b := &box{Store: st, v: seal.NewVault("a repository", ring)}
		drawTestKeys().addTo(b.v)
		r.st, r.box, r.ring = b, b, ring
	}
	return &Cluster{repo: r, key: key}
}

var testNow = time.Date(2026, 2, 10, 21, 16, 17, 0, time.UTC)

func testIntent(n int) Intent {
	return Intent{
		ID: NewBackupID(testNow.Add(time.Duration(n)*time.Hour), KindFull, uint32(n)), Kind: KindFull, Host: "backup1", Program: "pgkeep test",
		Version: 150018, Timeline: 1, Start: 0x3000028, Redo: 0x3000028, Now: testNow.Add(time.Duration(n) * time.Hour),
	}
}

func must[T any](v T, err error) func(t testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
