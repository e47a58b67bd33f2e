package repository

import (
	"bytes"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/seal"
	"github.com/pgkeep/pgkeep/state/repository/store/storetest"
	"github.com/pgkeep/pgkeep/state/wal"
)

var muchLater = testNow.Add(1000 * time.Hour)

// twoBackups gives a full backup and one that refers to it.
func twoBackups(t *testing.T) (m *memory, full, child string) {
	t.Helper()
	m = newMemory()
	takeBackup(t, testIntent(1), seal.Codec{}, randomMembers(rand.New(rand.NewPCG(5, 5)), 4, 20_000), 1000, testCluster(m))
	in := childIntent(2, testIntent(1).ID)
	must(referBackup(t, testCluster(m), in))(t)
	return m, testIntent(1).ID, in.ID
}

func stateOf(t *testing.T, c *Cluster, id string) state.BackupState {
	t.Helper()
	for _, b := range must(c.Backups(t.Context()))(t) {
		if b.ID == id {
			if b.State == state.BackupCorrupt && b.Failure == "" {
				t.Errorf("backup %s is corrupt and nobody says why", id)
			}
			return b.State
		}
	}
	return ""
}

// volumesOf counts the volumes that are there.
func volumesOf(m *memory, id string) int {
	return len(slices.DeleteFunc(m.keys(), func(k string) bool { return !strings.Contains(k, id+"/v/") }))
}

// TestABadRecordIsAFindingAndNoFood breaks or loses each record of a full backup and of its child in turn. The other one
// is told as it was, nothing of either is removed, however late it is; given up by name, the broken one goes and takes
// nothing with it that others need.
func TestABadRecordIsAFindingAndNoFood(t *testing.T) {
	base, full, child := twoBackups(t)
	flip := func(m *memory, key string) {
		b := bytes.Clone(m.objects[key])
		b[len(b)/2] ^= 4
		m.objects[key] = b
	}
	lose := func(m *memory, key string) { delete(m.objects, key) }
	for name, damage := range map[string]func(*memory, string){"flip": flip, "lose": lose} {
		for victim, other := range map[string]string{full: child, child: full} {
			for _, object := range []string{startName, decisionName} {
				if name == "lose" && object == decisionName {
					continue // an open backup, whose writer may live
				}
				t.Run(name+"/"+object+"/"+victim, func(t *testing.T) {
					m := &memory{objects: maps.Clone(base.objects)}
					c := testCluster(m)
					damage(m, c.key.backupDir(victim)+object)
					before := len(m.keys())
					if got := stateOf(t, c, victim); got != state.BackupCorrupt {
						t.Errorf("it is told as %q", got)
					}
					if got := stateOf(t, c, other); got != state.BackupCommitted {
						t.Errorf("the other one is told as %q", got)
					}
					must(c.Sweep(t.Context(), muchLater))(t)
					if len(m.keys()) != before {
						t.Error("a sweep removed of it")
					}
					if _, err := c.OpenBackup(t.Context(), victim); state.CodeOf(err) != state.CodeCorrupt {
						t.Errorf("opened: %v", err)
					}
					must(c.OpenBackup(t.Context(), other))(t)
					if err := c.Hold(t.Context(), victim, state.Hold{}, testNow); err == nil {
						t.Error("held as if it were whole")
					}
					if victim == full {
						if _, err := c.BeginBackup(t.Context(), childIntent(7, full)); state.CodeOf(err) == "" {
							t.Errorf("a parent: %v", err)
						}
						for _, key := range m.keys() { // the try
							if strings.Contains(key, childIntent(7, full).ID) {
								delete(m.objects, key)
							}
						}
					}
					volumes := volumesOf(m, full)
					check(t, c.Tomb(t.Context(), victim, testNow)) // by name
					must(c.Sweep(t.Context(), muchLater))(t)
					must(c.Sweep(t.Context(), muchLater))(t)
					if victim == child && volumesOf(m, child) > 0 {
						t.Error("given up, and still there")
					}
					if victim == full {
						if volumesOf(m, full) == 0 || volumes == 0 {
							t.Error("its child lost the volumes that it reads")
						}
						readsWhole(t, c, child)
					}
				})
			}
		}
	}
}

func readsWhole(t *testing.T, c *Cluster, id string) {
	t.Helper()
	b := must(c.OpenBackup(t.Context(), id))(t)
	check(t, b.Pieces(t.Context(), PieceOptions{Workers: 1}, func(Piece) error { return nil }))
}

// TestWhatACorruptBackupMayReferToStays: an unreadable START of an open backup may name anyone, so a sweep stops; an
// unreadable decision leaves what START names, and an unreadable list of references what the decision names.
func TestWhatACorruptBackupMayReferToStays(t *testing.T) {
	base, full, child := twoBackups(t)
	for _, object := range []string{decisionName, refsDir + "000000", startName + " of an open one"} {
		m := &memory{objects: maps.Clone(base.objects)}
		c := testCluster(m)
		check(t, c.Tomb(t.Context(), full, testNow))
		name, open := strings.CutSuffix(object, " of an open one")
		if open {
			delete(m.objects, c.key.commitFile(child))
		}
		m.objects[c.key.backupDir(child)+name] = []byte("not what was written")
		before := volumesOf(m, full)
		_, err := c.Sweep(t.Context(), muchLater)
		if volumesOf(m, full) != before {
			t.Errorf("%s: volumes that it may read went", object)
		}
		if open != (state.CodeOf(err) == state.CodeCorrupt) {
			t.Errorf("%s: %v", object, err)
		}
	}
}

