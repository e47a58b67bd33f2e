package spool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/pgkeep/pgkeep/state"
)

// problem turns a failure of the operating system into what an operator reads. An error that has a code keeps it.
func problem(doing string, err error) error {
	if err == nil {
		return nil
	}
	if state.CodeOf(err) != "" {
		return fmt.Errorf("%s: %w", doing, err)
	}
	e := &state.Error{Code: state.CodeIO, Text: doing, Err: err, Hint: "look at the kernel's log for this disk; receiving goes on by itself once it works"}
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		e.Code = state.CodeDiskFull
		e.Hint = "free space on the spool's file system; receiving goes on by itself, and the slot keeps the WAL until then"
	case errors.Is(err, os.ErrPermission), errors.Is(err, unix.EROFS):
		e.Code = state.CodePermission
		e.Hint = "let the user that runs pgkeep write there"
	}
	return e
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = f.Sync()
	return errors.Join(err, f.Close())
}

// makeDir creates a directory and its parents, each durable in the one above before anything is put into it.
func makeDir(dir string) error {
	if fi, err := os.Lstat(dir); err == nil {
		if !fi.IsDir() {
			return fmt.Errorf("%s is not a directory", dir)
		}
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := makeParent(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return syncDir(parent)
}

// makeParent is makeDir, where a symbolic link that an operator made is followed.
func makeParent(dir string) error {
	if fi, err := os.Stat(dir); err == nil && fi.IsDir() {
		return nil
	}
	return makeDir(dir)
}
