package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"syscall"

	"github.com/pgkeep/pgkeep/state/repository/store"
)

// Delete is store.Store's. It is durable on return, and directories that it emptied are removed.
func (s *Store) Delete(ctx context.Context, keys ...string) error {
	for _, key := range keys {
		if err := store.CheckKey(key); err != nil {
			return err
		}
	}
	root, err := s.open()
	if err != nil {
		return err
	}
	var problems []error
	touched := map[string]bool{}
	for _, key := range keys {
		if err := ctx.Err(); err != nil {
			problems = append(problems, err)
			break
		}
		if err := s.remove(root, key); err != nil {
			problems = append(problems, err)
			continue
		}
		touched[path.Dir(key)] = true
	}
	dirs := make([]string, 0, len(touched))
	for dir := range touched {
		dirs = append(dirs, dir)
	}
	if len(dirs) > 0 {
		s.ballastAgain()
	}
	slices.Sort(dirs)
	for _, dir := range slices.Backward(dirs) {
		if err := s.tidy(root, dir); err != nil {
			problems = append(problems, err)
		}
	}
	return errors.Join(problems...)
}

func (s *Store) remove(root *os.Root, key string) error {
	if _, err := s.lstat(root, key); errors.Is(err, store.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("delete object: %w", err)
	}
	err := root.Remove(key)
	switch {
	case err == nil || absent(err):
		return nil
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return fmt.Errorf("delete object %s: %w: %w", key, store.ErrRetained, err)
	}
	return fmt.Errorf("delete object: %w", err)
}

// tidy makes the removals in dir durable and removes it, and its parents, when nothing is left in them. A put that wants
// the directory at the same moment makes it again.
func (s *Store) tidy(root *os.Root, dir string) error {
	if _, _, err := syncDir(root, dir); err != nil && !absent(err) {
		return err
	}
	for ; dir != "."; dir = path.Dir(dir) {
		if err := root.Remove(dir); err != nil {
			return nil // not empty, or not ours to remove: either way it may stay
		}
		s.mu.Lock()
		delete(s.durable, dir)
		s.mu.Unlock()
	}
	return nil
}
