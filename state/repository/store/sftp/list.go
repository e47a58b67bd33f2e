package sftp

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"path"
	"slices"
	"strings"

	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/repository/store/remote"
)

// List is remote.Backend's. It holds the names of one directory at a time, and of those above it.
func (b *backend) List(ctx context.Context, q remote.Query) iter.Seq2[store.Info, error] {
	return func(yield func(store.Info, error) bool) {
		err := b.with(ctx, func(s *session) error {
			if err := b.missing(s); !errors.Is(err, store.ErrNotExist) {
				return err
			}
			l := &lister{ctx: ctx, b: b, s: s, q: q, yield: yield}
			dir, _ := path.Split(q.Prefix)
			err := l.dir(dir)
			if errors.Is(err, errEnough) {
				return nil
			}
			return err
		})
		if err != nil {
			yield(store.Info{}, err)
		}
	}
}

// errEnough means that the caller wants no more.
var errEnough = errors.New("enough")

type lister struct {
	ctx   context.Context
	b     *backend
	s     *session
	q     remote.Query
	yield func(store.Info, error) bool
}

// dir lists what is below dir, which is empty or ends with a slash.
func (l *lister) dir(dir string) error {
	entries, err := l.read(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		inside := e.Prefix && strings.HasPrefix(l.q.After, e.Key)
		if !strings.HasPrefix(e.Key, l.q.Prefix) && !strings.HasPrefix(l.q.Prefix, e.Key) || e.Key <= l.q.After && !inside {
			continue
		}
		if err := l.entry(e); err != nil {
			return err
		}
	}
	return nil
}

func (l *lister) entry(e store.Info) error {
	switch {
	case !e.Prefix:
	case !l.q.Delimited:
		return l.dir(e.Key)
	case e.Key <= l.q.After:
		return nil
	default:
		if some, err := l.holdsObject(e.Key); !some || err != nil {
			return err
		}
	}
	if !l.yield(e, nil) {
		return errEnough
	}
	return nil
}

// read gives what is in dir in byte order of keys; those of directories end with a slash, which is how they sort.
func (l *lister) read(dir string) ([]store.Info, error) {
	if err := l.ctx.Err(); err != nil {
		return nil, err
	}
	entries, err := l.s.ReadDir(l.b.file(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, l.b.judge(err)
	}
	var out []store.Info
	for _, e := range entries {
		switch {
		case e.IsDir() && e.Name()[0] != '.':
			out = append(out, store.Info{Key: dir + e.Name() + "/", Prefix: true})
		case e.Mode().IsRegular():
			out = append(out, store.Info{Key: dir + e.Name(), Size: e.Size(), Modified: e.ModTime().UTC()})
		}
	}
	slices.SortFunc(out, func(a, b store.Info) int { return strings.Compare(a.Key, b.Key) })
	return out, nil
}

// holdsObject tells whether there is any object below dir.
func (l *lister) holdsObject(dir string) (bool, error) {
	entries, err := l.read(dir)
	if err != nil {
		return false, err
	}
	for _, e := range entries {
		if !e.Prefix {
			return true, nil
		}
		if some, err := l.holdsObject(e.Key); some || err != nil {
			return some, err
		}
	}
	return false, nil
}

// Delete is remote.Backend's. It is durable on return, and directories that it emptied are removed.
func (b *backend) Delete(ctx context.Context, keys []string) error {
	return b.with(ctx, func(s *session) error {
		touched := map[string]bool{}
		for _, key := range keys {
			if err := ctx.Err(); err != nil {
				return err
			}
			switch _, err := b.look(s, key); {
			case errors.Is(err, store.ErrNotExist):
				continue
			case err != nil:
				return err
			}
			err := s.Remove(b.file(key))
			switch {
			case errors.Is(err, fs.ErrPermission):
				return errors.Join(store.ErrRetained, err)
			case err != nil && !errors.Is(err, fs.ErrNotExist):
				return err
			}
			touched[path.Dir(key)] = true
		}
		for dir := range touched {
			if err := b.tidy(s, dir); err != nil {
				return err
			}
		}
		return nil
	})
}

// tidy makes the removals in dir durable and removes it, and its parents, when nothing is left in them.
func (b *backend) tidy(s *session, dir string) error {
	if err := b.sync(s, dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for ; dir != "."; dir = path.Dir(dir) {
		if err := s.RemoveDirectory(b.file(dir)); err != nil {
			return nil // not empty, or not ours to remove: either way it may stay
		}
		b.mu.Lock()
		delete(s.durable, dir)
		b.mu.Unlock()
	}
	return nil
}
