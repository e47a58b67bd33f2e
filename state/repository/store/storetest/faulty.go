package storetest

import (
	"context"
	"io"
	"iter"
	"sync/atomic"

	"github.com/pgkeep/pgkeep/state/repository/store"
)

// Call is one call of a store's method.
type Call struct {
	N      int64  // counted from 1 over all methods
	Method string // "PutIfAbsent", "Get", "Stat", "List", "Delete", "Extend", "Retained"
	Key    string // the key, the prefix of a List, the first key of a Delete
}

// Faulty passes calls on to a store, and fails those that a test chooses. Nil hooks change nothing.
type Faulty struct {
	store.Store
	// Before may refuse a call: the store below does not see it.
	Before func(Call) error
	// After may fail a call that the store below has carried out: a lost answer.
	After func(Call) error
	// Read may wrap what Get gives: short reads, cut connections, other bytes.
	Read func(Call, io.ReadCloser) io.ReadCloser

	calls atomic.Int64
}

// Calls gives how many calls there were.
func (f *Faulty) Calls() int64 { return f.calls.Load() }

func (f *Faulty) around(method, key string, call func() error) error {
	c := Call{N: f.calls.Add(1), Method: method, Key: key}
	if f.Before != nil {
		if err := f.Before(c); err != nil {
			return err
		}
	}
	err := call()
	if err == nil && f.After != nil {
		return f.After(c)
	}
	return err
}

// PutIfAbsent is store.Store's.
func (f *Faulty) PutIfAbsent(ctx context.Context, key string, body io.ReaderAt, size int64, o store.PutOptions) error {
	return f.around("PutIfAbsent", key, func() error { return f.Store.PutIfAbsent(ctx, key, body, size, o) })
}

// Get is store.Store's.
func (f *Faulty) Get(ctx context.Context, key string, off, n int64) (r io.ReadCloser, err error) {
	var c Call
	err = f.around("Get", key, func() (err error) {
		c = Call{N: f.calls.Load(), Method: "Get", Key: key}
		r, err = f.Store.Get(ctx, key, off, n)
		return err
	})
	if err != nil {
		if r != nil {
			r.Close()
		}
		return nil, err
	}
	if f.Read != nil {
		return f.Read(c, r), nil
	}
	return r, nil
}

// Stat is store.Store's.
func (f *Faulty) Stat(ctx context.Context, key string) (info store.Info, err error) {
	err = f.around("Stat", key, func() (err error) {
		info, err = f.Store.Stat(ctx, key)
		return err
	})
	return info, err
}

// List is store.Store's.
func (f *Faulty) List(ctx context.Context, prefix, after string, delimited bool) iter.Seq2[store.Info, error] {
	return func(yield func(store.Info, error) bool) {
		err := f.around("List", prefix, func() error { return nil })
		if err != nil {
			yield(store.Info{}, err)
			return
		}
		f.Store.List(ctx, prefix, after, delimited)(yield)
	}
}

// Delete is store.Store's.
func (f *Faulty) Delete(ctx context.Context, keys ...string) error {
	first := ""
	if len(keys) > 0 {
		first = keys[0]
	}
	return f.around("Delete", first, func() error { return f.Store.Delete(ctx, keys...) })
}

// Extend is store.Store's.
func (f *Faulty) Extend(ctx context.Context, key string, r store.Retention) error {
	return f.around("Extend", key, func() error { return f.Store.Extend(ctx, key, r) })
}

// Retained is store.Store's.
func (f *Faulty) Retained(ctx context.Context, key string) (r store.Retention, err error) {
	err = f.around("Retained", key, func() (err error) {
		r, err = f.Store.Retained(ctx, key)
		return err
	})
	return r, err
}
