package file

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"

	"github.com/pgkeep/pgkeep/state/repository/store"
)

var errSoon = errors.New("not built yet")

// Options of Open; the zero value is the normal case.
type Options struct {
	Fstab  string // file to read mount points from; empty: /etc/fstab
	Mounts string // file to read what is mounted from; empty: /proc/self/mountinfo
}

// Store keeps objects as files below one directory.
type Store struct{ path string }

// Open gives the store below path. Nothing is written; the directory need not exist.
func Open(path string, o Options) (*Store, error) { return &Store{path: path}, nil }

// Close lets go of the directory.
func (s *Store) Close() error { return nil }

// PutIfAbsent is store.Store's.
func (s *Store) PutIfAbsent(ctx context.Context, key string, body io.ReaderAt, size int64, o store.PutOptions) error {
	return errSoon
}

// Get is store.Store's.
func (s *Store) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	return nil, errSoon
}

// Stat is store.Store's.
func (s *Store) Stat(ctx context.Context, key string) (store.Info, error) {
	return store.Info{}, errSoon
}

// List is store.Store's.
func (s *Store) List(ctx context.Context, prefix, after string, delimited bool) iter.Seq2[store.Info, error] {
	return func(yield func(store.Info, error) bool) { yield(store.Info{}, errSoon) }
}

// Delete is store.Store's.
func (s *Store) Delete(ctx context.Context, keys ...string) error { return errSoon }

// Extend is store.Store's.
func (s *Store) Extend(ctx context.Context, key string, until time.Time) error {
	return store.ErrUnsupported
}

// Capabilities is store.Store's.
func (s *Store) Capabilities() store.Capabilities {
	return store.Capabilities{ConditionalPut: true, LocalPath: s.path}
}
