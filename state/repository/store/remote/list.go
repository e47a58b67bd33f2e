package remote

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/pgkeep/pgkeep/state/repository/store"
)

// maxIdleLists bounds how often a list may break without a key in between.
const maxIdleLists = 8

// List is store.Store's. It goes on after the last key when a connection breaks.
func (s *Store) List(ctx context.Context, prefix, after string, delimited bool) iter.Seq2[store.Info, error] {
	return func(yield func(store.Info, error) bool) {
		if err := errors.Join(ctx.Err(), store.CheckPrefix(prefix)); err != nil {
			yield(store.Info{}, err)
			return
		}
		l := &listing{s: s, q: Query{prefix, after, delimited}, yield: yield}
		if err := l.all(ctx); err != nil && !l.stopped {
			yield(store.Info{}, fmt.Errorf("list objects %s*: %w", prefix, s.explain(ctx, err)))
		}
	}
}

type listing struct {
	s       *Store
	q       Query
	yield   func(store.Info, error) bool
	stopped bool
}

// all lists to the end, over as many tries as that takes. The time that the caller needs between keys does not count.
func (l *listing) all(ctx context.Context) error {
	pauses := l.s.pauses()
	for idle := 1; ; idle++ {
		from := l.q.After
		err := l.some(ctx)
		if err == nil || l.stopped || !l.s.transient(ctx, err) {
			return err
		}
		if l.q.After != from {
			idle = 1
			pauses.Reset()
		}
		if idle >= maxIdleLists || idle >= firstTries && !l.s.reached.Load() {
			return err
		}
		if err := pause(ctx, pauses.NextBackOff()); err != nil {
			return err
		}
	}
}

// some lists until the end or a failure.
func (l *listing) some(ctx context.Context) error {
	first := l.q.After
	for info, err := range l.s.b.List(ctx, l.q) {
		if err != nil {
			return err
		}
		if !l.ours(info) || info.Key <= first {
			continue
		}
		if info.Key <= l.q.After {
			return l.s.unfit(fmt.Sprintf("lists %q after %q: not in byte order", info.Key, l.q.After))
		}
		l.q.After = info.Key
		if !l.yield(info, nil) {
			l.stopped = true
			return nil
		}
	}
	l.s.reached.Store(true)
	return ctx.Err()
}

// ours tells keys from names that are not the repository's.
func (l *listing) ours(info store.Info) bool {
	key := info.Key
	if info.Prefix {
		key = strings.TrimSuffix(key, "/")
	}
	return strings.HasPrefix(info.Key, l.q.Prefix) && store.CheckKey(key) == nil
}
