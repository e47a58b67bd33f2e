package repository

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/seal"
	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/repository/store/storetest"
	"github.com/pgkeep/pgkeep/state/wal"
)

const day = 24 * time.Hour

// vault is a repository in a store that locks, with one clock for all.
type vault struct {
	now time.Time
	m   *storetest.Memory
	c   *Cluster
}

func newVault(t *testing.T) *vault {
	v := &vault{now: testNow}
	v.m = storetest.NewMemory(func() time.Time { return v.now })
	v.m.Locks = true
	v.c = v.open(t, v.m)
	return v
}

func (v *vault) open(t *testing.T, st store.Store) *Cluster {
	t.Helper()
	lock := Lock{For: 9 * day, Compliance: true, Now: func() time.Time { return v.now }}
	r := must(Create(t.Context(), st, CreateOptions{Now: v.now, Lock: lock}))(t).WithLock(lock)
	c := r.Cluster(archiveName, archiveID)
	check(t, c.Ensure(t.Context(), ClusterFacts{Major: 15, SegmentSize: mib, PageSize: 8192, PageChecksums: true}))
	return c
}

func (v *vault) lockOf(t *testing.T, key string) time.Time {
	t.Helper()
	return must(v.m.Retained(t.Context(), key))(t).Until
}

// later moves the clock, and puts a segment of WAL, so that it is seen to have moved.
func (v *vault) later(t *testing.T, c *Cluster, to time.Time) {
	t.Helper()
	v.now = to
	putSegment(t, c, wal.Segment{Timeline: 1, Number: 1000 + uint64(to.Sub(testNow).Hours())}, mib)
}

func (v *vault) ofBackups() (keys []string) {
	for _, key := range v.m.Keys() {
		if _, _, ok := splitBackupKey(key); ok {
			keys = append(keys, key)
		}
	}
	return keys
}

// take takes a full backup and, a day later, an incremental one on it.
func (v *vault) take(t *testing.T) (full, child string) {
	t.Helper()
	members := bigMembers(6, 40)
	takeBackup(t, testIntent(1), seal.Codec{}, members, 60_000, v.c)
	v.now = v.now.Add(day)
	in := childIntent(24, testIntent(1).ID)
	takeIncremental(t, in, seal.Codec{}, change(rand.New(rand.NewPCG(1, 2)), members, 2), v.c)
	return testIntent(1).ID, in.ID
}

// TestLockCoversWhatARecoveryNeeds: each object that lasts is locked from the begin of its backup on, no other is, and what an
// incremental backup reads of another is locked as long as itself.
func TestLockCoversWhatARecoveryNeeds(t *testing.T) {
	v := newVault(t)
	full, child := v.take(t)
	seg := wal.Segment{Timeline: 1, Number: 9}
	check(t, v.c.PutPartial(t.Context(), seg, seg.Start(mib)+wal.LSN(mib/2), strings.NewReader(string(plainSegment(seg, mib)[:mib/2]))))
	putSegment(t, v.c, seg, mib)
	check(t, v.c.WriteIndex(t.Context(), 1))
	check(t, v.c.Hold(t.Context(), full, state.Hold{}, v.now))
	first, second := testNow.Add(9*day), testNow.Add(10*day)
	referred := 0
	for _, key := range v.m.Keys() {
		want := time.Time{}
		_, name, ofBackup := splitBackupKey(key)
		switch {
		case strings.Contains(key, child), strings.HasSuffix(key, "/"+seg.Name(mib)):
			want = second
		case ofBackup && strings.HasPrefix(name, "v/") && v.lockOf(t, key).Equal(second):
			referred++
			want = second
		case ofBackup && !strings.HasPrefix(name, "HOLD"), key == repositoryKey, strings.HasSuffix(key, "/cluster.json"):
			want = first
		}
		if got := v.lockOf(t, key); !got.Equal(want) {
			t.Errorf("%s is locked until %s, want %s", key, got, want)
		}
	}
	if referred == 0 {
		t.Error("nothing that the incremental backup reads was locked for longer")
	}
	if got := must(v.c.LockedUntil(t.Context(), child))(t); !got.Equal(second) {
		t.Errorf("%s says that it is locked until %s", child, got)
	}
}

