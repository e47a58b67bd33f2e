package steps

import (
	"strings"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// TestAnotherRepositoryIsLeftAlone: each step that deletes looks whether it opened the very repository that was planned for.
func TestAnotherRepositoryIsLeftAlone(t *testing.T) {
	now := time.Date(2026, 2, 10, 0, 0, 0, 0, time.UTC)
	for _, planned := range []string{"another", "r1", ""} {
		w := &fakeWorld{exists: true, cluster: state.Cluster{
			Backups: []state.Backup{{ID: "a", State: state.BackupCommitted}, {ID: "b", State: state.BackupAbandoned}},
			WAL:     []state.WALRange{{Range: wal.Range{Timeline: 1, From: 0x1000000, To: 0x2000000}}},
		}}
		clock := func() time.Time { return now }
		repositories := fakeRepositories{w}
		for name, s := range map[string]step{
			"prune":             &prune{repositories: repositories, action: plan.Prune{Repository: "main", RepositoryID: planned, Backups: []string{"a"}}, now: clock},
			"remove-incomplete": &removeIncomplete{repositories: repositories, action: plan.RemoveIncomplete{Repository: "main", RepositoryID: planned, Backups: []string{"b"}}, now: clock},
			"prune-wal": &pruneWAL{repositories: repositories, now: clock, action: plan.PruneWAL{
				Repository: "main", RepositoryID: planned, Ranges: []wal.Range{{Timeline: 1, From: 0x1000000, To: 0x2000000}},
			}},
		} {
			_, err := s.Done(t.Context())
			refused := state.CodeOf(err) == state.CodeStale && strings.Contains(err.Error(), "another repository is there now: its id is r1")
			if refused != (planned == "another") || !refused && err != nil {
				t.Errorf("%s planned for repository %q: %v", name, planned, err)
			}
		}
	}
}
