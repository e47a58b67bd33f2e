package file

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	tempDir  = ".pgkeep-tmp"
	dirMode  = 0o700
	fileMode = 0o600
)

// temp is a temporary file that this process fills. Its lock, held until it is closed, tells collectors to leave it.
type temp struct {
	root  *os.Root
	path  string
	f     *os.File
	moved bool // the name is gone: it became the object's
}

// newTemp makes and locks a temporary file. Between making and locking a collector may take it for left behind: then
// another is made.
func newTemp(root *os.Root) (*temp, error) {
	for range putTries {
		if err := root.MkdirAll(tempDir, dirMode); err != nil {
			return nil, err
		}
		var b [12]byte
		rand.Read(b[:]) // never fails
		name := fmt.Sprintf("%s/%d-%s", tempDir, os.Getpid(), hex.EncodeToString(b[:]))
		f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
		if absent(err) {
			continue // the directory was removed at once
		}
		if err != nil {
			return nil, err
		}
		if ours, err := lockNew(f); err != nil {
			f.Close()
			root.Remove(name)
			return nil, err
		} else if ours {
			return &temp{root: root, path: name, f: f}, nil
		}
		f.Close()
	}
	return nil, errors.New("make a temporary file: each one was removed at once")
}

// lockNew locks a file that was just made; false when a collector was faster.
func lockNew(f *os.File) (bool, error) {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		return false, nil
	case errors.Is(err, unix.ENOTSUP), errors.Is(err, unix.ENOLCK), errors.Is(err, unix.ENOSYS):
		return true, nil // no locks here: collectors cannot lock either and leave everything
	case err != nil:
		return false, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return false, fmt.Errorf("look at %s: %w", f.Name(), err)
	}
	return st.Nlink > 0, nil
}

// fill writes size bytes and makes them durable. After a failed fsync the file is never used again.
func (t *temp) fill(ctx context.Context, body io.Reader, size int64) error {
	buf := make([]byte, min(size, 256<<10))
	for left := size; left > 0; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := io.ReadFull(body, buf[:min(left, int64(len(buf)))])
		if err != nil {
			return fmt.Errorf("read the body with %d of %d bytes to go: %w", left, size, err)
		}
		if _, err := t.f.Write(buf[:n]); err != nil {
			return err
		}
		left -= int64(n)
	}
	return t.f.Sync()
}

// name gives the file its final name, unless that is taken (fs.ErrExist).
func (t *temp) name(key string, how naming) error {
	if how == byLink {
		return t.root.Link(t.path, key)
	}
	err := renameNoReplace(t.root, t.path, key)
	t.moved = err == nil
	return err
}

// discard removes what is left of the file.
func (t *temp) discard() {
	if !t.moved {
		t.root.Remove(t.path) // else the next collector does
	}
	t.f.Close()
}

func renameNoReplace(root *os.Root, from, to string) error {
	a, err := root.Open(path.Dir(from))
	if err != nil {
		return err
	}
	defer a.Close()
	b, err := root.Open(path.Dir(to))
	if err != nil {
		return err
	}
	defer b.Close()
	err = unix.Renameat2(int(a.Fd()), path.Base(from), int(b.Fd()), path.Base(to), unix.RENAME_NOREPLACE)
	if err != nil {
		return &os.LinkError{Op: "renameat2", Old: from, New: to, Err: err}
	}
	return nil
}

// collect removes the temporary files of writers that are gone: those whose lock is free.
func collect(root *os.Root) error {
	d, err := root.Open(tempDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		if path.Join(tempDir, name) == ballastName {
			continue
		}
		if err := collectOne(root, path.Join(tempDir, name)); err != nil {
			return err
		}
	}
	return nil
}

func collectOne(root *os.Root, name string) error {
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil // gone, or not ours to open
	}
	defer f.Close()
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return nil // its writer lives, or there are no locks here
	}
	if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("collect temporary file: %w", err)
	}
	return nil
}
