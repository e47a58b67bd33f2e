package repository

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"

	"github.com/pgkeep/pgkeep/state"
)

// WriterLock is held by the process that writes a backup, from before START until after the decision. The kernel lets go
// of it when the process dies, so a free lock on START's host is a dead writer. It only prevents wasted work: what keeps
// backups whole is the decision.
type WriterLock struct{ lock *flock.Flock }

// LockWriter takes the lock of one backup in a directory that every pgkeep of this machine uses.
func LockWriter(dir string, key ClusterKey, id string) (*WriterLock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create lock directory: %w", err)
	}
	l := flock.New(lockPath(dir, key, id), flock.SetPermissions(0o600))
	got, err := l.TryLock()
	if err != nil {
		return nil, fmt.Errorf("take writer lock: %w", err)
	}
	if !got {
		return nil, &state.Error{Code: state.CodeLocked, Text: fmt.Sprintf("another process writes backup %s", id)}
	}
	return &WriterLock{lock: l}, nil
}

// LockBackup is LockWriter for a backup of this cluster. One lock stands for all repositories that get the backup.
func (c *Cluster) LockBackup(dir, id string) (*WriterLock, error) { return LockWriter(dir, c.key, id) }

// Unlock frees the lock and takes its file away: ids are never used again.
func (l *WriterLock) Unlock() error { return errors.Join(os.Remove(l.lock.Path()), l.lock.Close()) }

// LockedWriters answers for the writers of this machine by their locks. Writers of other hosts are unknown, and so is
// everybody where the directory cannot be looked at. A lock file that is gone was wiped by a reboot: dead.
func LockedWriters(dir, thisHost string) WriterAlive {
	return func(host string, key ClusterKey, id string) (alive, known bool) {
		if _, err := os.Stat(dir); err != nil || host != thisHost {
			return false, false
		}
		l := flock.New(lockPath(dir, key, id), flock.SetFlag(os.O_RDONLY)) // never makes the file
		free, err := l.TryRLock()
		if errors.Is(err, fs.ErrNotExist) {
			return false, true
		}
		if err != nil {
			return false, false
		}
		defer func() { _ = l.Close() }() // only looked
		return !free, true
	}
}

func lockPath(dir string, key ClusterKey, id string) string {
	return filepath.Join(dir, fmt.Sprintf("backup-%s-%s-%s.lock", key.Name, key.SystemID, id))
}

// Where tells people which repository this is: its directory where it has one, else its identity.
func (c *Cluster) Where() string {
	if path := c.repo.Store().Capabilities().LocalPath; path != "" {
		return path
	}
	return c.repo.ID()
}
