package repository

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/seal"
	"github.com/pgkeep/pgkeep/state/wal"
)

// twins fills two repositories in one pass: a full and an incremental backup, WAL with an index, a history file and a gap.
func twins(t *testing.T) (a, b *memory, ids []string) {
	t.Helper()
	a, b = newMemory(), newMemory()
	ca, cb := newArchive(t, a, mib), newArchive(t, b, mib)
	random := rand.New(rand.NewPCG(8, 8))
	members := randomMembers(random, 8, 60_000)
	full, child := testIntent(1), childIntent(2, testIntent(1).ID)
	takeBackup(t, full, seal.Codec{}, members, 10_000, ca, cb)
	takeIncremental(t, child, seal.Codec{}, change(random, members, 2), ca, cb)
	for _, c := range []*Cluster{ca, cb} {
		for n := uint64(0x30); n < 0x44; n++ {
			putSegment(t, c, wal.Segment{Timeline: 1, Number: n}, mib)
		}
		check(t, c.WriteIndex(t.Context(), 1))
		check(t, c.PutHistory(t.Context(), 2, []byte("1\t0/4300000\tno recovery target specified\n")))
		check(t, c.RecordGap(t.Context(), state.Gap{Range: segmentsOf(1, 1, 3, mib), Reason: "a test", Recorded: testNow}))
	}
	return a, b, []string{full.ID, child.ID}
}

func examine(t *testing.T, c *Cluster, level state.VerifyLevel) state.Verification {
	t.Helper()
	return must(c.Examine(t.Context(), VerifyOptions{Level: level, Now: func() time.Time { return testNow.Add(100 * time.Hour) }}))(t)
}

func openedAgain(t *testing.T, m *memory) *Cluster {
	t.Helper()
	return must(OpenWith(t.Context(), m, suiteKeys()))(t).Cluster(archiveName, archiveID)
}

// TestRepairGrid damages or deletes each object of a repository in turn. What verification finds is healed from the other
// one, byte for byte where it was byte for byte the same, and the next look finds nothing.
func TestRepairGrid(t *testing.T) {
	a, b, ids := twins(t)
	tried := 0
	for _, key := range slices.Sorted(maps.Keys(a.objects)) {
		if !strings.HasPrefix(key, clustersDir) {
			continue
		}
		for _, gone := range []bool{false, true} {
			m := &memory{objects: maps.Clone(a.objects)}
			if c := openedAgain(t, m); gone {
				delete(m.objects, key)
			} else {
				flip(t, c, key)
			}
			c := openedAgain(t, m)
			found := examine(t, c, state.VerifyFull)
			if found.Wrong == 0 {
				continue // gone, and named by nothing
			}
			tried++
			from := RepairSource{Name: "other", Cluster: openedAgain(t, &memory{objects: maps.Clone(b.objects)})}
			for _, r := range must(openedAgain(t, m).Repair(t.Context(), found.Damage, []RepairSource{from}))(t) {
				if !r.Healed && !r.Sound {
					t.Errorf("%s (gone: %v) is not healed: %s", r.Object, gone, r.Why)
				}
			}
			again := examine(t, openedAgain(t, m), state.VerifyQuick)
			if again.Wrong != 0 {
				t.Errorf("%s (gone: %v): still %+v", key, gone, again.Damage)
			}
			for _, k := range must(openedAgain(t, m).Trusted(t.Context(), nil, time.Time{}))(t) {
				if k.State != state.BackupCommitted {
					t.Errorf("%s (gone: %v): %s is %s: %s", key, gone, k.ID, k.State, k.Failure)
				}
			}
			healthy(t, openedAgain(t, m), ids...)
		}
	}
	if tried < 60 {
		t.Errorf("%d damages were tried", tried)
	}
}

// TestRepairNothingWhole: what no repository has whole stays as it is, and is said; bytes that only claim to be right are not taken.
func TestRepairNothingWhole(t *testing.T) {
	a, b, ids := twins(t)
	ca, cb := openedAgain(t, a), openedAgain(t, b)
	volume := ca.key.backupDir(ids[0]) + "v/base/000000"
	seg := ca.key.segmentFile(wal.Segment{Timeline: 1, Number: 0x35}, mib)
	for _, key := range []string{volume, seg} {
		flip(t, ca, key)
		flip(t, cb, key)
	}
	other := wal.Segment{Timeline: 1, Number: 0x36} // whole in the other, and another server's
	flip(t, ca, ca.key.segmentFile(other, mib))
	b.objects[cb.key.segmentFile(other, mib)] = sealedOther(t, other)
	before := maps.Clone(a.objects)
	found := examine(t, openedAgain(t, a), state.VerifyFull)
	for key := range a.objects { // the evidence
		if before[key] == nil {
			before[key] = a.objects[key]
		}
	}
	got := must(openedAgain(t, a).Repair(t.Context(), found.Damage, []RepairSource{{Name: "other", Cluster: openedAgain(t, b)}}))(t)
	for _, r := range got {
		if r.Healed || r.Sound || !strings.Contains(r.Why, "other") {
			t.Errorf("%+v", r)
		}
	}
	if len(got) < 3 {
		t.Errorf("found %+v", found.Damage)
	}
	for key, body := range a.objects {
		if string(before[key]) != string(body) {
			t.Errorf("%s was touched", key)
		}
	}
}

// sealedOther gives a segment of the same name with other content.
func sealedOther(t *testing.T, seg wal.Segment) []byte {
	t.Helper()
	m := newMemory()
	c := newArchive(t, m, mib)
	body := plainSegment(wal.Segment{Timeline: 9, Number: 9}, mib)
	check(t, c.PutSegment(t.Context(), seg, summaryOf(seg, mib), strings.NewReader(string(body))))
	return m.objects[c.key.segmentFile(seg, mib)]
}

// TestRepairCrash kills a repair before and after each of its calls; the next one heals what is left.
func TestRepairCrash(t *testing.T) {
	a, b, ids := twins(t)
	for _, name := range []string{"v/base/000000", "COMMIT.json", "START.json", "sums/000000"} {
		calls := 1 << 30
		for n := 0; n < calls; n++ {
			m := &memory{objects: maps.Clone(a.objects)}
			flip(t, openedAgain(t, m), openedAgain(t, m).key.backupDir(ids[0])+name)
			damage := examine(t, openedAgain(t, m), state.VerifyFull).Damage
			c := openedAgain(t, m)
			from := []RepairSource{{Name: "other", Cluster: openedAgain(t, &memory{objects: maps.Clone(b.objects)})}}
			at := 0
			m.step = func(string) (error, error) {
				if at++; at > n {
					return nil, errDead
				}
				return nil, nil
			}
			_, err := c.Repair(t.Context(), damage, from)
			if err == nil && at <= n {
				calls = n
			}
			m.step = nil
			must(openedAgain(t, m).Repair(t.Context(), damage, from))(t)
			if left := examine(t, openedAgain(t, m), state.VerifyQuick); left.Wrong != 0 {
				t.Fatalf("%s, killed after call %d: %+v", name, n, left.Damage)
			}
			healthy(t, openedAgain(t, m), ids...)
		}
		if calls < 5 {
			t.Errorf("%s: %d calls", name, calls)
		}
	}
}
