package steps

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
)

// removeIncomplete decides `aborted` first, one conditional put that a writer who is not dead after all loses or wins:
// if it wins, its backup is committed and stays.
type removeIncomplete struct {
	repositories Repositories
	action       plan.RemoveIncomplete
	now          func() time.Time
	cluster      Cluster
	won          []string // committed by their writer before we could decide
	left         []string // aborted, and still locked
	tried        []string // cut ones that were removed as far as nobody reads them
	locked       locks
}

func (s *removeIncomplete) open(ctx context.Context) error {
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

// present gives the backups of the action that are still there, by id.
func (s *removeIncomplete) present(ctx context.Context) (map[string]state.Backup, error) {
	if err := s.open(ctx); err != nil {
		return nil, err
	}
	return named(ctx, s.cluster, s.action.Backups)
}

// named gives those of a cluster's backups that ids names.
func named(ctx context.Context, c Catalogue, ids []string) (map[string]state.Backup, error) {
	backups, err := c.Backups(ctx)
	if err != nil {
		return nil, fmt.Errorf("list backups: %w", err)
	}
	out := map[string]state.Backup{}
	for _, b := range backups {
		if slices.Contains(ids, b.ID) {
			out[b.ID] = b
		}
	}
	return out, nil
}

func (s *removeIncomplete) Done(ctx context.Context) (bool, error) {
	present, err := s.present(ctx)
	if err != nil {
		return false, err
	}
	for id := range present {
		if !slices.Contains(s.won, id) && !slices.Contains(s.left, id) && !slices.Contains(s.tried, id) {
			return false, nil
		}
	}
	return true, nil
}

func (s *removeIncomplete) Holds(ctx context.Context, c plan.Condition) (verdict, error) {
	switch c.Code {
	case plan.NeedUndecided:
		return s.noneAlive(ctx)
	}
	return unknownCondition(c), nil
}

func (s *removeIncomplete) noneAlive(ctx context.Context) (verdict, error) {
	present, err := s.present(ctx)
	if err != nil {
		return verdict{}, err
	}
	for _, id := range s.action.Backups {
		if present[id].State == state.BackupRunning {
			return isStale("the writer of backup %s is alive or not known to be dead", id), nil
		}
	}
	return holds(), nil
}

func (s *removeIncomplete) Run(ctx context.Context, _ func(done, total int64)) error {
	present, err := s.present(ctx)
	if err != nil {
		return err
	}
	for _, cut := range []bool{false, true} { // one that is not decided names those with which it went on
		for _, id := range s.action.Backups {
			b, there := present[id]
			if !there || plan.WasCut(b) != cut {
				continue
			}
			if cut {
				err = s.removeCut(ctx, id)
			} else {
				err = s.remove(ctx, b)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *removeIncomplete) remove(ctx context.Context, b state.Backup) error {
	switch b.State {
	case state.BackupCommitted, state.BackupDamaged, state.BackupDeleted, state.BackupCorrupt:
		s.won = append(s.won, b.ID)
		return nil
	case state.BackupRunning:
		return &state.Error{
			Code: state.CodeStale,
			Text: fmt.Sprintf("the writer of backup %s is alive or not known to be dead", b.ID),
			Hint: "look again: pgkeep plan",
		}
	case state.BackupAbandoned, state.BackupAborted, state.BackupCut:
	}
	decided, err := s.cluster.AbortBackup(ctx, b.ID, "its writer died", s.now())
	if err != nil {
		return fmt.Errorf("decide that backup %s is aborted: %w", b.ID, err)
	}
	if decided != state.BackupAborted {
		s.won = append(s.won, b.ID)
		return nil
	}
	_, err = s.cluster.RemoveAborted(ctx, b.ID)
	if s.locked.is(err) {
		s.left = append(s.left, b.ID)
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove what backup %s left: %w", b.ID, err)
	}
	return nil
}

// removeCut removes one that was cut: it keeps a TOMB, and what others read. A locked one stays, and gets no TOMB.
func (s *removeIncomplete) removeCut(ctx context.Context, id string) error {
	until, err := s.cluster.LockedUntil(ctx, id)
	if err != nil {
		return fmt.Errorf("look at the lock of backup %s: %w", id, err)
	}
	if until.After(s.now()) {
		s.locked.note(until)
		s.left = append(s.left, id)
		return nil
	}
	_, err = s.cluster.RemoveCut(ctx, id, s.now())
	if s.locked.is(err) {
		s.left = append(s.left, id)
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove what the cut backup %s left: %w", id, err)
	}
	s.tried = append(s.tried, id)
	return nil
}

// Note tells which backups turned out to be complete.
func (s *removeIncomplete) Note() string {
	if s.locked.any() {
		return s.locked.text("what they left is locked and stays")
	}
	if len(s.won) == 0 {
		return ""
	}
	return fmt.Sprintf("left as they are, because their writers decided first: %v", s.won)
}
