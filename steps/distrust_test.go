package steps

import (
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/state/repository/store/storetest"
)

// TestStepsDistrustWhatIsKnownDamaged: what was found damaged since a plan was made is counted on by no step of that plan.
func TestStepsDistrustWhatIsKnownDamaged(t *testing.T) {
	ctx, now := t.Context(), time.Date(2026, 2, 10, 21, 0, 0, 0, time.UTC)
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	repo, err := repository.Create(ctx, storetest.NewMemory(nil), repository.CreateOptions{Now: now})
	ok(err)
	c := repo.Cluster("orders.eu", "7335180256203400928")
	ok(c.Ensure(ctx, repository.ClusterFacts{Major: 15, SegmentSize: 16 << 20, PageSize: 8192, PageChecksums: true}))
	id := repository.NewBackupID(now, repository.KindFull, 1)
	w, err := c.BeginBackup(ctx, repository.Intent{ID: id, Kind: repository.KindFull, Version: 150018, Timeline: 1, Start: 0x3000028, Redo: 0x3000028, Now: now})
	ok(err)
	s, err := repository.NewBackupStream(ctx, []*repository.BackupWriter{w}, repository.StreamOptions{})
	ok(err)
	ok(s.Folder(0, "").Close())
	ok(s.EndData())
	ok(s.WriteManifest([]byte("{}\n")))
	out, err := s.Commit(ctx, repository.CommitFacts{Stop: 0x3000100, Timeline: 1, Ended: now, Decided: now})
	ok(err)
	ok(out[0].Err)
	live := liveCluster{Cluster: c, now: func() time.Time { return now }}
	for _, want := range []state.BackupState{state.BackupCommitted, state.BackupCorrupt} {
		seen, err := lookAtCluster(ctx, live)
		ok(err)
		if len(seen.Backups) != 1 || seen.Backups[0].State != want {
			t.Errorf("a step sees %+v, want it %s", seen.Backups, want)
		}
		found := state.Verification{Kind: state.VerificationKind, Backups: []state.VerifiedBackup{{ID: id, Damaged: true, Why: "a volume is gone"}}}
		if want == state.BackupCommitted {
			ok(c.PutEvidence(ctx, now, found))
		}
	}
}
