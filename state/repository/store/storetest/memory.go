package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pgkeep/pgkeep/state/repository/store"
)

// Memory is a store in memory.
type Memory struct {
	// Locks says that it keeps objects that are to be retained, by its clock.
	Locks bool

	clock func() time.Time

	mu      sync.Mutex
	objects map[string]object
}

type object struct {
	body     []byte
	modified time.Time
	retain   store.Retention
}

// NewMemory gives an empty store whose objects carry the times of clock; nil: none.
func NewMemory(clock func() time.Time) *Memory {
	if clock == nil {
		clock = func() time.Time { return time.Time{} }
	}
	return &Memory{clock: clock, objects: map[string]object{}}
}

// Clone gives a store with the same objects, which goes its own way: what a crash at this moment would leave.
func (m *Memory) Clone() *Memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	return &Memory{Locks: m.Locks, clock: m.clock, objects: maps.Clone(m.objects)}
}

// Set puts bytes where a writer could not: over an object. Nil removes it. It is how a test damages a repository.
func (m *Memory) Set(key string, body []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if body == nil {
		delete(m.objects, key)
		return
	}
	m.objects[key] = object{body: bytes.Clone(body), modified: m.clock()}
}

// Bytes gives an object's bytes; nil when there is none.
func (m *Memory) Bytes(key string) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return bytes.Clone(m.objects[key].body)
}

// Keys gives all keys in byte order.
func (m *Memory) Keys() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.objects))
}

// PutIfAbsent is store.Store's.
func (m *Memory) PutIfAbsent(ctx context.Context, key string, body io.ReaderAt, size int64, o store.PutOptions) error {
	if err := errors.Join(ctx.Err(), store.CheckKey(key)); err != nil {
		return err
	}
	if !o.Retain.IsZero() && !m.Locks {
		return store.ErrUnsupported
	}
	b := make([]byte, size)
	if n, err := io.ReadFull(io.NewSectionReader(body, 0, size), b); err != nil && size > 0 {
		return fmt.Errorf("put object %s: read the body, %d of %d bytes: %w", key, n, size, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, taken := m.objects[key]; taken {
		return fmt.Errorf("put object %s: %w", key, store.ErrExists)
	}
	m.objects[key] = object{body: b, modified: m.clock(), retain: o.Retain}
	return nil
}

func (m *Memory) find(ctx context.Context, key string) (object, error) {
	if err := errors.Join(ctx.Err(), store.CheckKey(key)); err != nil {
		return object{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	o, ok := m.objects[key]
	if !ok {
		return o, fmt.Errorf("%s: %w", key, store.ErrNotExist)
	}
	return o, nil
}

// Get is store.Store's.
func (m *Memory) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	o, err := m.find(ctx, key)
	if err != nil {
		return nil, err
	}
	if off < 0 {
		return nil, fmt.Errorf("read object %s: offset %d is negative", key, off)
	}
	if n < 0 {
		n = int64(len(o.body))
	}
	return io.NopCloser(io.NewSectionReader(bytes.NewReader(o.body), off, n)), nil
}

// Stat is store.Store's.
func (m *Memory) Stat(ctx context.Context, key string) (store.Info, error) {
	o, err := m.find(ctx, key)
	if err != nil {
		return store.Info{}, err
	}
	return store.Info{Key: key, Size: int64(len(o.body)), Modified: o.modified}, nil
}

// List is store.Store's. It sees the objects as they were when it began.
func (m *Memory) List(ctx context.Context, prefix, after string, delimited bool) iter.Seq2[store.Info, error] {
	return func(yield func(store.Info, error) bool) {
		if err := errors.Join(ctx.Err(), store.CheckPrefix(prefix)); err != nil {
			yield(store.Info{}, err)
			return
		}
		for _, info := range m.listed(prefix, after, delimited) {
			if !yield(info, nil) {
				return
			}
		}
	}
}

func (m *Memory) listed(prefix, after string, delimited bool) []store.Info {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []store.Info
	for _, key := range slices.Sorted(maps.Keys(m.objects)) {
		rest, ok := strings.CutPrefix(key, prefix)
		if !ok {
			continue
		}
		info := store.Info{Key: key, Size: int64(len(m.objects[key].body)), Modified: m.objects[key].modified}
		if at := strings.Index(rest, "/"); delimited && at >= 0 {
			info = store.Info{Key: prefix + rest[:at+1], Prefix: true}
		}
		if info.Key > after && (len(out) == 0 || out[len(out)-1].Key != info.Key) {
			out = append(out, info)
		}
	}
	return out
}

// Delete is store.Store's.
func (m *Memory) Delete(ctx context.Context, keys ...string) error {
	for _, key := range keys {
		if err := errors.Join(ctx.Err(), store.CheckKey(key)); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var retained error
	for _, key := range keys {
		if until := m.objects[key].retain.Until; until.After(m.clock()) {
			retained = fmt.Errorf("delete object %s, locked until %s: %w", key, until.Format(time.RFC3339), store.ErrRetained)
			continue
		}
		delete(m.objects, key)
	}
	return retained
}

// Extend is store.Store's.
func (m *Memory) Extend(ctx context.Context, key string, r store.Retention) error {
	if !m.Locks {
		return store.ErrUnsupported
	}
	o, err := m.find(ctx, key)
	if err != nil {
		return err
	}
	o.retain.Compliance = o.retain.Compliance || r.Compliance
	if r.Until.After(o.retain.Until) {
		o.retain.Until = r.Until
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.objects[key] = o
	return nil
}

// Retained is store.Store's.
func (m *Memory) Retained(ctx context.Context, key string) (store.Retention, error) {
	if !m.Locks {
		return store.Retention{}, store.ErrUnsupported
	}
	o, err := m.find(ctx, key)
	if !o.retain.Until.After(m.clock()) {
		return store.Retention{}, err
	}
	return o.retain, err
}

// Capabilities is store.Store's.
func (m *Memory) Capabilities() store.Capabilities {
	return store.Capabilities{ConditionalPut: true, ObjectLock: m.Locks}
}
