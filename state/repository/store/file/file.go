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
	"sync"
	"syscall"

	"github.com/pgkeep/pgkeep/state/repository/store"
)

// Options of Open; the zero value is the normal case.
type Options struct {
	Fstab  string // file to read mount points from; empty: /etc/fstab
	Mounts string // file to read what is mounted from; empty: /proc/self/mountinfo
}

// Store keeps objects as files below one directory. It is safe for many goroutines and many processes at once.
type Store struct {
	path string
	o    Options

	mu        sync.Mutex
	root      *os.Root // nil until the directory was seen
	naming    naming   // how a temporary file gets its final name; unknown until the first put
	durable   map[string]identity
	ballasted bool // the ballast was looked for
}

var (
	_ store.Store = (*Store)(nil)
	_ store.Place = (*Store)(nil)
)

// Open gives the store below path, an absolute path. Nothing is written, and the directory need not exist: until it does, every
// read answers store.ErrAbsent, and the first put makes it.
func Open(path string, o Options) (*Store, error) {
	if !filepath.IsAbs(path) {
		return nil, fmt.Errorf("open store: %q is not an absolute path", path)
	}
	if o.Fstab == "" {
		o.Fstab = "/etc/fstab"
	}
	if o.Mounts == "" {
		o.Mounts = "/proc/self/mountinfo"
	}
	s := &Store{path: filepath.Clean(path), o: o, durable: map[string]identity{}}
	if _, err := s.open(); err != nil && !errors.Is(err, store.ErrAbsent) {
		return nil, err
	}
	return s, nil
}

// Close lets go of the directory, so that its file system can be unmounted.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.root == nil {
		return nil
	}
	err := s.root.Close()
	s.root = nil
	return err
}

// open gives the root, opening it when that was not possible before.
func (s *Store) open() (*os.Root, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.root != nil {
		return s.root, nil
	}
	root, err := os.OpenRoot(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open %s: %w", s.path, store.ErrAbsent)
	}
	if info, serr := os.Stat(s.path); err != nil && serr == nil && !info.IsDir() { // os has its own, unnamed error for this
		err = &fs.PathError{Op: "open", Path: s.path, Err: syscall.ENOTDIR}
	}
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	s.root = root
	return root, nil
}

// missing tells the absence of an object from the absence of the whole place.
func (s *Store) missing(root *os.Root, key string) error {
	held, err := root.Stat(".")
	if err != nil {
		return fmt.Errorf("look at %s: %w", s.path, err)
	}
	now, err := os.Stat(s.path)
	if err != nil || !os.SameFile(held, now) {
		return fmt.Errorf("%s is no longer the directory that was opened: %w", s.path, store.ErrAbsent)
	}
	return fmt.Errorf("%s: %w", key, store.ErrNotExist)
}

// absent tells whether an error of the operating system means that nothing has the name.
func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// lstat gives the facts of a key's file; ErrNotExist unless a regular file has the name.
func (s *Store) lstat(root *os.Root, key string) (fs.FileInfo, error) {
	if err := noLinks(root, path.Dir(key)); err != nil {
		return nil, fmt.Errorf("look at object %s: %w", key, err)
	}
	info, err := root.Lstat(key)
	switch {
	case err != nil && absent(err):
		return nil, s.missing(root, key)
	case err != nil:
		return nil, fmt.Errorf("look at object: %w", err)
	case info.IsDir():
		return nil, s.missing(root, key)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("look at object %s: it is no regular file (%s)", key, info.Mode().Type())
	}
	return info, nil
}

// noLinks tells whether dir and every directory above it is one and no link to one: List shows nothing behind a link, so
// nothing may be read or written behind it either. What is not there is no link.
func noLinks(root *os.Root, dir string) error {
	if dir == "." {
		return nil
	}
	if err := noLinks(root, path.Dir(dir)); err != nil {
		return err
	}
	info, err := root.Lstat(dir)
	switch {
	case err != nil && absent(err):
		return nil
	case err != nil:
		return err
	case info.Mode()&fs.ModeSymlink != 0:
		return fmt.Errorf("%s is a symbolic link, and no link is followed inside a repository", dir)
	}
	return nil
}

// Stat is store.Store's.
func (s *Store) Stat(ctx context.Context, key string) (store.Info, error) {
	if err := errors.Join(ctx.Err(), store.CheckKey(key)); err != nil {
		return store.Info{}, err
	}
	root, err := s.open()
	if err != nil {
		return store.Info{}, err
	}
	info, err := s.lstat(root, key)
	if err != nil {
		return store.Info{}, err
	}
	return store.Info{Key: key, Size: info.Size(), Modified: info.ModTime().UTC()}, nil
}

// Get is store.Store's.
func (s *Store) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	if err := errors.Join(ctx.Err(), store.CheckKey(key)); err != nil {
		return nil, err
	}
	if off < 0 {
		return nil, fmt.Errorf("read object %s: offset %d is negative", key, off)
	}
	root, err := s.open()
	if err != nil {
		return nil, err
	}
	if _, err := s.lstat(root, key); err != nil {
		return nil, err
	}
	f, err := root.OpenFile(key, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO put there in between would hang
	if err != nil {
		if absent(err) {
			return nil, s.missing(root, key)
		}
		return nil, fmt.Errorf("read object: %w", err)
	}
	if n < 0 {
		n = 1<<63 - 1 - off
	}
	return &section{Reader: io.NewSectionReader(f, off, n), Closer: f}, nil
}

type section struct {
	io.Reader
	io.Closer
}

// Extend is store.Store's; a directory has no retention.
func (s *Store) Extend(_ context.Context, key string, _ store.Retention) error {
	return fmt.Errorf("retain object %s: %w", key, store.ErrUnsupported)
}

// Retained is store.Store's; a directory has no retention.
func (s *Store) Retained(_ context.Context, key string) (store.Retention, error) {
	return store.Retention{}, fmt.Errorf("look at the retention of object %s: %w", key, store.ErrUnsupported)
}

// Capabilities is store.Store's.
func (s *Store) Capabilities() store.Capabilities {
	s.mu.Lock()
	defer s.mu.Unlock()
	return store.Capabilities{ConditionalPut: s.naming != neither, LocalPath: s.path}
}
