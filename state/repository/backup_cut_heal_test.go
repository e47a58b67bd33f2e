package repository

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/seal"
	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/repository/store/storetest"
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

// TestLocksOfACutBackup: its marks and its decision are not locked, what another one reads of it is locked as long as that, and the rest goes when its
// own lock ends.
func TestLocksOfACutBackup(t *testing.T) {
	v := newVault(t)
	one, two := testIntent(1), continuing(24, testIntent(1).ID)
	killedBehindATablespace(t, v.c, one)
	must(v.c.CutBackup(t.Context(), one.ID, "its writer died", v.now))(t)
	v.now = v.now.Add(day)
	s := beginAgain(t, v.c, two, seal.Codec{})
	writeFolder(t, s.Folder(16385, "/srv/fast"), goldenTablespace(), 50_000)
	finish(t, s, goldenMembers())
	volume := v.c.key.backupDir(one.ID) + volumeName(16385, 0)
	for key, want := range map[string]time.Time{
		volume: testNow.Add(10 * day), v.c.key.startFile(one.ID): testNow.Add(9 * day), v.c.key.commitFile(one.ID): {}, v.c.key.backupDir(one.ID) + shardName(marksDir, 0): {},
	} {
		if got := v.lockOf(t, key); !got.Equal(want) {
			t.Errorf("%s is locked until %s, want %s", key, got, want)
		}
	}
	if got := must(v.c.LockedUntil(t.Context(), one.ID))(t); !got.Equal(testNow.Add(9 * day)) {
		t.Errorf("it says that it is locked until %s", got)
	}
	var locked *LockedError
	if _, err := v.c.RemoveCut(t.Context(), one.ID, v.now); !errors.As(err, &locked) {
		t.Errorf("remove what is locked: %v", err)
	}
	v.now = testNow.Add(9 * day)
	must(v.c.RemoveCut(t.Context(), one.ID, v.now))(t)
	members := append(goldenTablespace(), goldenMembers()...)
	holdsMembers(t, must(v.c.OpenBackup(t.Context(), two.ID))(t), members)
	healthy(t, v.c, two.ID)
	check(t, v.c.Tomb(t.Context(), two.ID, v.now))
	v.later(t, v.c, testNow.Add(20*day))
	for range 2 {
		must(v.c.Sweep(t.Context(), v.now))(t)
	}
	if left := v.ofBackups(); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
}

// TestPlantedMarkHidesNoBackup: a mark that a stranger put, or that is in plaintext, is none, and what is there is told all the same.
func TestPlantedMarkHidesNoBackup(t *testing.T) {
	st := storetest.NewMemory(nil)
	c := hostCluster(t, st)
	in := testIntent(1)
	must(c.BeginBackup(t.Context(), in))(t)
	key := c.key.backupDir(in.ID) + shardName(marksDir, 0)
	dead := func(Writer, ClusterKey, string) (Liveness, string) { return WriterKilled, "it is gone" }
	for name, body := range map[string][]byte{
		"plaintext": []byte("{}"), "a stranger's": sealedBy(t, st, strangerRing(t), key, recordBytes(t, mark{Format: 1, Backup: in.ID, Stored: 1 << 40})),
	} {
		planted := st.Clone()
		check(t, planted.PutIfAbsent(t.Context(), key, bytes.NewReader(body), int64(len(body)), store.PutOptions{}))
		c := must(OpenWith(t.Context(), planted, hostRing()))(t).Cluster(archiveName, archiveID)
		backups, err := c.Writers(t.Context(), dead, testNow)
		if err != nil || len(backups) != 1 || backups[0].State != state.BackupAbandoned || backups[0].Reusable != 0 {
			t.Errorf("%s: %+v, %v", name, backups, err)
		}
		if got := must(c.CutBackup(t.Context(), in.ID, "its writer died", testNow))(t); got != state.BackupAborted {
			t.Errorf("%s: it is %s", name, got)
		}
	}
}
