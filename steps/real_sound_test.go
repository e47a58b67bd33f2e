package steps

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/state/wal"
	"github.com/pgkeep/pgkeep/steps/recovery"
)

// guard is what a story's applies must never touch, whenever they are killed.
type guard struct {
	backups []string    // stay committed and usable
	wal     []wal.Range // stays archived
	gapless bool        // nothing was lost: no gap may be recorded
}

// holding asks for what the site has now: everything of it must stay but the backups named and the WAL before the first
// one that stays.
func (s *site) holding(without ...string) guard {
	s.t.Helper()
	g := guard{gapless: true}
	cluster, ok := s.cluster()
	if !ok {
		return g
	}
	seen, err := lookAtCluster(s.t.Context(), cluster)
	if err != nil {
		s.t.Fatal(err)
	}
	floor := ^wal.LSN(0)
	for _, b := range seen.Backups {
		if b.State == state.BackupCommitted && !slices.Contains(without, b.ID) {
			g.backups = append(g.backups, b.ID)
			floor = min(floor, b.Redo)
		}
	}
	for _, w := range seen.WAL {
		if r := (wal.Range{Timeline: w.Timeline, From: max(w.From, floor), To: w.To}); !r.Empty() {
			g.wal = append(g.wal, r)
		}
	}
	return g
}

// cluster opens what the repository holds of the server; false where there is no repository yet.
func (s *site) cluster() (*repository.Cluster, bool) { return s.clusterIn("main") }

func (s *site) clusterIn(label string) (*repository.Cluster, bool) {
	s.t.Helper()
	r := real{spec: s.spec, o: s.bind.withDefaults()}
	if _, err := r.repository(label); err != nil {
		return nil, false
	}
	repo, err := r.openRepository(s.t.Context(), label)
	if state.CodeOf(err) == state.CodeAbsent {
		return nil, false
	}
	if err != nil {
		s.t.Fatal(err)
	}
	keys, err := repo.Clusters(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	if len(keys) == 0 {
		return nil, false
	}
	return repo.Cluster(keys[0].Name, keys[0].SystemID), true
}

// sound is the invariant: what the guard names is there and whole, nothing is committed that is not whole, a gap is
// recorded only over what is not archived, and a destination that PostgreSQL could start from is a complete one.
func (s *site) sound(g guard) error {
	cluster, ok := s.clusterIn("second")
	if ok {
		seen, err := lookAtCluster(s.t.Context(), cluster)
		if err != nil {
			return err
		}
		if err := s.committedAreWhole(cluster, seen); err != nil {
			return fmt.Errorf("in the second repository: %w", err)
		}
	}
	cluster, ok = s.cluster()
	if !ok {
		if len(g.backups) > 0 {
			return errors.New("the repository is gone")
		}
		return nil
	}
	seen, err := lookAtCluster(s.t.Context(), cluster)
	if err != nil {
		return err
	}
	all := s.committedAreWhole(cluster, seen)
	for _, id := range g.backups {
		i := slices.IndexFunc(seen.Backups, func(b state.Backup) bool { return b.ID == id })
		if i < 0 || seen.Backups[i].State != state.BackupCommitted || seen.Usability(seen.Backups[i]) != state.Usable {
			all = errors.Join(all, fmt.Errorf("backup %s can no longer be restored", id))
		}
	}
	have := rangesOf(seen.WAL)
	for _, want := range g.wal {
		if missing := wal.Missing(want, have); missing != nil {
			all = errors.Join(all, fmt.Errorf("WAL of %v is gone", missing))
		}
	}
	for _, gap := range seen.Gaps {
		if g.gapless || slices.ContainsFunc(have, func(r wal.Range) bool { return overlap(r, gap.Range) }) {
			all = errors.Join(all, fmt.Errorf("a gap is recorded where nothing is lost: %s", gap.Range))
		}
	}
	if len(seen.Gaps) > 1 {
		all = errors.Join(all, fmt.Errorf("one loss, %d gaps", len(seen.Gaps)))
	}
	return errors.Join(all, s.destinationWhole())
}

func (s *site) committedAreWhole(cluster *repository.Cluster, seen state.Cluster) (all error) {
	for _, b := range seen.Backups {
		if b.State != state.BackupCommitted {
			continue
		}
		err := cluster.VerifyBackup(s.t.Context(), b.ID, false, func(f repository.Finding) {
			all = errors.Join(all, fmt.Errorf("backup %s is committed and not whole: %+v", b.ID, f))
		})
		all = errors.Join(all, err)
	}
	return all
}

// destinationWhole: PostgreSQL starts nowhere without pg_control.
func (s *site) destinationWhole() error {
	if s.route == nil {
		return nil
	}
	if _, err := os.Stat(filepath.Join(s.route.Destination.Path, "global", "pg_control")); err != nil {
		return nil
	}
	if whole, err := recovery.Restored(*s.route); err != nil || !whole {
		return fmt.Errorf("PostgreSQL would start in a restore that is not complete: %w", err)
	}
	return nil
}
