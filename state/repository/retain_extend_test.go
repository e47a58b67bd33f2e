package repository

import (
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/repository/store/storetest"
	"github.com/pgkeep/pgkeep/state/wal"
)

// TestExtendLockIsToldWhenAllIsExtended: killed before or after any call, what tells of a lock promises no more than is so, and the
// next try does the rest.
func TestExtendLockIsToldWhenAllIsExtended(t *testing.T) {
	for _, after := range []bool{false, true} {
		v := newVault(t)
		_, child := v.take(t)
		for n := uint64(9); n < 13; n++ {
			putSegment(t, v.c, wal.Segment{Timeline: 1, Number: n}, mib)
		}
		until := store.Retention{Until: testNow.Add(30 * day), Compliance: true}
		stretch := wal.Range{Timeline: 1, From: wal.LSN(9 * mib), To: wal.LSN(12 * mib)}
		x := Extension{Backups: []string{child}, WAL: []wal.Range{stretch}, Opening: true, Until: until}
		f := &storetest.Faulty{Store: v.m}
		c := v.open(t, f)
		for kill := 0; ; kill++ {
			var calls atomic.Int64
			die := func(call storetest.Call) error {
				if call.Method == "Extend" && int(calls.Add(1)) > kill {
					return errors.New("killed")
				}
				return nil
			}
			if f.Before = die; after {
				f.Before, f.After = nil, die
			}
			_, err := c.ExtendLock(t.Context(), x)
			f.Before, f.After = nil, nil
			v.promises(t, c, child, stretch, until.Until)
			if err == nil {
				break
			}
		}
		objects := must(c.ExtendLock(t.Context(), x))(t)
		if extended := v.lockedUntil(t, until.Until); objects < 10 || len(extended) != objects {
			t.Errorf("%d objects extended, these are: %v", objects, extended)
		}
		if got := v.lockOf(t, v.c.key.segmentFile(wal.Segment{Timeline: 1, Number: 12}, mib)); got.Equal(until.Until) {
			t.Error("a segment beyond the range is locked until then")
		}
	}
}

// lockedUntil gives the objects that are locked exactly until a moment.
func (v *vault) lockedUntil(t *testing.T, until time.Time) (keys []string) {
	t.Helper()
	for _, key := range v.m.Keys() {
		if v.lockOf(t, key).Equal(until) {
			keys = append(keys, key)
		}
	}
	return keys
}

// promises compares what is told of locks with the locks themselves.
func (v *vault) promises(t *testing.T, c *Cluster, id string, stretch wal.Range, until time.Time) {
	t.Helper()
	all := func(what string, told time.Time, which func(key string) bool) {
		if told.Before(until) {
			return
		}
		for _, key := range v.m.Keys() {
			if isLasting(key) && which(key) && v.lockOf(t, key).Before(until) {
				t.Fatalf("%s is told to be locked until %s, and %s is until %s", what, told, key, v.lockOf(t, key))
			}
		}
	}
	all("the backup", must(c.LockedUntil(t.Context(), id))(t), func(key string) bool {
		if strings.Contains(key, id) {
			return true
		}
		names := referredBy(t, c, id)
		return slices.Contains(names, key)
	})
	all("WAL", must(c.WALLockedUntil(t.Context(), stretch))(t), func(key string) bool {
		n, ok := c.key.parseWALFile(key, mib)
		return ok && n.Segment.Start(mib) >= stretch.From && n.Segment.Start(mib) < stretch.To
	})
	all("opening", must(c.OpeningLockedUntil(t.Context()))(t), func(key string) bool {
		return key == repositoryKey || key == c.key.clusterFile() || strings.HasPrefix(key, keysDir) || strings.HasPrefix(key, c.key.historyDir())
	})
}

// referredBy gives the keys of the volumes that a backup reads of others.
func referredBy(t *testing.T, c *Cluster, id string) (keys []string) {
	t.Helper()
	r := must(c.readBackup(t.Context(), id))(t)
	check(t, c.volumesOf(t.Context(), r, func(k volumeKey, _ sumLine) error {
		if k.backup != id {
			keys = append(keys, c.key.backupDir(k.backup)+volumeName(k.folder, k.volume))
		}
		return nil
	}))
	return keys
}

