package repository

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/seal"
	"github.com/pgkeep/pgkeep/state/wal"
)

// beforeCall lets another process act just before the n-th call that begins with prefix.
func beforeCall(m *memory, prefix string, n int, act func(other *Cluster)) {
	m.step = func(call string) (error, error) {
		if !strings.HasPrefix(call, prefix) {
			return nil, nil
		}
		if n--; n == 0 {
			act(testCluster(&memory{objects: m.objects}))
		}
		return nil, nil
	}
}

// TestABackupRemovedBetweenTheTwoLooksDoesNotStand: TOMB is looked for first. In the other order a removal that runs from
// its first to its last step between the two looks is not noticed.
func TestABackupRemovedBetweenTheTwoLooksDoesNotStand(t *testing.T) {
	m := newMemory()
	c := testCluster(m)
	id := testIntent(1).ID
	takeBackup(t, testIntent(1), seal.Codec{}, randomMembers(rand.New(rand.NewPCG(5, 5)), 3, 9000), 1000, c)
	beforeCall(m, "stat ", 2, func(other *Cluster) {
		check(t, other.Tomb(t.Context(), id, testNow))
		must(other.Sweep(t.Context(), muchLater))(t)
	})
	stands := must(c.stands(t.Context(), id))(t)
	if left := m.keys(); stands || len(left) != 0 {
		t.Errorf("it stands: %v; left: %v", stands, left)
	}
}

// TestAHoldLooksAfterItsPut: a TOMB that comes just before HOLD is put, after everything else was looked at.
func TestAHoldLooksAfterItsPut(t *testing.T) {
	m := newMemory()
	c := testCluster(m)
	id := testIntent(1).ID
	takeBackup(t, testIntent(1), seal.Codec{}, randomMembers(rand.New(rand.NewPCG(5, 5)), 3, 9000), 1000, c)
	beforeCall(m, "put ", 1, func(other *Cluster) { check(t, other.Tomb(t.Context(), id, testNow)) })
	if err := c.Hold(t.Context(), id, state.Hold{Holder: "restore-1"}, testNow); state.CodeOf(err) != state.CodeStale {
		t.Errorf("held: %v", err)
	}
	m.step = nil
	if b := must(c.Backups(t.Context()))(t); b[0].Hold != nil {
		t.Errorf("the hold was not released: %+v", b[0])
	}
}

// TestAPrimaryBehindThePruneFloor: WAL before the newest usable backup's redo may go whoever is backed up. A primary that was
// recovered to before that backup has a timeline, and WAL, of its own.
func TestAPrimaryBehindThePruneFloor(t *testing.T) {
	c := newArchive(t, newMemory(), mib)
	newest := testIntent(1)
	newest.Start, newest.Redo = wal.LSN(5*mib+0x28), wal.LSN(5*mib+0x28)
	takeBackup(t, newest, seal.Codec{}, randomMembers(rand.New(rand.NewPCG(5, 5)), 3, 9000), 1000, c)
	for n := uint64(5); n < uint64(commitFacts().Stop/wal.LSN(mib)); n++ {
		putSegment(t, c, wal.Segment{Timeline: 1, Number: n}, mib)
	}
	begin := func(n int, timeline wal.Timeline, redo wal.LSN) error {
		in := testIntent(n)
		in.Timeline, in.Start, in.Redo = timeline, redo, redo
		_, err := c.BeginBackup(t.Context(), in)
		return err
	}
	if err := begin(2, 1, 4*wal.LSN(mib)); state.CodeOf(err) != state.CodeStale {
		t.Errorf("behind the floor on its own timeline: %v", err)
	}
	check(t, begin(3, 1, newest.Redo))
	check(t, begin(4, 2, 4*wal.LSN(mib)))
}

// TestACommitThatWasCalledOffIsSettled: the context ends at the put of COMMIT; the decision is made all the same.
func TestACommitThatWasCalledOffIsSettled(t *testing.T) {
	m := newMemory()
	c := testCluster(m)
	s := must(NewBackupStream(t.Context(), []*BackupWriter{must(c.BeginBackup(t.Context(), testIntent(1)))(t)}, StreamOptions{}))(t)
	writeFolder(t, s.Folder(0, ""), randomMembers(rand.New(rand.NewPCG(5, 5)), 3, 9000), 1000)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	out, _ := s.Commit(ctx, commitFacts())
	if len(out) != 1 || !errors.Is(out[0].Err, context.Canceled) {
		t.Errorf("%+v", out)
	}
	if got := stateOf(t, c, testIntent(1).ID); got != state.BackupAborted {
		t.Errorf("it is %s", got)
	}
}

func TestAForeignReadmeIsNoEmptyPlace(t *testing.T) {
	m := newMemory()
	m.objects[readmeKey] = []byte("Holiday pictures\n")
	if _, err := OpenWith(t.Context(), m, suiteKeys()); state.CodeOf(err) != state.CodeNotRepository {
		t.Errorf("%v", err)
	}
	m.objects[readmeKey] = []byte(readme)
	if _, err := OpenWith(t.Context(), m, suiteKeys()); state.CodeOf(err) != state.CodeAbsent {
		t.Errorf("a Create that was cut short: %v", err)
	}
}

// TestTheSecondLookCountsWhatADiskLost: of a chain the oldest is deleted for long. Between the two looks a disk loses START of the
// second, and its TOMB comes: what it reads of the oldest is needed all the same, by those that were made of it meanwhile.
func TestTheSecondLookCountsWhatADiskLost(t *testing.T) {
	c := testCluster(newMemory())
	full, child := testIntent(1), childIntent(2, testIntent(1).ID)
	takeBackup(t, full, seal.Codec{}, randomMembers(rand.New(rand.NewPCG(5, 5)), 3, 9000), 1000, c)
	must(referBackup(t, c, child))(t)
	check(t, c.Tomb(t.Context(), full.ID, testNow))
	dead := must(c.deadBackups(t.Context(), muchLater))(t)
	if !dead[full.ID] || dead[child.ID] {
		t.Fatalf("dead at first: %v", dead)
	}
	check(t, c.Tomb(t.Context(), child.ID, testNow))
	check(t, c.deleteKeys(t.Context(), c.key.startFile(child.ID)))
	needs := must(c.lookForNeeds(t.Context(), dead, muchLater))(t)
	if len(needs.volumes[full.ID]) == 0 && !needs.named[full.ID] {
		t.Errorf("nothing of %s is needed: %+v", full.ID, needs)
	}
}
