package repository

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"sync"
	"syscall"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/store"
)

// coded gives the errors of a store the codes that operators know, and remembers the newest time that the store told.
// What callers branch on (ErrExists, ErrNotExist, cancellation) stays to be found in the chain.
type coded struct {
	store.Store

	mu     sync.Mutex
	newest time.Time
}

func (s *coded) saw(t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.After(s.newest) {
		s.newest = t
	}
}

// now gives the newest time that the store told; zero: none.
func (s *coded) now() time.Time {
	if s == nil {
		return time.Time{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.newest
}

// PutIfAbsent is store.Store's.
func (s *coded) PutIfAbsent(ctx context.Context, key string, body io.ReaderAt, size int64, o store.PutOptions) error {
	return code(s.Store.PutIfAbsent(ctx, key, body, size, o))
}

// Get is store.Store's.
func (s *coded) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	r, err := s.Store.Get(ctx, key, off, n)
	return r, code(err)
}

// Stat is store.Store's.
func (s *coded) Stat(ctx context.Context, key string) (store.Info, error) {
	info, err := s.Store.Stat(ctx, key)
	s.saw(info.Modified)
	return info, code(err)
}

// List is store.Store's.
func (s *coded) List(ctx context.Context, prefix, after string, delimited bool) iter.Seq2[store.Info, error] {
	return func(yield func(store.Info, error) bool) {
		for info, err := range s.Store.List(ctx, prefix, after, delimited) {
			s.saw(info.Modified)
			if !yield(info, code(err)) {
				return
			}
		}
	}
}

// Delete is store.Store's.
func (s *coded) Delete(ctx context.Context, keys ...string) error {
	return code(s.Store.Delete(ctx, keys...))
}

// Extend is store.Store's.
func (s *coded) Extend(ctx context.Context, key string, r store.Retention) error {
	return code(s.Store.Extend(ctx, key, r))
}

// Retained is store.Store's.
func (s *coded) Retained(ctx context.Context, key string) (store.Retention, error) {
	r, err := s.Store.Retained(ctx, key)
	return r, code(err)
}

// Explain gives an error of a store the code and the hint that operators know.
func Explain(err error) error { return code(err) }

// code wraps an error that an operator has to act on.
func code(err error) error {
	var trouble *store.Trouble
	switch {
	case err == nil, state.CodeOf(err) != "", errors.Is(err, store.ErrExists), errors.Is(err, store.ErrNotExist), errors.Is(err, context.Canceled),
		errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.As(err, &trouble):
		return &state.Error{Code: troubleCode(trouble.Kind), Text: trouble.Text, Hint: trouble.Hint, Err: trouble.Err}
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return &state.Error{
			Code: state.CodeDiskFull, Text: "the repository's disk is full",
			Hint: "make room on its file system, or let retention delete more; what failed is tried again", Err: err,
		}
	case errors.Is(err, store.ErrAbsent):
		return &state.Error{
			Code: state.CodeNotMounted, Text: "the repository's directory is gone", Hint: "mount its file system: findmnt --verify", Err: err,
		}
	case errors.Is(err, store.ErrRetained):
		return &state.Error{
			Code: state.CodePermission, Text: "the repository keeps the object from being deleted",
			Hint: "wait until its lock has ended, or let this user delete: see Credentials in docs/repositories.md", Err: err,
		}
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return &state.Error{
			Code: state.CodePermission, Text: "the repository cannot be read or written by this user",
			Hint: "run pgkeep as the user who owns the repository, and look whether it is mounted read-only", Err: err,
		}
	}
	return &state.Error{Code: state.CodeIO, Text: "the repository's store failed", Hint: "look at its disk or service, and at this machine's log (dmesg), then: pgkeep check", Err: err}
}

// troubleCode gives the code of a failure of which the driver has said what to do.
func troubleCode(k store.Kind) state.Code {
	switch k {
	case store.Denied:
		return state.CodePermission
	case store.Unreachable:
		return state.CodeUnreachable
	case store.Unconditional:
		return state.CodeUnconditionalStore
	case store.Unlocked:
		return state.CodeNoObjectLock
	case store.Insecure:
		return state.CodeTLS
	case store.Missing, store.Clock:
	}
	return state.CodeIO
}

// forked is the error for other bytes under a name that is archived.
func forked(what, archived, offered string) error {
	return &state.Error{
		Code: state.CodeFork,
		Text: fmt.Sprintf("%s is archived with other bytes: SHA-256 %s is archived, %s was offered; nothing was overwritten", what, archived, offered),
		Hint: "two servers have written this timeline: compare pg_controldata of both, and give the one that is not to be kept another stored name",
		Err:  store.ErrExists,
	}
}
