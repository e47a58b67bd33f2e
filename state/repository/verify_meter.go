package repository

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/pgkeep/pgkeep/state/repository/store"
)

// metered is a store that counts what is read, and reads no faster than a rate.
type metered struct {
	store.Store
	rate int64 // bytes a second; 0: as fast as it goes
	now  func() time.Time
	tell func(bytes int64) // nil: nobody

	mu      sync.Mutex
	objects int64
	bytes   int64
	free    time.Time // when what was read so far is paid for
}

// Get is store.Store's.
func (m *metered) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	r, err := m.Store.Get(ctx, key, off, n)
	if err != nil {
		return nil, err //nolint:wrapcheck // it is the store's own answer
	}
	m.mu.Lock()
	m.objects++
	m.mu.Unlock()
	return &meteredReader{ReadCloser: r, ctx: ctx, m: m}, nil
}

// read counts n bytes, and gives how long to wait before more are read.
func (m *metered) read(n int) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.bytes += int64(n)
	if m.tell != nil {
		m.tell(m.bytes)
	}
	if m.rate <= 0 {
		return 0
	}
	now := m.now()
	if m.free.Before(now) {
		m.free = now
	}
	m.free = m.free.Add(time.Duration(float64(n) / float64(m.rate) * float64(time.Second)))
	return m.free.Sub(now)
}

func (m *metered) counts() (objects, bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.objects, m.bytes
}

// meteredReader is one read of an object.
type meteredReader struct {
	io.ReadCloser
	ctx context.Context // of the Get that gave it
	m   *metered
}

// meterStep is the longest read at a time, so that a slow rate is kept evenly.
const meterStep = 256 << 10

// Read is io.Reader's.
func (r *meteredReader) Read(p []byte) (int, error) {
	if len(p) > meterStep {
		p = p[:meterStep]
	}
	n, err := r.ReadCloser.Read(p)
	wait := r.m.read(n)
	if wait <= 0 {
		return n, err //nolint:wrapcheck // io.EOF among others
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return n, err //nolint:wrapcheck // likewise
	case <-r.ctx.Done():
		return n, fmt.Errorf("read at the rate that is allowed: %w", context.Cause(r.ctx))
	}
}
