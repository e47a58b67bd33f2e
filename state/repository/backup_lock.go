package repository

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/gofrs/flock"

	"github.com/pgkeep/pgkeep/state"
)

// WriterLock is held by the process that writes a backup, from before START until after the decision. The kernel lets go
// of it when the process dies, so a free lock on START's machine is a dead writer. It only prevents wasted work: what keeps
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

// LockPlace names the directory of locks so that another one of the same path is told from it: a container's, one that
// was removed and made again, one on a file system that was mounted over it. Empty: there is no such directory.
func LockPlace(dir string) string {
	info, err := os.Stat(dir)
	if err != nil {
		return ""
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	return fmt.Sprintf("%s@%d:%d", dir, st.Dev, st.Ino)
}

// LockedWriters answers for the writers of this machine by their locks in dir. A lock says something only of a writer
// with this host name, this machine's identity and this very directory; of all others, and of those whose START does not
// say where its lock is, nothing is known.
func LockedWriters(dir, host, machine string) Witness {
	return func(w Writer, key ClusterKey, id string) (Liveness, string) {
		place := LockPlace(dir)
		if place == "" || w.Lock != place || machine == "" || w.Machine != machine || w.Host != host {
			return WriterUnknown, ""
		}
		l := flock.New(lockPath(dir, key, id), flock.SetFlag(os.O_RDONLY)) // never makes the file
		free, err := l.TryRLock()
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return WriterEnded, fmt.Sprintf("its writer on %s has let go of its lock in %s", host, dir)
		case err != nil:
			return WriterUnknown, ""
		}
		defer func() { _ = l.Close() }() // only looked
		if free {
			return WriterKilled, fmt.Sprintf("its lock in %s on %s is free: the process that held it is gone", dir, host)
		}
		return WriterAlive, fmt.Sprintf("a process on %s holds its lock in %s", host, dir)
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
