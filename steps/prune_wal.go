package steps

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// liveAfterTomb is how long the WAL of a deleted backup stays: a recovery that only reads may be on its way.
const liveAfterTomb = 24 * time.Hour

// pruneWAL deletes ranges of WAL. What a backup that counts now needs is cut out of them first, whatever the plan says.
type pruneWAL struct {
	repositories Repositories
	action       plan.PruneWAL
	now          func() time.Time
	cluster      Cluster
	ranges       []wal.Range // what is left of the plan's after the look; nil before it
	swept        bool        // Run has removed the stale parts
	freed        int64
	locked       locks
}

// clock is the time by which holds and tombs end; see prune.clock.
func (s *pruneWAL) clock() time.Time { return earlierOf(s.now(), s.action.Clock) }

func (s *pruneWAL) open(ctx context.Context) error {
	if s.cluster != nil {
		return nil
	}
	cluster, err := s.repositories.Cluster(ctx, s.action.Repository, s.action.Server, s.action.SystemID)
	if err == nil {
		err = sameRepository(cluster, s.action.Repository, s.action.RepositoryID)
	}
	if err != nil {
		return fmt.Errorf("open repository %q: %w", s.action.Repository, err)
	}
	s.cluster = cluster
	return nil
}

func (s *pruneWAL) Done(ctx context.Context) (bool, error) {
	if err := s.open(ctx); err != nil {
		return false, err
	}
	if s.action.StaleParts && !s.swept {
		return false, nil
	}
	if s.swept && s.locked.any() {
		return true, nil // the rest goes another time
	}
	going := s.ranges
	if going == nil {
		going = s.action.Ranges
	}
	archived, err := s.cluster.WALRanges(ctx)
	if err != nil {
		return false, fmt.Errorf("read WAL: %w", err)
	}
	for _, r := range archived {
		held := wal.Range{Timeline: r.Timeline, From: r.From, To: max(r.To, r.Partial)} // an unfinished end can go too
		if slices.ContainsFunc(going, func(g wal.Range) bool { return overlap(g, held) }) {
			return false, nil
		}
	}
	return true, nil
}

func (s *pruneWAL) Holds(ctx context.Context, c plan.Condition) (verdict, error) {
	if c.Code != plan.NeedStillNeedless {
		return unknownCondition(c), nil
	}
	return s.narrow(ctx)
}

// narrow cuts out of the plan's ranges what is needed now.
func (s *pruneWAL) narrow(ctx context.Context) (verdict, error) {
	if err := s.open(ctx); err != nil {
		return verdict{}, err
	}
	seen, err := lookAtCluster(ctx, s.cluster)
	if err != nil {
		return verdict{}, err
	}
	histories, err := s.cluster.Histories(ctx)
	if err != nil {
		return verdict{}, fmt.Errorf("read histories: %w", err)
	}
	needed, usable := neededWAL(seen, histories, s.clock())
	if !usable {
		return isRefused("there is no usable backup, or one whose START cannot be read: no WAL goes"), nil
	}
	s.ranges = []wal.Range{}
	for _, r := range s.action.Ranges {
		s.ranges = append(s.ranges, wal.Missing(r, needed)...)
	}
	if !slices.Equal(s.ranges, s.action.Ranges) {
		return verdict{kind: narrow, because: "less than planned: a backup needs a part of it now"}, nil
	}
	return holds(), nil
}

// neededWAL gives what must stay in any case: from redo to stop of every backup that counts, and everything from the redo of the
// newest usable backup, and of each that is held, on, along the newest line of history through it: somebody may have held one, or begun
// a recovery, since the plan was made. More may be needed by the rules of
// retention; that is the plan's to know. usable is false when there is no usable backup, or one that may need any WAL.
func neededWAL(c state.Cluster, histories []wal.History, now time.Time) (needed []wal.Range, usable bool) {
	const end = ^wal.LSN(0)
	var newest *state.Backup
	for i := range c.Backups {
		b := &c.Backups[i]
		if !countsForWAL(*b, now) {
			continue
		}
		if b.Redo == 0 { // its START cannot be read: which WAL it needs is not known
			return nil, false
		}
		stop := b.Stop
		if stop == 0 {
			stop = end // still being written: where it will end is not known
		}
		needed = append(needed, wal.Range{Timeline: b.Timeline, From: b.Redo, To: stop})
		if heldAt(*b, now) {
			needed = append(needed, newestLine(histories, *b).Path(b.Redo, end)...)
		}
		if c.Usability(*b) == state.Usable && (newest == nil || !b.Began.Before(newest.Began)) {
			newest = b
		}
	}
	if newest == nil {
		return needed, false
	}
	return append(needed, newestLine(histories, *newest).Path(newest.Redo, end)...), true
}

// newestLine gives the line of history with the highest timeline that goes through the backup; its own where nothing
// descends from it.
func newestLine(histories []wal.History, b state.Backup) wal.History {
	line := wal.History{Timeline: b.Timeline}
	for _, h := range histories {
		if h.Timeline >= line.Timeline && h.Contains(b.Timeline, b.Redo) {
			line = h
		}
	}
	return line
}

func countsForWAL(b state.Backup, now time.Time) bool {
	switch b.State {
	case state.BackupRunning, state.BackupCommitted, state.BackupDamaged, state.BackupCorrupt:
		return true
	case state.BackupDeleted:
		return heldAt(b, now) || now.Sub(b.Tombed) < liveAfterTomb
	case state.BackupAbandoned, state.BackupAborted, state.BackupCut:
	}
	return false
}

func (s *pruneWAL) Run(ctx context.Context, _ func(done, total int64)) error {
	if s.ranges == nil { // the plan did not ask for the look: it is done all the same
		v, err := s.narrow(ctx)
		if err != nil {
			return err
		}
		if v.kind == refuse {
			return &state.Error{Code: state.CodeStale, Text: v.because, Hint: "look again: pgkeep plan"}
		}
	}
	freed, err := s.cluster.DeleteWAL(ctx, s.ranges)
	if err != nil && !s.locked.is(err) {
		return fmt.Errorf("delete WAL: %w", err)
	}
	s.freed, s.swept = freed, true
	if _, err := s.cluster.Sweep(ctx, s.clock()); err != nil && !s.locked.is(err) {
		return fmt.Errorf("remove what is free: %w", err)
	}
	return nil
}

// Note tells what it freed.
func (s *pruneWAL) Note() string {
	if s.locked.any() {
		return s.locked.text(fmt.Sprintf("freed %d bytes; what is locked stays", s.freed))
	}
	return fmt.Sprintf("freed %d bytes", s.freed)
}
