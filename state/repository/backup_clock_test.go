package repository

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/seal"
	"github.com/pgkeep/pgkeep/state/repository/store/storetest"
	"github.com/pgkeep/pgkeep/state/wal"
)

// TestAWrongClockEndsNoGrace: the 24 hours after a TOMB are over when the store's time says so too, whoever's clock runs
// ahead; and a TOMB put by a clock that is behind does not begin them early.
func TestAWrongClockEndsNoGrace(t *testing.T) {
	stored := testNow
	m := storetest.NewMemory(func() time.Time { return stored })
	c := newArchive(t, m, mib)
	victim, kept := testIntent(1), testIntent(2)
	members := randomMembers(rand.New(rand.NewPCG(5, 5)), 3, 9000)
	takeBackup(t, victim, seal.Codec{}, members, 1000, c)
	takeBackup(t, kept, seal.Codec{}, members, 1000, c)

	slow := testNow.Add(-30 * time.Hour)
	check(t, c.Tomb(t.Context(), victim.ID, slow))
	sweep := func(now time.Time) int {
		must(reopened(t, c).Sweep(t.Context(), now))(t)
		n := 0
		for _, b := range must(c.Backups(t.Context()))(t) {
			if b.State == state.BackupDeleted {
				n++
				if b.Tombed.Before(testNow) {
					t.Errorf("tombed at %s, before the store's own time %s", b.Tombed, testNow)
				}
			}
		}
		return n
	}
	if sweep(testNow.Add(time.Hour)) == 0 {
		t.Error("a slow clock at the TOMB ended the grace early")
	}
	if sweep(testNow.Add(30*time.Hour)) == 0 {
		t.Error("a clock 30 hours ahead ended the grace")
	}
	stored = testNow.Add(25 * time.Hour)
	putSegment(t, c, wal.Segment{Timeline: 1, Number: 9}, mib) // time goes on in the store: WAL is put
	if sweep(testNow.Add(23*time.Hour)) == 0 {
		t.Error("the grace ended before the caller's own time")
	}
	if sweep(testNow.Add(30*time.Hour)) != 0 {
		t.Error("a day later by every clock it is still there")
	}
}

// TestAWrongClockEndsNoHold: a hold ends when the store's time says so too.
func TestAWrongClockEndsNoHold(t *testing.T) {
	stored := testNow
	m := storetest.NewMemory(func() time.Time { return stored })
	c := newArchive(t, m, mib)
	in := testIntent(1)
	takeBackup(t, in, seal.Codec{}, randomMembers(rand.New(rand.NewPCG(5, 5)), 3, 9000), 1000, c)
	check(t, c.Hold(t.Context(), in.ID, state.Hold{Holder: "restore", Expires: testNow.Add(time.Hour)}, testNow))
	if err := c.Tomb(t.Context(), in.ID, testNow.Add(30*time.Hour)); state.CodeOf(err) != state.CodeStale {
		t.Errorf("a clock 30 hours ahead ended the hold: %v", err)
	}
	stored = testNow.Add(2 * time.Hour)
	putSegment(t, c, wal.Segment{Timeline: 1, Number: 9}, mib)
	check(t, c.Tomb(t.Context(), in.ID, testNow.Add(2*time.Hour)))
}
