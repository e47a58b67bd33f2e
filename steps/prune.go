package steps

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
)

// prune deletes exactly the backups that the plan names, less those that are held now. It puts a TOMB on each, which
// hides it at once; volumes that other backups read, and WAL, outlive it as the repository's protocol says. A sweep is
// the second half, a day later: what the tombs have freed goes.
type prune struct {
	repositories Repositories
	action       plan.Prune
	now          func() time.Time
	cluster      Cluster
	spared       []string // held since the plan was made, or locked
	locked       locks
}

// clock is the time by which holds and tombs end: never later than the plan's, which three clocks agreed on. A clock
// here that runs ahead ends nothing early.
func (s *prune) clock() time.Time { return earlierOf(s.now(), s.action.Clock) }

func earlierOf(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func (s *prune) present(ctx context.Context) (map[string]state.Backup, error) {
	if s.cluster == nil {
		cluster, err := s.repositories.Cluster(ctx, s.action.Repository, s.action.Server, s.action.SystemID)
		if err == nil {
			err = sameRepository(cluster, s.action.Repository, s.action.RepositoryID)
		}
		if err != nil {
			return nil, fmt.Errorf("open repository %q: %w", s.action.Repository, err)
		}
		s.cluster = cluster
	}
	return named(ctx, s.cluster, s.action.Backups)
}

func (s *prune) Done(ctx context.Context) (bool, error) {
	present, err := s.present(ctx)
	if err != nil {
		return false, err
	}
	for id, b := range present {
		gone := b.State == state.BackupDeleted && !s.action.Sweep
		if !gone && !slices.Contains(s.spared, id) {
			return false, nil
		}
	}
	return true, nil
}

func (s *prune) Holds(ctx context.Context, c plan.Condition) (verdict, error) {
	switch c.Code {
	case plan.NeedStillNeedless:
		return s.spareHeld(ctx)
	case plan.NeedTombed:
		return s.tombedLongAgo(ctx)
	case plan.NeedUsableLeft:
		return s.usableLeft(ctx, c)
	}
	return unknownCondition(c), nil
}

// spareHeld narrows the step: a hold that was put since the plan was made wins.
func (s *prune) spareHeld(ctx context.Context) (verdict, error) {
	present, err := s.present(ctx)
	if err != nil {
		return verdict{}, err
	}
	s.spared = nil
	for id, b := range present {
		if heldAt(b, s.clock()) && (s.action.Sweep || b.State != state.BackupDeleted) {
			s.spared = append(s.spared, id)
		}
	}
	if len(s.spared) == 0 {
		return holds(), nil
	}
	slices.Sort(s.spared)
	return verdict{kind: narrow, because: fmt.Sprintf("spared, because they are held now: %v", s.spared)}, nil
}

func heldAt(b state.Backup, now time.Time) bool {
	return b.Hold != nil && (b.Hold.Expires.IsZero() || b.Hold.Expires.After(now))
}

// tombedLongAgo narrows a sweep to those that are still free to go: Sweep itself decides the same.
func (s *prune) tombedLongAgo(ctx context.Context) (verdict, error) {
	present, err := s.present(ctx)
	if err != nil {
		return verdict{}, err
	}
	for id, b := range present {
		if b.State != state.BackupDeleted {
			return isStale("backup %s is %s", id, b.State), nil
		}
	}
	return s.spareHeld(ctx)
}

// usableLeft counts the backups that would stay and that a recovery can start from, by what the repository says now.
func (s *prune) usableLeft(ctx context.Context, c plan.Condition) (verdict, error) {
	want, err := strconv.Atoi(c.Value)
	if err != nil {
		return unknownCondition(c), nil
	}
	if _, err := s.present(ctx); err != nil {
		return verdict{}, err
	}
	seen, err := lookAtCluster(ctx, s.cluster)
	if err != nil {
		return verdict{}, err
	}
	left := 0
	for _, b := range seen.Backups {
		if !slices.Contains(s.action.Backups, b.ID) && seen.Usability(b) == state.Usable {
			left++
		}
	}
	if left < want {
		return isRefused("%d usable backups would be left, and %d must be", left, want), nil
	}
	return holds(), nil
}

// lookAtCluster reads what decides whether backups are usable and WAL is needed.
func lookAtCluster(ctx context.Context, c interface {
	Catalogue
	Archive
},
) (state.Cluster, error) {
	var seen state.Cluster
	var err error
	if seen.Backups, err = c.Backups(ctx); err != nil {
		return seen, fmt.Errorf("list backups: %w", err)
	}
	if seen.WAL, err = c.WALRanges(ctx); err != nil {
		return seen, fmt.Errorf("read WAL: %w", err)
	}
	if seen.Gaps, err = c.Gaps(ctx); err != nil {
		return seen, fmt.Errorf("read gaps: %w", err)
	}
	return seen, nil
}

// Run puts the tombs, in the plan's order, looking at each backup once more: nothing that is not decided, and nothing
// that is held, gets one. Then what is free goes; these backups themselves stay for a day.
func (s *prune) Run(ctx context.Context, _ func(done, total int64)) error {
	present, err := s.present(ctx)
	if err != nil {
		return err
	}
	for _, id := range s.action.Backups {
		b, there := present[id]
		if !there || b.State == state.BackupDeleted || slices.Contains(s.spared, id) {
			continue
		}
		if heldAt(b, s.clock()) {
			s.spared = append(s.spared, id)
			continue
		}
		if b.State != state.BackupCommitted && b.State != state.BackupDamaged && b.State != state.BackupCorrupt && b.State != state.BackupCut {
			return &state.Error{Code: state.CodeStale, Text: fmt.Sprintf("backup %s is %s now", id, b.State), Hint: "look again: pgkeep plan"}
		}
		until, err := s.cluster.LockedUntil(ctx, id)
		if err != nil {
			return err
		}
		if until.After(s.now()) { // a TOMB would hide it and free nothing
			s.spared = append(s.spared, id)
			s.locked.note(until)
			continue
		}
		if err := s.cluster.Tomb(ctx, id, s.now()); err != nil {
			return fmt.Errorf("delete backup %s: %w", id, err)
		}
	}
	_, err = s.cluster.Sweep(ctx, s.clock())
	if err != nil && !s.locked.is(err) {
		return fmt.Errorf("remove what is free: %w", err)
	}
	if err != nil && s.action.Sweep {
		s.spared = append(s.spared, s.action.Backups...) // what of them went is gone
	}
	return nil
}

// Note tells which backups were spared.
func (s *prune) Note() string {
	if s.locked.any() {
		return s.locked.text("what is locked stays")
	}
	if len(s.spared) == 0 {
		return ""
	}
	return fmt.Sprintf("spared, because they are held now: %v", s.spared)
}