// TestLockedBackupsGoWhenTheirLocksEnd: a sweep says until when, takes nothing of what is locked, and all of it later.
func TestLockedBackupsGoWhenTheirLocksEnd(t *testing.T) {
	v := newVault(t)
	full, child := v.take(t)
	for _, id := range []string{full, child} {
		check(t, v.c.Tomb(t.Context(), id, v.now))
	}
	before := v.ofBackups()
	v.later(t, v.c, v.now.Add(2*day))
	var locked *LockedError
	if _, err := v.c.Sweep(t.Context(), v.now); !errors.As(err, &locked) || !locked.Until.Equal(testNow.Add(10*day)) {
		t.Errorf("sweep of what is locked: %v", err)
	}
	if left := v.ofBackups(); !slices.Equal(before, left) {
		t.Errorf("of %v\n%v is left", before, left)
	}
	v.later(t, v.c, testNow.Add(10*day))
	if _, err := v.c.Sweep(t.Context(), v.now); err != nil {
		t.Errorf("sweep after the locks have ended: %v", err)
	}
	if left := v.ofBackups(); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
}

// TestLockedRemainsOfAnAbortedBackup stay as long as those of any other, and then go.
func TestLockedRemainsOfAnAbortedBackup(t *testing.T) {
	v := newVault(t)
	w := must(v.c.BeginBackup(t.Context(), testIntent(1)))(t)
	check(t, w.Abort(t.Context(), "killed", v.now))
	if got := v.lockOf(t, v.c.key.commitFile(testIntent(1).ID)); !got.IsZero() {
		t.Errorf("the decision to abort is locked until %s", got)
	}
	var locked *LockedError
	if _, err := v.c.RemoveAborted(t.Context(), testIntent(1).ID); !errors.As(err, &locked) {
		t.Errorf("remove: %v", err)
	}
	v.now = v.now.Add(9 * day)
	must(v.c.RemoveAborted(t.Context(), testIntent(1).ID))(t)
}

// TestLockedWALIsNotLostFromSight: an index that was to count it out counts it again.
func TestLockedWALIsNotLostFromSight(t *testing.T) {
	v := newVault(t)
	for n := uint64(9); n < 15; n++ {
		putSegment(t, v.c, wal.Segment{Timeline: 1, Number: n}, mib)
	}
	check(t, v.c.WriteIndex(t.Context(), 1))
	before := must(v.c.WALRanges(t.Context()))(t)
	doomed := []wal.Range{{Timeline: 1, From: wal.LSN(9 * mib), To: wal.LSN(12 * mib)}}
	var locked *LockedError
	freed, err := v.c.DeleteWAL(t.Context(), doomed)
	if !errors.As(err, &locked) || freed != 0 {
		t.Errorf("delete freed %d: %v", freed, err)
	}
	for _, c := range []*Cluster{v.c, v.open(t, v.m)} {
		after := must(c.WALRanges(t.Context()))(t)
		if len(after) != len(before) || after[0].Range != before[0].Range {
			t.Errorf("%+v is left of %+v", after, before)
		}
	}
	v.now = v.now.Add(9 * day)
	freed = must(v.c.DeleteWAL(t.Context(), doomed))(t)
	if after := must(v.c.WALRanges(t.Context()))(t); freed == 0 || after[0].From != wal.LSN(12*mib) {
		t.Errorf("%d freed, %+v is left", freed, after)
	}
}

