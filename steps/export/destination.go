package export

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/host"
)

// place is a directory that an export fills.
type place struct {
	*os.Root
	path string
	made bool // here, and so it goes again when the export fails
}

// openPlace makes a directory that is absent, or takes one that is empty.
func openPlace(path string, owner host.Owner) (*place, error) {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path || path == "/" {
		return nil, refuse("give the path of a directory below /", "%q is no directory to export into", path)
	}
	made := false
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { // #nosec: above what is ours, as mkdir -p would
			return nil, writeError(path, err)
		}
		if err := os.Mkdir(path, 0o700); err != nil {
			return nil, writeError(path, err)
		}
		made = true
	case err != nil:
		return nil, writeError(path, err)
	case !info.IsDir():
		return nil, refuse("name the directory itself", "%s is not a directory", path)
	}
	p, err := fill(path, owner)
	if err != nil {
		if made {
			err = errors.Join(err, os.Remove(path))
		}
		return nil, err
	}
	p.made = made
	return p, nil
}

// fill opens an empty directory, for its owner alone.
func fill(path string, owner host.Owner) (*place, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, writeError(path, err)
	}
	p := &place{Root: root, path: path}
	look, err := host.LookAt(path)
	if err == nil && !look.Empty {
		err = refuse("choose another; nothing is written over what is there", "%s is not empty", path)
	}
	if err == nil {
		err = root.Chmod(".", 0o700)
	}
	if err == nil {
		err = p.give(".", owner)
	}
	if err != nil {
		_ = root.Close()
		return nil, writeError(path, err)
	}
	return p, nil
}

// give makes a name the owner's, where that can be.
func (p *place) give(name string, owner host.Owner) error {
	if os.Geteuid() != 0 {
		return nil
	}
	return p.Lchown(name, owner.UID, owner.GID)
}

// create makes a file that must not be there.
func (p *place) create(name string, mode fs.FileMode, owner host.Owner) (*os.File, error) {
	f, err := p.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, mode)
	if err != nil {
		return nil, writeError(filepath.Join(p.path, name), err)
	}
	err = f.Chmod(mode)
	if err == nil && os.Geteuid() == 0 {
		err = f.Chown(owner.UID, owner.GID)
	}
	if err != nil {
		return nil, writeError(filepath.Join(p.path, name), errors.Join(err, f.Close()))
	}
	return f, nil
}

// sync makes a name durable.
func (p *place) sync(name string) error {
	f, err := p.Open(name)
	if err != nil {
		return writeError(filepath.Join(p.path, name), err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return writeError(filepath.Join(p.path, name), err)
	}
	return nil
}

// syncName makes the place's own name durable.
func (p *place) syncName() error {
	above, err := os.OpenRoot(filepath.Dir(p.path))
	if err != nil {
		return writeError(p.path, err)
	}
	return errors.Join((&place{Root: above, path: filepath.Dir(p.path)}).sync("."), above.Close())
}

// undo removes what was written; the directory itself only where it was made here.
func (p *place) undo(remove bool) {
	defer p.Close()
	if !remove {
		return
	}
	names, err := fs.ReadDir(p.FS(), ".")
	if err != nil {
		return
	}
	for _, n := range names {
		_ = p.RemoveAll(n.Name())
	}
	if p.made {
		_ = os.Remove(p.path)
	}
}

// writeError gives a full disk and a refusal their codes; an error that has one keeps it.
func writeError(name string, err error) error {
	if state.CodeOf(err) != "" {
		return err
	}
	code, hint := state.CodeIO, "look at its disk and at this machine's log (dmesg)"
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		code, hint = state.CodeDiskFull, "free some space, or name a directory of a larger disk; what was written is removed"
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		code, hint = state.CodePermission, "let the user who runs pgkeep write there, or run it as root with --owner"
	case strings.Contains(err.Error(), "escapes"):
		code, hint = state.CodeDestination, "remove the link"
	}
	return &state.Error{Code: code, Text: fmt.Sprintf("write %s", name), Hint: hint, Err: err}
}
