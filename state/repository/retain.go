package repository

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pgkeep/pgkeep/state/repository/store"
)

// Lock keeps from being deleted what a recovery needs. The zero value keeps nothing.
type Lock struct {
	For        time.Duration    // from the moment at which an object is put; of a backup, from its first object on
	WAL        time.Duration    // For, of WAL segments; 0: as all else
	Compliance bool             // see store.Retention
	Now        func() time.Time // this machine's clock
}

// WithLock gives the same repository, locking what it puts. The store refuses the first put when it cannot.
func (r *Repository) WithLock(l Lock) *Repository {
	if l.For <= 0 {
		return r
	}
	out := *r
	out.st = &retaining{Store: r.st, lock: l, began: map[string]time.Time{}}
	return &out
}

// retaining adds a retention to each put of what a recovery needs.
type retaining struct {
	store.Store
	lock Lock

	mu    sync.Mutex
	began map[string]time.Time // by the directory of a backup: when its first object was put here
}

// PutIfAbsent is store.Store's.
func (s *retaining) PutIfAbsent(ctx context.Context, key string, body io.ReaderAt, size int64, o store.PutOptions) error {
	if isLasting(key) {
		o.Retain = s.retention(key)
	}
	return s.Store.PutIfAbsent(ctx, key, body, size, o)
}

// retention gives the lock of an object that is put now.
func (s *retaining) retention(key string) store.Retention {
	long := s.lock.For
	if s.lock.WAL > 0 && isSegment(key) {
		long = s.lock.WAL
	}
	return store.Retention{Until: s.from(key).Add(long).Truncate(time.Second), Compliance: s.lock.Compliance}
}

// isSegment tells WAL from history files and from all else.
func isSegment(key string) bool {
	parts := strings.Split(key, "/")
	return len(parts) > 5 && parts[0]+"/" == clustersDir && parts[3] == "w" && parts[4] != "history"
}

// passing gives the same cluster, putting without a lock what is of no lasting use although its key says otherwise.
func (c *Cluster) passing() *Cluster {
	s, ok := c.repo.st.(*retaining)
	if !ok {
		return c
	}
	repo := *c.repo
	repo.st = s.Store
	return &Cluster{repo: &repo, key: c.key}
}

// from gives when the lock of an object begins: for all objects of a backup at one moment, so that each says how long all
// of them are locked.
func (s *retaining) from(key string) time.Time {
	now := s.lock.Now()
	dir, _, ok := splitBackupKey(key)
	if !ok {
		return now
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if at, known := s.began[dir]; known {
		return at
	}
	s.began[dir] = now
	return now
}

// splitBackupKey gives the directory of a backup and the object's name below it: c/NAME/SYSTEM/b/ID/ and v/base/000000.
func splitBackupKey(key string) (dir, name string, ok bool) {
	parts := strings.SplitN(key, "/", 6)
	if len(parts) < 6 || parts[0]+"/" != clustersDir || parts[3] != "b" {
		return "", "", false
	}
	return strings.TrimSuffix(key, parts[5]), parts[5], true
}

// isLasting tells whether a recovery needs the object, and nothing that pgkeep does deletes it before what it belongs to goes.
// What is not lasting, and why:
//
//   - lease/: renewed every two minutes, and taken away after;
//   - WAL of an unfinished segment (.partial-...): replaced every ten seconds, and by the whole segment in the end; to lock each
//     would keep a terabyte a week that nobody needs;
//   - wx/: made anew from the segments when it is missing, and replaced as they come;
//   - TOMB, HOLD, VERIFY, gap/, evidence/, journal/: what is said of backups. They tell, and restore nothing; without a TOMB a backup
//     is back;
//   - marks/ of a backup: they tell how far it has come, and are taken away when it is committed;
//   - README.txt: it is in this program, too.
//
// A decision `aborted` or `cut` is passing as well.
func isLasting(key string) bool {
	if key == repositoryKey || strings.HasPrefix(key, keysDir) {
		return true
	}
	if _, name, ok := splitBackupKey(key); ok {
		return name != tombName && !strings.HasPrefix(name, holdPrefix) && !strings.HasPrefix(name, verifyPrefix) && !strings.HasPrefix(name, marksDir)
	}
	parts := strings.Split(key, "/")
	if len(parts) < 4 || parts[0]+"/" != clustersDir {
		return false
	}
	switch parts[3] {
	case "cluster.json":
		return true
	case "w":
		return !strings.Contains(parts[len(parts)-1], ".partial-")
	}
	return false
}

// extenders bounds how many locks are extended beside each other.
const extenders = 16

// lockReferred locks what the backup reads of others for as long as its own objects: before its decision, so that one that is
// committed never outlives what it refers to.
func (w *BackupWriter) lockReferred(ctx context.Context, d decision) error {
	s, ok := w.c.repo.st.(*retaining)
	if !ok || d.Decision != decidedCommitted {
		return nil
	}
	until := s.retention(w.c.key.startFile(d.ID))
	g, inner := errgroup.WithContext(ctx)
	g.SetLimit(extenders)
	err := w.c.readSums(ctx, d.ID, refsDir, d.Refs, func(l sumLine) error {
		other, name, err := splitReference(l.name)
		if err == nil {
			g.Go(func() error { return s.Extend(inner, w.c.key.backupDir(other)+name, until) })
		}
		return err
	})
	if err = errors.Join(g.Wait(), err); err != nil {
		return fmt.Errorf("lock what the backup refers to: %w", err)
	}
	return nil
}
