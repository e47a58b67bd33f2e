package repository

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/wal"
)

// OpeningLockedUntil tells until when what opening the cluster takes is locked; zero: not at all, or the store does not lock.
func (c *Cluster) OpeningLockedUntil(ctx context.Context) (time.Time, error) {
	var first time.Time
	for i, key := range []string{repositoryKey, c.key.clusterFile()} {
		until, err := c.lockOf(ctx, key)
		if err != nil {
			return time.Time{}, err
		}
		if i == 0 || until.Before(first) {
			first = until
		}
	}
	return first, nil
}

// WALLockedUntil tells until when a stretch of WAL is locked that begins at a segment's border: by its first segment, which is the
// last that is extended, or its last, whichever lock ends before. Stretches that were locked anew apart may be one later, and WAL that
// was brought from elsewhere is put after what follows it: the first alone would hide what ends before it. Zero: not at all.
// store.ErrNotExist: the first segment is not archived.
func (c *Cluster) WALLockedUntil(ctx context.Context, r wal.Range) (time.Time, error) {
	z, err := c.segmentSize(ctx)
	if err != nil {
		return time.Time{}, err
	}
	at := func(l wal.LSN) (time.Time, error) {
		return c.lockOf(ctx, c.key.segmentFile(wal.Segment{Timeline: r.Timeline, Number: uint64(l) / uint64(z)}, z))
	}
	first, err := at(r.From)
	if err != nil || r.To <= r.From+wal.LSN(z) {
		return first, err
	}
	last, err := at(r.To - 1)
	if errors.Is(err, store.ErrNotExist) { // deleted meanwhile
		return first, nil
	}
	if err != nil || last.Before(first) {
		return last, err
	}
	return first, nil
}

func (c *Cluster) lockOf(ctx context.Context, key string) (time.Time, error) {
	st := c.repo.Store()
	if !st.Capabilities().ObjectLock {
		return time.Time{}, nil
	}
	r, err := st.Retained(ctx, key)
	if err != nil {
		return time.Time{}, fmt.Errorf("look at the lock of %s: %w", key, err)
	}
	return r.Until, nil
}

// The WAL between two backups is cut into at most partsBetween stretches and two ends, each of which is told by its first and last segment. They
// begin at multiples of their length, which is a power of two and smallestPart segments at least, so that they seldom change as WAL comes.
const (
	partsBetween = 4
	smallestPart = 16
)

// lookAtLocks tells until when the archived WAL, and what opens the cluster, are locked.
func (c *Cluster) lookAtLocks(ctx context.Context, seen *state.Cluster) (*state.Locks, error) {
	out := &state.Locks{}
	for _, r := range seen.WAL {
		for _, s := range lockStretches(r.Range, seen.Backups, seen.SegmentSize) {
			out.WAL = append(out.WAL, state.LockedWAL{Range: s})
		}
	}
	gone := make([]bool, len(out.WAL))
	g, inner := errgroup.WithContext(ctx)
	g.SetLimit(extenders)
	g.Go(func() (err error) {
		out.Opening, err = c.OpeningLockedUntil(inner)
		return err
	})
	for i := range out.WAL {
		g.Go(func() error {
			until, err := c.WALLockedUntil(inner, out.WAL[i].Range)
			if gone[i] = errors.Is(err, store.ErrNotExist); gone[i] {
				return nil // deleted while we look
			}
			out.WAL[i].Until = until
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	kept := out.WAL[:0]
	for i, w := range out.WAL {
		if !gone[i] {
			kept = append(kept, w)
		}
	}
	out.WAL = kept
	return out, nil
}

// lockStretches cuts archived WAL where backups begin and end, so that what one of them needs can be locked by itself, and each piece into
// a few more.
func lockStretches(r wal.Range, backups []state.Backup, z wal.SegmentSize) []wal.Range {
	cuts := []wal.LSN{r.From, r.To}
	for _, b := range backups {
		for _, at := range []wal.LSN{z.Floor(b.Redo), z.Ceil(b.Stop)} {
			if b.Timeline == r.Timeline && r.From < at && at < r.To {
				cuts = append(cuts, at)
			}
		}
	}
	slices.Sort(cuts)
	cuts = slices.Compact(cuts)
	var out []wal.Range
	for i := 1; i < len(cuts); i++ {
		part := smallestPart * wal.LSN(z)
		for part*partsBetween < cuts[i]-cuts[i-1] {
			part *= 2
		}
		for from := cuts[i-1]; from < cuts[i]; {
			to := min((from/part+1)*part, cuts[i])
			out = append(out, wal.Range{Timeline: r.Timeline, From: from, To: to})
			from = to
		}
	}
	return out
}
