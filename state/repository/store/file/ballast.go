package file

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// The ballast is a file that holds room back, so that what empties a full disk can be put on it: a removal begins with a
// decision, a TOMB or an index. It is given up when such a put finds no room, and made again by a later put when there is.
const (
	ballastName = tempDir + "/ballast"
	ballastSize = 128 << 10
)

// full tells whether an error means that there is no room.
func full(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// dropBallast gives the room back; false when there was none to give.
func (s *Store) dropBallast(root *os.Root) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ballasted = true // not again before something was deleted
	return root.Remove(ballastName) == nil
}

// keepBallast makes the file where it is not and there is room for sixteen. That it cannot be made is no failure.
func (s *Store) keepBallast(root *os.Root) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ballasted {
		return
	}
	s.ballasted = true
	if _, err := root.Lstat(ballastName); !errors.Is(err, fs.ErrNotExist) {
		return
	}
	var st unix.Statfs_t
	if err := unix.Statfs(s.path, &st); err != nil || int64(st.Bavail)*int64(st.Bsize) < 16*ballastSize {
		return
	}
	if err := makeBallast(root); err != nil {
		_ = root.Remove(ballastName) // a part of it is of no use
	}
}

func makeBallast(root *os.Root) error {
	f, err := root.OpenFile(ballastName, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return err
	}
	b := make([]byte, ballastSize)
	rand.Read(b) // zeros may take no room
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("make ballast: %w", err)
	}
	return nil
}

// ballastAgain lets the next put look for the ballast once more: room may have come.
func (s *Store) ballastAgain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ballasted = false
}
