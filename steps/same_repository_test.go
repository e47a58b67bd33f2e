package steps

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
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

// TestNothingIsWrittenIntoAnotherRepository: each step that writes opens the repositories that were planned for, each of them, and
// refuses another one that came behind the path of any, before it does anything.
func TestNothingIsWrittenIntoAnotherRepository(t *testing.T) {
	now := time.Date(2026, 2, 10, 0, 0, 0, 0, time.UTC)
	run := func(s step) error { return s.Run(t.Context(), func(_, _ int64) {}) }
	for _, x := range []struct {
		act   func(ids map[string]string) plan.Action
		opens func(s step) error
	}{
		{func(ids map[string]string) plan.Action {
			return plan.RecordGap{Server: "orders", SystemID: "1", Range: wal.Range{Timeline: 1, From: 0x1000000, To: 0x2000000}, RepositoryIDs: ids}
		}, run},
		{func(ids map[string]string) plan.Action {
			return plan.FollowTimeline{Server: "orders", Timeline: 2, RepositoryIDs: ids}
		}, run},
		{func(ids map[string]string) plan.Action {
			return plan.TakeBackup{Server: "orders", Repositories: []string{"main"}, Kind: "full", Due: now, Schedule: "nightly", RepositoryIDs: ids}
		}, func(s step) error { _, err := s.Done(t.Context()); return err }},
		{func(ids map[string]string) plan.Action {
			return plan.RecoverTo{Recovery: "r", Route: plan.Route{Server: "orders", SystemID: "1", Repository: "main", Backup: "a"}, RepositoryIDs: ids}
		}, func(s step) error { _, err := s.Holds(t.Context(), plan.Condition{Code: plan.NeedBackup}); return err }},
	} {
		for seen, ids := range map[string]map[string]string{"another": {"main": "another"}, "this one": {"main": "r1"}, "none": nil} {
			w := &fakeWorld{exists: true, cluster: state.Cluster{Backups: []state.Backup{{ID: "a", State: state.BackupCommitted}}}, history: []byte("1\t0/3000000\tno\n")}
			w.server.Timeline = 2
			a := &applier{world: w.world(), o: Options{Now: func() time.Time { return now }}}
			b := must(a.bind(x.act(ids)))(t)
			err := x.opens(b.make(fakeServer{w}))
			refused := state.CodeOf(err) == state.CodeStale && strings.Contains(err.Error(), "another repository is there now: its id is r1")
			if refused != (seen == "another") || !refused && err != nil {
				t.Errorf("%s planned for %s: %v", plan.Verb(x.act(ids)), seen, err)
			}
			if refused && len(w.cluster.Gaps)+len(w.histories) > 0 {
				t.Errorf("%s has written", plan.Verb(x.act(ids)))
			}
		}
	}
}

// TestSwappedRepository puts another repository behind a path once the steps have looked: a backup and a restore open it again, and
// leave it alone.
func TestSwappedRepository(t *testing.T) {
	paths := []string{filepath.Join(t.TempDir(), "main"), filepath.Join(t.TempDir(), "away")}
	spec := &hclspec.Spec{
		Repositories: []hclspec.Repository{{Name: "main", Path: paths[0]}, {Name: "second", Path: filepath.Join(t.TempDir(), "second")}},
		Servers:      []hclspec.Server{{Name: "orders", Repositories: []string{"main", "second"}}},
	}
	bound := func() real {
		return real{spec: spec, o: BindOptions{Host: "here", LockDir: t.TempDir()}.withDefaults()}
	}
	ids := map[string]string{}
	for _, label := range []string{"main", "second"} {
		r := realRepositories{bound()}
		if err := r.Create(t.Context(), label); err != nil {
			t.Fatal(err)
		}
		ids[label] = must(r.Identify(t.Context(), label))(t)
	}
	if err := os.Rename(paths[0], paths[1]); err != nil {
		t.Fatal(err)
	}
	if err := (realRepositories{bound()}).Create(t.Context(), "main"); err != nil {
		t.Fatal(err)
	}
	facts := state.Server{SystemID: "1", Version: 150000, SegmentSize: 1 << 24, PageSize: 8192}
	order := plan.TakeBackup{Server: "orders", Repositories: []string{"main", "second"}, RepositoryIDs: ids}
	clusters, closed, err := realBackups{bound()}.clusters(t.Context(), order, facts)
	if err != nil || len(clusters) != 1 || state.CodeOf(closed) != state.CodeStale || !strings.Contains(closed.Error(), "nothing was written there") {
		t.Errorf("a backup goes into %d repositories, %v, %v", len(clusters), closed, err)
	}
	if _, err := os.Stat(filepath.Join(paths[0], "c")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the other repository was written into: %v", err)
	}
	recover := plan.RecoverTo{Route: plan.Route{Server: "orders", SystemID: "1", Repository: "main", Backup: "a"}, RepositoryIDs: ids}
	if _, _, err := (realRecoveries{bound()}).openIn(t.Context(), "main", recover); state.CodeOf(err) != state.CodeStale {
		t.Errorf("a restore reads it: %v", err)
	}
	if err := os.RemoveAll(paths[0]); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(paths[1], paths[0]); err != nil {
		t.Fatal(err)
	}
	if clusters, closed, err := (realBackups{bound()}).clusters(t.Context(), order, facts); len(clusters) != 2 || closed != nil || err != nil {
		t.Errorf("the one that was planned for: %d, %v, %v", len(clusters), closed, err)
	}
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