func TestAHoldThatCannotBeReadCounts(t *testing.T) {
	m, full, _ := twoBackups(t)
	c := testCluster(m)
	check(t, c.Hold(t.Context(), full, state.Hold{Holder: "restore-1", Expires: testNow.Add(time.Hour)}, testNow))
	m.objects[c.key.holdFile(full, 1)] = []byte("{}")
	if err := c.Tomb(t.Context(), full, muchLater); state.CodeOf(err) != state.CodeStale {
		t.Errorf("deleted: %v", err)
	}
	if got := stateOf(t, c, full); got != state.BackupCommitted {
		t.Errorf("it is %s", got)
	}
	check(t, c.Release(t.Context(), full, testNow))
	check(t, c.Tomb(t.Context(), full, muchLater))
}

// TestATombThatCannotBeReadNeverExpires: when it was put is not known.
func TestATombThatCannotBeReadNeverExpires(t *testing.T) {
	m, _, child := twoBackups(t)
	c := testCluster(m)
	check(t, c.Tomb(t.Context(), child, testNow))
	m.objects[c.key.tombFile(child)] = []byte("{}")
	before := len(m.keys())
	must(c.Sweep(t.Context(), muchLater))(t)
	if len(m.keys()) != before || stateOf(t, c, child) != state.BackupCorrupt {
		t.Errorf("%d of %d objects left, it is %s", len(m.keys()), before, stateOf(t, c, child))
	}
}

// TestALateCommitIsLeftForAHuman: a writer that was aborted and removed puts its COMMIT and dies. It has the shape of a
// backup that lost its START.
func TestALateCommitIsLeftForAHuman(t *testing.T) {
	m := newMemory()
	c := testCluster(m)
	id := testIntent(1).ID
	check(t, c.putRecord(t.Context(), c.key.commitFile(id), decision{Format: 1, ID: id, Decision: decidedCommitted, Decided: testNow, Ended: testNow, Timeline: 1}))
	must(c.Sweep(t.Context(), muchLater))(t)
	if stateOf(t, c, id) != state.BackupCorrupt {
		t.Errorf("it is %q", stateOf(t, c, id))
	}
	check(t, c.Tomb(t.Context(), id, testNow))
	must(c.Sweep(t.Context(), muchLater))(t)
	if left := m.keys(); len(left) > 0 {
		t.Errorf("given up by name, left %v", left)
	}
}

// TestARemovalThatWasCutShortIsSeen: after START is gone nothing else told of the rest.
func TestARemovalThatWasCutShortIsSeen(t *testing.T) {
	m, full, child := twoBackups(t)
	c := testCluster(m)
	delete(m.objects, c.key.commitFile(child))
	must(c.AbortBackup(t.Context(), child, "dead", testNow))(t)
	for n := 0; ; n++ {
		calls := 0
		m.step = func(call string) (error, error) {
			if !strings.HasPrefix(call, "delete ") {
				return nil, nil
			}
			if calls++; calls > n {
				return errDead, nil
			}
			return nil, nil
		}
		_, err := c.RemoveAborted(t.Context(), child)
		m.step = nil
		if err == nil {
			break
		}
		left := slices.ContainsFunc(m.keys(), func(k string) bool { return strings.Contains(k, child) })
		if got := stateOf(t, c, child); left && got != state.BackupAborted {
			t.Fatalf("cut after %d deletes it is %q", n, got)
		}
	}
	if len(slices.DeleteFunc(m.keys(), func(k string) bool { return !strings.Contains(k, child) })) > 0 || stateOf(t, c, full) != state.BackupCommitted {
		t.Errorf("left: %v", m.keys())
	}
}

// TestOneBadClusterHidesNoOther: and one bad START hides no other backup of its own.
func TestOneBadClusterHidesNoOther(t *testing.T) {
	m := storetest.NewMemory(nil)
	good := newArchive(t, m, mib)
	bad := good.repo.Cluster("invoices", archiveID)
	check(t, bad.Ensure(t.Context(), ClusterFacts{Major: 15, SegmentSize: mib, PageSize: 8192}))
	members := randomMembers(rand.New(rand.NewPCG(5, 5)), 3, 9000)
	takeBackup(t, testIntent(1), seal.Codec{}, members, 1000, good)
	takeBackup(t, testIntent(2), seal.Codec{}, members, 1000, good)
	putSegment(t, good, wal.Segment{Timeline: 1, Number: 9}, mib)
	m.Set(good.key.startFile(testIntent(1).ID), []byte("{}"))
	m.Set(bad.key.clusterFile(), []byte("{}"))
	seen := Look(t.Context(), m, ObserveOptions{Keys: suiteKeys(), Location: "here"})
	if seen.Unknown != nil || len(seen.Clusters) != 2 {
		t.Fatalf("%+v", seen)
	}
	b := seen.Clusters["invoices"][0]
	if b.Unknown == nil || b.Unknown.Code != state.CodeCorrupt || b.SystemID != archiveID {
		t.Errorf("%+v", b)
	}
	g := seen.Clusters[archiveName][0]
	if g.Unknown != nil || len(g.WAL) == 0 || len(g.Backups) != 2 || g.Backups[0].State != state.BackupCorrupt || g.Backups[1].State != state.BackupCommitted {
		t.Errorf("%+v", g)
	}
}
