package plan_test

import (
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// TestBackupWhoseWALIsBadIsNotCounted: WAL that is there and was found damaged makes no backup consistent, also where the
// backup itself was not looked at; an older one that can be recovered does not go for its sake.
func TestBackupWhoseWALIsBadIsNotCounted(t *testing.T) {
	now := time.Date(2026, 2, 10, 21, 0, 0, 0, time.UTC)
	const mib = wal.LSN(1 << 20)
	c := state.Cluster{
		Name: "orders.eu", SystemID: "7335180256203400928", SegmentSize: 1 << 20,
		WAL: []state.WALRange{{Range: wal.Range{Timeline: 1, From: 0, To: 100 * mib}, LastCommit: now}},
		Verified: &state.Verification{
			Kind: state.VerificationKind, BadWAL: []wal.Range{{Timeline: 1, From: 50 * mib, To: 51 * mib}},
		},
	}
	for i, redo := range []wal.LSN{10 * mib, 50*mib + 40} {
		began := now.Add(time.Duration(i-5) * 24 * time.Hour)
		c.Backups = append(c.Backups, state.Backup{
			ID: began.Format("20060102T150405Z") + "-F-0000000" + string(rune('1'+i)), State: state.BackupCommitted, Kind: "full", Version: 150018,
			Timeline: 1, Redo: redo, Start: redo, Stop: redo + 4096, Began: began, Ended: began.Add(time.Minute),
		})
	}
	r := plan.Retain(&c, plan.Rules{Redundancy: 1, Minimum: 1}, now, 1)
	if r.Usable != 1 || len(r.Going()) != 0 {
		t.Errorf("%d are usable, and of %d backups %d go", r.Usable, len(r.Fates), len(r.Going()))
	}
}