// TestNobodyMayDelete tells a user without the right from a lock: nothing that writes WAL or backups minds.
func TestNobodyMayDelete(t *testing.T) {
	v := newVault(t)
	f := &storetest.Faulty{Store: v.m}
	f.Before = func(c storetest.Call) error {
		if c.Method == "Delete" {
			return store.ErrRetained
		}
		return nil
	}
	r := must(Create(t.Context(), f, CreateOptions{Now: v.now}))(t)
	c := r.Cluster("free", archiveID)
	check(t, c.Ensure(t.Context(), ClusterFacts{Major: 15, SegmentSize: mib, PageSize: 8192, PageChecksums: true}))
	takeBackup(t, testIntent(1), seal.Codec{}, bigMembers(2, 4), 60_000, c)
	for n := uint64(9); n < 12; n++ {
		putSegment(t, c, wal.Segment{Timeline: 1, Number: n}, mib)
		check(t, c.WriteIndex(t.Context(), 1))
	}
	check(t, c.Tomb(t.Context(), testIntent(1).ID, v.now))
	v.later(t, c, v.now.Add(2*day))
	var locked *LockedError
	if _, err := c.Sweep(t.Context(), v.now); err == nil || !strings.Contains(err.Error(), "may not delete") || errors.As(err, &locked) {
		t.Errorf("sweep: %v", err)
	}
}

// TestLocklessStoreIsRefused when something is to be locked, and told by its code.
func TestLocklessStoreIsRefused(t *testing.T) {
	lock := Lock{For: day, Now: func() time.Time { return testNow }}
	if _, err := Create(t.Context(), storetest.NewMemory(nil), CreateOptions{Now: testNow, Lock: lock}); !errors.Is(err, store.ErrUnsupported) {
		t.Errorf("create: %v", err)
	}
	err := Explain(&store.Trouble{Kind: store.Unlocked, Text: "no lock", Hint: "make one"})
	if state.CodeOf(err) != state.CodeNoObjectLock || state.HintOf(err) != "make one" {
		t.Errorf("explained as %v", err)
	}
}

// TestLockedDoNotKeepTheOthers, however many they are and wherever they lie.
func TestLockedDoNotKeepTheOthers(t *testing.T) {
	v := newVault(t)
	id := testIntent(1).ID
	until := v.now.Add(day)
	for n := range 2*deleteBatch + 1 {
		o := store.PutOptions{}
		if n < deleteBatch || n == 2*deleteBatch {
			o.Retain.Until = until
		}
		check(t, v.m.PutIfAbsent(t.Context(), v.c.key.backupDir(id)+volumeName(0, n), strings.NewReader("x"), 1, o))
	}
	freed, err := v.c.deleteObjects(t.Context(), id, func(string) bool { return true })
	var locked *LockedError
	if left := len(v.ofBackups()); !errors.As(err, &locked) || !locked.Until.Equal(until) || freed != deleteBatch || left != deleteBatch+1 {
		t.Errorf("%d left, %d freed: %v", left, freed, err)
	}
}

// TestWALIsLockedForItsOwnWindow: a shorter one than that of backups; history files are as lasting as these.
func TestWALIsLockedForItsOwnWindow(t *testing.T) {
	v := newVault(t)
	lock := Lock{For: 9 * day, WAL: 3 * day, Compliance: true, Now: func() time.Time { return v.now }}
	c := must(Open(t.Context(), v.m))(t).WithLock(lock).Cluster(archiveName, archiveID)
	seg := wal.Segment{Timeline: 1, Number: 9}
	putSegment(t, c, seg, mib)
	check(t, c.PutHistory(t.Context(), 2, []byte("1\t0/900000\tno recovery target specified\n")))
	if got := v.lockOf(t, c.key.segmentFile(seg, mib)); !got.Equal(testNow.Add(3 * day)) {
		t.Errorf("the segment is locked until %s", got)
	}
	if got := v.lockOf(t, c.key.historyFile(2)); !got.Equal(testNow.Add(9 * day)) {
		t.Errorf("the history is locked until %s", got)
	}
}
