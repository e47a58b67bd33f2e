package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/pgkeep/pgkeep/state/repository/store"
)

// putTries bounds how often a put begins again because a directory or its temporary file was removed under it.
const putTries = 10

// PutIfAbsent is store.Store's. ErrExists, too, means durable: the directory was fsynced here.
func (s *Store) PutIfAbsent(ctx context.Context, key string, body io.ReaderAt, size int64, o store.PutOptions) error {
	if err := errors.Join(ctx.Err(), store.CheckKey(key)); err != nil {
		return err
	}
	if !o.Retain.IsZero() {
		return fmt.Errorf("put object %s with retention: %w", key, store.ErrUnsupported)
	}
	root, err := s.openOrMake()
	if err != nil {
		return err
	}
	err = s.putObject(ctx, root, key, body, size)
	if full(err) && o.Reserve && s.dropBallast(root) {
		err = s.putObject(ctx, root, key, body, size)
	}
	if err == nil {
		s.keepBallast(root)
	}
	return err
}

func (s *Store) putObject(ctx context.Context, root *os.Root, key string, body io.ReaderAt, size int64) error {
	if err := errors.Join(noLinks(root, tempDir), noLinks(root, path.Dir(key))); err != nil {
		return fmt.Errorf("put object %s: %w", key, err)
	}
	if err := s.ready(root); err != nil {
		return err
	}
	for range putTries {
		if _, err := root.Lstat(key); err == nil {
			if err := s.exists(root, key); !errors.Is(err, errGone) {
				return err
			}
			continue
		}
		again, err := s.put(ctx, root, key, io.NewSectionReader(body, 0, size), size)
		if !again {
			return err
		}
	}
	return fmt.Errorf("put object %s: its directory was removed under it %d times", key, putTries)
}

// put writes a temporary file and names it. again means that the ground moved and nothing was written.
func (s *Store) put(ctx context.Context, root *os.Root, key string, body io.Reader, size int64) (again bool, err error) {
	t, err := newTemp(root)
	if err != nil {
		return false, fmt.Errorf("put object %s: %w", key, err)
	}
	defer t.discard()
	if err := t.fill(ctx, body, size); err != nil {
		return false, fmt.Errorf("put object %s: %w", key, err)
	}
	// Either error comes when somebody removes the directory meanwhile; naming the file tells what is so.
	if err := root.MkdirAll(path.Dir(key), dirMode); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) {
		return false, fmt.Errorf("put object %s: %w", key, err)
	}
	switch err := t.name(key, s.namingNow()); {
	case errors.Is(err, fs.ErrExist):
		err := s.exists(root, key)
		return errors.Is(err, errGone), err
	case errors.Is(err, fs.ErrNotExist):
		return true, nil // the temporary file was collected, or an emptied directory removed
	case err != nil:
		return false, fmt.Errorf("put object %s: %w", key, err)
	}
	if err := s.settle(root, path.Dir(key)); absent(err) {
		return true, nil // somebody deleted the object at once, and its directory with it: this put comes after that
	} else if err != nil {
		return false, fmt.Errorf("put object %s: it has its name, but may not survive a power cut: %w", key, err)
	}
	return false, nil
}

// errGone means that what was there a moment ago is not any more.
var errGone = errors.New("the object was deleted meanwhile")

// exists makes sure that the object of another writer is durable too, and says that it is there; errGone when it was
// deleted meanwhile, together with its directory.
func (s *Store) exists(root *os.Root, key string) error {
	if err := s.settle(root, path.Dir(key)); absent(err) {
		return errGone
	} else if err != nil {
		return fmt.Errorf("put object %s: it exists, but may not survive a power cut: %w", key, err)
	}
	return fmt.Errorf("put object %s: %w", key, store.ErrExists)
}

// openOrMake gives the root, making the directory and its parents when they are absent.
func (s *Store) openOrMake() (*os.Root, error) {
	root, err := s.open()
	if !errors.Is(err, store.ErrAbsent) {
		return root, err
	}
	first := s.path // the topmost directory that is missing
	for parent := filepath.Dir(first); ; first, parent = parent, filepath.Dir(parent) {
		if _, err := os.Stat(parent); err == nil {
			break
		} else if !errors.Is(err, fs.ErrNotExist) || parent == first {
			return nil, fmt.Errorf("make store: %w", err)
		}
	}
	if err := os.MkdirAll(s.path, dirMode); err != nil {
		return nil, fmt.Errorf("make store: %w", err)
	}
	for at := s.path; ; at = filepath.Dir(at) {
		if err := syncPath(filepath.Dir(at)); err != nil {
			return nil, fmt.Errorf("make store: %w", err)
		}
		if at == first {
			return s.open()
		}
	}
}

func syncPath(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
