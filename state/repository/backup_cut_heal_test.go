package repository

import (
	"slices"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/seal"
)

// TestContinuedBackupIsHealedAndCopied: a volume of the cut backup that the continued one reads is healed from another repository which has both alike, also
// when all else of the cut one is gone; and a copy into a repository that has nothing of the cut one stands alone.
func TestContinuedBackupIsHealedAndCopied(t *testing.T) {
	a, b := newMemory(), newMemory()
	ca, cb := twoRepositories(t, a, b)
	one, two := testIntent(1), continuing(2, testIntent(1).ID)
	killedBehindATablespace(t, ca, one, cb)
	for _, c := range []*Cluster{ca, cb} {
		if got := must(c.CutBackup(t.Context(), one.ID, "its writer died", testNow))(t); got != state.BackupCut {
			t.Fatalf("it is %s", got)
		}
	}
	members := append(goldenTablespace(), goldenMembers()...)
	s := beginAgain(t, ca, two, seal.Codec{}, cb)
	writeFolder(t, s.Folder(16385, "/srv/fast"), goldenTablespace(), 50_000)
	finish(t, s, goldenMembers())
	for _, c := range []*Cluster{ca, cb} {
		must(c.RemoveCut(t.Context(), one.ID, testNow))(t)
		holdsMembers(t, must(c.OpenBackup(t.Context(), two.ID))(t), members)
	}
	third := newArchive(t, newMemory(), 16<<20)
	if got := must(CopyBackup(t.Context(), ca, third, copyIntent(two.ID)))(t); !got.Alone {
		t.Errorf("%+v", got)
	}
	healthy(t, third, two.ID)
	holdsMembers(t, must(third.OpenBackup(t.Context(), two.ID))(t), members)
	volume := ca.key.backupDir(one.ID) + volumeName(16385, 0)
	for i, gone := range []bool{false, true} {
		flip(t, ca, volume)
		if gone {
			delete(a.objects, volume)
		}
		late := func() time.Time { return testNow.Add(time.Duration(100+i) * time.Hour) }
		found := must(openedAgain(t, a).Examine(t.Context(), VerifyOptions{Level: state.VerifyFull, Now: late}))(t)
		if !slices.ContainsFunc(found.Damage, func(d state.Damage) bool { return d.Object == volume && slices.Contains(d.Hurts, two.ID) }) {
			t.Fatalf("gone %v: found %+v", gone, found.Damage)
		}
		for _, r := range must(openedAgain(t, a).Repair(t.Context(), found.Damage, []RepairSource{{Name: "other", Cluster: openedAgain(t, b)}}))(t) {
			if !r.Healed && !r.Sound {
				t.Errorf("gone %v: %+v", gone, r)
			}
		}
		healthy(t, openedAgain(t, a), two.ID)
	}
}
