package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/pgkeep/pgkeep/state/repository/store"
)

// List is store.Store's. It holds the names of one directory at a time, and of those above it.
func (s *Store) List(ctx context.Context, prefix, after string, delimited bool) iter.Seq2[store.Info, error] {
	return func(yield func(store.Info, error) bool) {
		root, err := s.open()
		if err = errors.Join(ctx.Err(), store.CheckPrefix(prefix), err); err != nil {
			yield(store.Info{}, err)
			return
		}
		if err := noLinks(root, path.Join(".", path.Dir(prefix+"x"))); err != nil {
			yield(store.Info{}, fmt.Errorf("list objects: %w", err))
			return
		}
		l := lister{ctx: ctx, root: root, prefix: prefix, after: after, delimited: delimited, yield: yield}
		dir, _ := path.Split(prefix)
		l.dir(dir)
	}
}

type lister struct {
	ctx           context.Context
	root          *os.Root
	prefix, after string
	delimited     bool
	yield         func(store.Info, error) bool
}

// dir lists what is below dir, which is empty or ends with a slash; false to stop.
func (l *lister) dir(dir string) bool {
	if err := l.ctx.Err(); err != nil {
		l.yield(store.Info{}, err)
		return false
	}
	keys, err := readDir(l.root, dir)
	if err != nil {
		l.yield(store.Info{}, fmt.Errorf("list objects: %w", err))
		return false
	}
	for _, key := range keys {
		if !strings.HasPrefix(key, l.prefix) || l.isBefore(key) {
			continue
		}
		if !l.entry(key) {
			return false
		}
	}
	return true
}

// isBefore tells that neither key nor, for a directory, anything below it sorts after after.
func (l *lister) isBefore(key string) bool {
	inside := strings.HasSuffix(key, "/") && strings.HasPrefix(l.after, key)
	return key <= l.after && !inside
}

func (l *lister) entry(key string) bool {
	switch {
	case !strings.HasSuffix(key, "/"):
		return l.object(key)
	case !l.delimited:
		return l.dir(key)
	case key <= l.after:
		return true
	}
	some, err := holdsObject(l.root, key)
	if err != nil {
		l.yield(store.Info{}, fmt.Errorf("list objects: %w", err))
		return false
	}
	return !some || l.yield(store.Info{Key: key, Prefix: true}, nil)
}

func (l *lister) object(key string) bool {
	info, err := l.root.Lstat(key)
	if err != nil && absent(err) {
		return true // deleted since its directory was read
	}
	if err != nil {
		l.yield(store.Info{}, fmt.Errorf("list objects: %w", err))
		return false
	}
	return l.yield(store.Info{Key: key, Size: info.Size(), Modified: info.ModTime().UTC()}, nil)
}

// readDir gives the keys in dir in byte order; those of directories end with a slash, which is how they sort among the
// others. What is neither a directory nor a regular file, or has no key's name, is not the store's and left out.
func readDir(root *os.Root, dir string) ([]string, error) {
	d, err := root.Open(path.Join(".", dir))
	if err != nil && absent(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer d.Close()
	entries, err := d.ReadDir(-1)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	keys := make([]string, 0, len(entries))
	for _, e := range entries {
		key := dir + e.Name()
		switch {
		case store.CheckKey(key) != nil:
		case e.IsDir():
			keys = append(keys, key+"/")
		case e.Type().IsRegular():
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys, nil
}

// holdsObject tells whether there is any object below dir.
func holdsObject(root *os.Root, dir string) (bool, error) {
	keys, err := readDir(root, dir)
	if err != nil {
		return false, err
	}
	for _, key := range keys {
		if !strings.HasSuffix(key, "/") {
			return true, nil
		}
		if some, err := holdsObject(root, key); some || err != nil {
			return some, err
		}
	}
	return false, nil
}