// TestLocksAreSeen: what is observed has a stretch for what each backup needs, told by its first segment, and knows what opens the cluster.
func TestLocksAreSeen(t *testing.T) {
	v := newVault(t)
	full, child := v.take(t)
	for n := range uint64(40) {
		v.now = testNow.Add(time.Duration(n) * time.Hour)
		putSegment(t, v.c, wal.Segment{Timeline: 1, Number: 40 + n}, mib)
	}
	seen := must(v.c.observe(t.Context(), ObserveOptions{Now: v.now, Locks: true}))(t)
	if seen.Locks == nil || !seen.Locks.Opening.Equal(testNow.Add(9*day)) {
		t.Fatalf("locks: %+v", seen.Locks)
	}
	var covered []wal.Range
	for _, w := range seen.Locks.WAL {
		covered = append(covered, w.Range)
		if first := uint64(w.From) / uint64(mib); !w.Until.Equal(testNow.Add(9*day + time.Duration(first-40)*time.Hour)) {
			t.Errorf("%s is locked until %s", w.Range, w.Until)
		}
	}
	if merged := wal.Merge(slices.Clone(covered)); len(merged) != 1 || merged[0] != seen.WAL[0].Range {
		t.Errorf("of %v these are looked at: %v", seen.WAL, covered)
	}
	for _, b := range seen.Backups {
		if b.ID != full && b.ID != child || b.State != state.BackupCommitted {
			t.Errorf("backup %s is %s", b.ID, b.State)
		}
		begins := slices.ContainsFunc(covered, func(r wal.Range) bool { return r.From == mib.Floor(b.Redo) })
		ends := slices.ContainsFunc(covered, func(r wal.Range) bool { return r.From == mib.Ceil(b.Stop) })
		if !begins || !ends {
			t.Errorf("no stretch begins where %s begins (%t) and after it ends (%t): %v", b.ID, begins, ends, covered)
		}
	}
	if plain := must(v.c.observe(t.Context(), ObserveOptions{Now: v.now}))(t); plain.Locks != nil {
		t.Error("locks are looked at though nothing is to be locked")
	}
}

// TestAStretchIsLockedAsLongAsItsEnd: stretches of which the first was locked anew become one, and WAL at the beginning of one was brought
// from elsewhere later: the rest of it is not overlooked until that is due again.
func TestAStretchIsLockedAsLongAsItsEnd(t *testing.T) {
	v := newVault(t)
	v.take(t)
	for n := range uint64(32) {
		v.now = testNow.Add(time.Duration(n) * time.Hour)
		putSegment(t, v.c, wal.Segment{Timeline: 1, Number: 48 + n}, mib)
	}
	half := wal.Range{Timeline: 1, From: wal.LSN(48 * mib), To: wal.LSN(64 * mib)}
	until := testNow.Add(30 * day)
	must(v.c.ExtendLock(t.Context(), Extension{WAL: []wal.Range{half}, Until: store.Retention{Until: until, Compliance: true}}))(t)
	both := wal.Range{Timeline: 1, From: half.From, To: wal.LSN(80 * mib)}
	if got := must(v.c.WALLockedUntil(t.Context(), half))(t); !got.Equal(until) {
		t.Errorf("the first half is locked until %s", got)
	}
	if got := must(v.c.WALLockedUntil(t.Context(), both))(t); !got.Equal(testNow.Add(9*day + 31*time.Hour)) {
		t.Errorf("both are locked until %s", got)
	}
	must(v.c.ExtendLock(t.Context(), Extension{WAL: []wal.Range{both}, Until: store.Retention{Until: until, Compliance: true}}))(t)
	if got := must(v.c.WALLockedUntil(t.Context(), both))(t); !got.Equal(until) {
		t.Errorf("then they are until %s", got)
	}
}

// TestFewStretches: however much WAL there is between two backups, few locks are looked at, and where they are seldom changes.
func TestFewStretches(t *testing.T) {
	z := wal.SegmentSize(16 << 20)
	var before []wal.Range
	changes := 0
	for n := wal.LSN(1); n < 5000; n++ {
		got := lockStretches(wal.Range{Timeline: 1, From: 3 * wal.LSN(z), To: (3 + n) * wal.LSN(z)}, nil, z)
		if len(got) > 6 {
			t.Fatalf("%d stretches of %d segments", len(got), n)
		}
		for i := range before {
			if got[i].From != before[i].From {
				changes++
				break
			}
		}
		before = got
	}
	if changes > 10 {
		t.Errorf("%d changes", changes)
	}
}
