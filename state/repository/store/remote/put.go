package remote

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/pgkeep/pgkeep/state/repository/store"
)

// PutIfAbsent is store.Store's. The first one of a Store probes whether the provider puts conditionally at all.
func (s *Store) PutIfAbsent(ctx context.Context, key string, body io.ReaderAt, size int64, o store.PutOptions) error {
	if err := errors.Join(ctx.Err(), store.CheckKey(key)); err != nil {
		return err
	}
	if err := s.Probe(ctx); err != nil {
		return err
	}
	if err := s.mayRetain(o.Retain); err != nil {
		return fmt.Errorf("put object %s: %w", key, err)
	}
	if err := s.put(ctx, key, io.NewSectionReader(body, 0, size), o.Retain); err != nil {
		return fmt.Errorf("put object %s: %w", key, err)
	}
	return nil
}

// put tries until the object is there. After a try whose answer was lost "exists" may mean our own object: then its token,
// or where none is kept its bytes, say whose it is.
func (s *Store) put(ctx context.Context, key string, body *io.SectionReader, r store.Retention) error {
	size := body.Size()
	token := newToken()
	unsure := false
	return s.retry(ctx, func(ctx context.Context) error {
		m := &measured{r: body, size: size}
		err := s.b.Put(ctx, Upload{Key: key, Body: io.NewSectionReader(m, 0, size), Token: token, Retain: r})
		if failed := m.failure(); failed != nil && err != nil {
			return failed
		}
		switch {
		case errors.Is(err, store.ErrExists) && unsure:
			return s.whose(ctx, key, token, io.NewSectionReader(body, 0, size))
		case err != nil && !errors.Is(err, store.ErrExists):
			unsure = true
		}
		return err
	})
}

// whose returns nil when the object is ours, and ErrExists when it is another's.
func (s *Store) whose(ctx context.Context, key, token string, body *io.SectionReader) error {
	o, err := s.b.Stat(ctx, key)
	switch {
	case err != nil:
		return fmt.Errorf("look whose object it is: %w", err)
	case o.Token != "" && o.Token != token, o.Size != body.Size():
		return store.ErrExists
	case o.Token == token:
		return nil
	}
	stored, err := s.b.Get(ctx, key, 0, -1)
	if err != nil {
		return fmt.Errorf("look whose object it is: %w", err)
	}
	defer stored.Close()
	same, err := equal(stored, body)
	if err != nil {
		return fmt.Errorf("look whose object it is: %w", err)
	}
	if !same {
		return store.ErrExists
	}
	return nil
}

func equal(a, b io.Reader) (bool, error) {
	x, y := make([]byte, 32<<10), make([]byte, 32<<10)
	for {
		n, errA := io.ReadFull(a, x)
		m, errB := io.ReadFull(b, y)
		endA, endB := ended(errA), ended(errB)
		switch {
		case errA != nil && !endA:
			return false, errA
		case errB != nil && !endB:
			return false, errB
		case n != m || !bytes.Equal(x[:n], y[:m]):
			return false, nil
		case endA || endB:
			return endA && endB, nil
		}
	}
}

func ended(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }

func newToken() string {
	var b [16]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// bodyError is a failure of what was to be stored, and not of the store.
type bodyError struct{ err error }

func (e *bodyError) Error() string { return "read the body: " + e.err.Error() }
func (e *bodyError) Unwrap() error { return e.err }

// measured notices when a body fails or ends before its size: clients hide that in errors of their own.
type measured struct {
	r    io.ReaderAt
	size int64

	mu  sync.Mutex
	err error
}

// ReadAt is io.ReaderAt's.
func (m *measured) ReadAt(p []byte, off int64) (int, error) {
	n, err := m.r.ReadAt(p, off)
	if err == nil || off+int64(n) >= m.size {
		return n, err
	}
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("it ends after %d of %d bytes: %w", off+int64(n), m.size, io.ErrUnexpectedEOF)
	}
	failed := &bodyError{err}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = failed
	return n, failed
}

func (m *measured) failure() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err
}
