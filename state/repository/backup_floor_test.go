package repository

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/seal"
	"github.com/pgkeep/pgkeep/state/wal"
)

// TestStandbyBehindThePruneFloor: once a backup is usable, WAL before its redo may go at any moment, so a standby's backup
// that would need it is aborted after its START. Before that, and from its redo on, it is taken.
func TestStandbyBehindThePruneFloor(t *testing.T) {
	c := newArchive(t, newMemory(), mib)
	members := randomMembers(rand.New(rand.NewPCG(5, 5)), 3, 9000)
	primary := testIntent(1)
	primary.Start, primary.Redo = wal.LSN(5*mib+0x28), wal.LSN(5*mib+0x28)
	takeBackup(t, primary, seal.Codec{}, members, 1000, c) // stops at 4 × 16 MiB: waits for its WAL
	standby := func(n int, redo wal.LSN) error {
		in := testIntent(n)
		in.FromStandby, in.Start, in.Redo = true, redo, redo
		_, err := c.BeginBackup(t.Context(), in)
		return err
	}
	check(t, standby(2, 4*wal.LSN(mib)))
	for n := uint64(5); n < uint64(commitFacts().Stop/wal.LSN(mib)); n++ {
		seg := wal.Segment{Timeline: 1, Number: n}
		check(t, c.PutSegment(t.Context(), seg, summaryOf(seg, mib), bytes.NewReader(plainSegment(seg, mib))))
	}
	if err := standby(3, 4*wal.LSN(mib)); state.CodeOf(err) != state.CodeStale || state.HintOf(err) == "" {
		t.Errorf("behind a usable backup: %v", err)
	}
	if b := must(c.Backups(t.Context()))(t); b[2].State != state.BackupAborted {
		t.Errorf("%+v", b[2])
	}
	check(t, standby(4, primary.Redo))
	check(t, c.Tomb(t.Context(), primary.ID, testNow))
	late := testIntent(30)
	late.FromStandby, late.Start, late.Redo = true, 4*wal.LSN(mib), 4*wal.LSN(mib)
	late.Now = testNow.Add(23 * time.Hour)
	if _, err := c.BeginBackup(t.Context(), late); state.CodeOf(err) != state.CodeStale {
		t.Errorf("behind a backup that was tombed today: %v", err)
	}
}
