package repository

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pgkeep/pgkeep/state/repository/store"
)

// A lease tells other machines, which cannot look at a writer's lock, that it lives: a row of small objects, each put
// once, of which the newest is renewed by putting the next. What counts is the time that the *store* gives them, compared
// with the newest time seen in the store; nobody's own clock is asked. A lease prevents wasted work and nothing else: a
// writer that is taken for dead although it lives finds its backup decided `aborted`, and one that is taken for alive
// although it is dead is cleaned up later.

const (
	// LeaseRenewal is how often a writer renews its lease.
	LeaseRenewal = 2 * time.Minute
	// LeaseExpiry is for how long a lease that is not renewed counts, by the store's clock.
	LeaseExpiry = 10 * time.Minute

	leasesDir = "lease/"
)

// leaseRecord is lease/<name>/<generation>-<n>.
type leaseRecord struct {
	Format     int       `json:"format"`
	Name       string    `json:"name"`
	Generation int       `json:"generation"`
	Number     int       `json:"number"`
	Host       string    `json:"host"`
	Machine    string    `json:"machine,omitempty"`
	Program    string    `json:"program"`
	At         time.Time `json:"at"` // by the holder's clock, for people; the store's time counts
}

func (k ClusterKey) backupLease(id string) string {
	return fmt.Sprintf("%s%s-%s-%s/", leasesDir, k.Name, k.SystemID, id)
}

func leaseFile(dir string, generation, n int) string {
	return fmt.Sprintf("%s%06d-%06d", dir, generation, n)
}

// parseLeaseFile reads a key below a lease's directory.
func parseLeaseFile(dir, key string) (generation, n int, ok bool) {
	a, b, cut := strings.Cut(strings.TrimPrefix(key, dir), "-")
	generation, err1 := strconv.Atoi(a)
	n, err2 := strconv.Atoi(b)
	return generation, n, cut && err1 == nil && err2 == nil && generation > 0 && n > 0 && leaseFile(dir, generation, n) == key
}

// Lease is a writer's own lease in one repository. It is safe for many goroutines.
type Lease struct {
	c    *Cluster
	dir  string
	rec  leaseRecord
	mu   sync.Mutex
	last string // the newest object that was put; empty: none
}

// Lease gives the lease of the backup that w writes, without putting anything. program says who holds it.
func (w *BackupWriter) Lease() *Lease {
	dir := w.c.key.backupLease(w.start.ID)
	return &Lease{c: w.c, dir: dir, rec: leaseRecord{
		Format: backupFormat, Name: strings.TrimSuffix(strings.TrimPrefix(dir, leasesDir), "/"), Generation: 1,
		Host: w.start.Host, Machine: w.start.Machine, Program: w.start.Program,
	}}
}

// Renew puts the next object of the lease and takes the one before away. now is this machine's clock, for people.
func (l *Lease) Renew(ctx context.Context, now time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rec.Number++
	l.rec.At = now.UTC()
	key := leaseFile(l.dir, l.rec.Generation, l.rec.Number)
	if err := l.c.putRecord(ctx, key, l.rec); err != nil {
		return fmt.Errorf("renew lease: %w", err)
	}
	before := l.last
	l.last = key
	if before == "" {
		return nil
	}
	if err := l.c.repo.Store().Delete(ctx, before); err != nil && !errors.Is(err, store.ErrRetained) {
		return fmt.Errorf("renew lease: %w", err)
	}
	return nil
}

// Release takes the lease away: its holder has decided, and ends.
func (l *Lease) Release(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.c.dropLease(ctx, l.dir)
}

// dropLease removes every object of a lease.
func (c *Cluster) dropLease(ctx context.Context, dir string) error {
	var keys []string
	for info, err := range c.repo.Store().List(ctx, dir, "", false) {
		if err != nil {
			return fmt.Errorf("list lease: %w", err)
		}
		keys = append(keys, info.Key)
	}
	if len(keys) == 0 {
		return nil
	}
	if err := c.repo.Store().Delete(ctx, keys...); err != nil && !errors.Is(err, store.ErrRetained) {
		return fmt.Errorf("drop lease: %w", err)
	}
	return nil
}

// dropOrphans removes leases of backups of which nothing is left: a writer that slept while its backup was aborted and
// removed renews once more when it wakes up. START is put before the lease, so a lease without anything is nobody's, and one that a
// writer still renews is put again.
func (c *Cluster) dropOrphans(ctx context.Context) error {
	prefix := c.key.backupLease("")
	prefix = strings.TrimSuffix(prefix, "/")
	var dirs []string
	for info, err := range c.repo.Store().List(ctx, prefix, "", true) {
		if err != nil {
			return fmt.Errorf("list leases: %w", err)
		}
		if id := strings.TrimSuffix(strings.TrimPrefix(info.Key, prefix), "/"); info.Prefix && CheckBackupID(id) == nil {
			dirs = append(dirs, id)
		}
	}
	if len(dirs) == 0 {
		return nil
	}
	there, err := c.backupIDs(ctx)
	if err != nil {
		return err
	}
	for _, id := range dirs {
		if slices.Contains(there, id) {
			continue
		}
		if err := c.dropLease(ctx, c.key.backupLease(id)); err != nil {
			return err
		}
	}
	return nil
}

// leaseSays tells of a writer by its lease alone. START is the lease's first sign of life.
func (c *Cluster) leaseSays(ctx context.Context, s *Start, now time.Time) (Liveness, string, error) {
	if !s.Leased {
		return WriterUnknown, "", nil
	}
	began, err := c.repo.Store().Stat(ctx, c.key.startFile(s.ID))
	if err != nil {
		return WriterUnknown, "", fmt.Errorf("look at lease: %w", err)
	}
	newest, found := began.Modified, false
	dir := c.key.backupLease(s.ID)
	for info, err := range c.repo.Store().List(ctx, dir, "", false) {
		if err != nil {
			return WriterUnknown, "", fmt.Errorf("list lease: %w", err)
		}
		if _, _, ok := parseLeaseFile(dir, info.Key); !ok {
			continue
		}
		if found = true; info.Modified.After(newest) {
			newest = info.Modified
		}
	}
	stored, err := c.storeTime(ctx)
	if err != nil {
		return WriterUnknown, "", err
	}
	if !now.IsZero() {
		stored = endsAt(now, stored)
	}
	return judgeLease(s.Host, newest, stored, found)
}

// judgeLease compares the newest sign of life with the newest time seen in the store. found tells whether the holder's own
// objects are still there: it takes them away after its decision.
func judgeLease(host string, newest, stored time.Time, found bool) (Liveness, string, error) {
	at := newest.UTC().Format(time.RFC3339)
	switch {
	case newest.IsZero() || stored.IsZero():
		return WriterUnknown, "the store does not tell when its lease was renewed", nil
	case stored.Before(newest.Add(LeaseExpiry)):
		return WriterAlive, fmt.Sprintf("its lease was renewed from %s at %s by the store's clock", host, at), nil
	case !found:
		return WriterEnded, fmt.Sprintf("its writer on %s has let go of its lease; its last sign of life is of %s by the store's clock", host, at), nil
	}
	return WriterKilled, fmt.Sprintf("its lease was not renewed from %s after %s, for 10 minutes by the store's clock", host, at), nil
}
