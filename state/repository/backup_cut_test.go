package repository

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/seal"
	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/repository/store/storetest"
)

// continuing gives the intent of a backup that goes on with cut ones.
func continuing(n int, cut ...string) Intent {
	in := testIntent(n)
	if len(cut) > 0 {
		in.ID, in.Kind, in.Continues, in.Cut = NewBackupID(in.Now, KindIncremental, uint32(n)), KindIncremental, cut, cut
	}
	return in
}

// beginAgain begins a backup that goes on with the cut ones of an intent, which all clusters have alike, and marks every volume.
func beginAgain(t testing.TB, c *Cluster, in Intent, codec seal.Codec, more ...*Cluster) *BackupStream {
	t.Helper()
	o := StreamOptions{Codec: codec, Continued: len(in.Continues) > 0, Marks: 1}
	for _, id := range in.Cut {
		o.Cut = append(o.Cut, must(c.OpenCut(t.Context(), id))(t))
	}
	writers := []*BackupWriter{must(c.BeginBackup(t.Context(), in))(t)}
	for _, c := range more {
		writers = append(writers, must(c.BeginBackup(t.Context(), in))(t))
	}
	return must(NewBackupStream(t.Context(), writers, o))(t)
}

// sendPart sends so many bytes of the members' content, and no end.
func sendPart(t testing.TB, w *FolderWriter, members []member, most int) {
	t.Helper()
	for _, m := range members {
		check(t, w.Header(bytes.Repeat([]byte("head"), 128), m.Member))
		for part := range slices.Chunk(m.data[:min(len(m.data), most)], 100_000) {
			check(t, w.Data(part))
		}
		if most -= len(m.data); most <= 0 {
			return
		}
	}
}

// cutAt writes the beginning of a backup and cuts it: its writer ends, or is killed and somebody else decides. It gives how much of it is
// there.
func cutAt(t testing.TB, c *Cluster, in Intent, codec seal.Codec, members []member, most int, killed bool) int64 {
	t.Helper()
	s := beginAgain(t, c, in, codec)
	sendPart(t, s.Folder(0, ""), members, most)
	for range 20_000 { // until what was sent is marked and there, or nothing more comes
		m, _, err := c.lastMark(t.Context(), in.ID)
		if err != nil || (m.Stored > int64(most)*6/10 || len(in.Cut) > 0 && m.Stored > 16_000_000) && marksHold(t, c, in.ID) {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if !killed {
		out := s.Abort(t.Context(), "the line was cut", in.Now)
		if out[0].Err == nil {
			t.Fatal("a cut backup was committed")
		}
	} else {
		s.cancel(errors.New("killed"))
		_ = s.group.Wait()
		s.fan.stop()
		s.fan.group.Wait()
		if got := must(c.CutBackup(t.Context(), in.ID, "its writer died", in.Now))(t); got != state.BackupCut {
			t.Fatalf("it is %s", got)
		}
	}
	for _, b := range must(c.Backups(t.Context()))(t) {
		if b.ID == in.ID {
			if b.State != state.BackupCut || b.Reusable == 0 {
				t.Fatalf("%+v", b)
			}
			return b.Reusable
		}
	}
	t.Fatal("it is not listed")
	return 0
}

// marksHold tells whether all that the marks list is there: they may come first.
func marksHold(t testing.TB, c *Cluster, id string) bool {
	t.Helper()
	for n := range maxMarks {
		m, _, err := c.readMark(t.Context(), id, n)
		if err != nil {
			return n > 0
		}
		whole := true
		check(t, parseSums([]byte(m.Sums), func(l sumLine) error {
			whole = whole && must(c.exists(t.Context(), c.key.backupDir(id)+l.name))(t)
			return nil
		}))
		if !whole {
			return false
		}
	}
	return true
}

// finish sends all of a backup and commits it.
func finish(t testing.TB, s *BackupStream, members []member) {
	t.Helper()
	writeFolder(t, s.Folder(0, ""), members, 50_000)
	check(t, s.EndData())
	check(t, s.WriteManifest([]byte("{the manifest}\n")))
	check(t, s.Keep(Kept{BackupLabel: []byte("START WAL LOCATION")}))
	out, err := s.Commit(t.Context(), commitFacts())
	check(t, err)
	for _, o := range out {
		check(t, o.Err)
	}
}

// TestCutBackupIsContinued cuts a backup, cuts the one that goes on with it, and finishes the third: it stores what the two have not, and holds what
// the files hold then. What nobody reads of the two goes when they get their TOMB, and all the rest with the last reader.
func TestCutBackupIsContinued(t *testing.T) {
	for round := range rounds(t, 2) {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			random := rand.New(rand.NewPCG(uint64(round), 11))
			codec := seal.Codec{Algorithm: []seal.Algorithm{seal.Zstd, seal.LZ4, seal.Gzip}[round%3]}
			if codec.Algorithm == seal.Gzip {
				codec.Level = 1
			}
			c := testCluster(newMemory())
			members := bigMembers(6, 1200)
			one, two, three := testIntent(1), continuing(2, testIntent(1).ID), continuing(3, continuing(2, "").ID, testIntent(1).ID)
			first := cutAt(t, c, one, codec, members, 35_000_000, round%2 == 0)
			members = touch(random, members, 40)
			second := cutAt(t, c, two, codec, members, 58_000_000, random.IntN(2) == 0)
			members = touch(random, members, 40)
			s := beginAgain(t, c, three, codec)
			finish(t, s, members)
			whole := testCluster(newMemory())
			takeBackup(t, testIntent(1), codec, members, 50_000, whole)
			full := must(whole.Backups(t.Context()))(t)[0].StoredBytes
			last := must(c.OpenBackup(t.Context(), three.ID))(t)
			t.Logf("%d + %d are stored, then %d of %d, %d of the files' bytes are referred to", first, second, s.Stored(), full, s.Referred())
			if first < full/4 || second < full/10 || s.Stored() > full-first-second+full/8 {
				t.Errorf("the third stored %d, a full %d", s.Stored(), full)
			}
			sound := func() {
				t.Helper()
				holdsMembers(t, last, members)
				check(t, c.VerifyBackup(t.Context(), three.ID, true, func(f Finding) { t.Fatalf("%+v", f) }))
			}
			sound()
			if c, d := last.rec.decided.Chain, last.rec.start; c.Depth != 1 || c.Full != three.ID || !slices.Equal(d.Continues, three.Continues) || d.Parent != "" {
				t.Errorf("%+v %+v", c, d)
			}
			for _, id := range three.Cut {
				check(t, c.Tomb(t.Context(), id, three.Now))
				must(c.Sweep(t.Context(), three.Now))(t) // no day of grace
				sound()
			}
			for _, id := range three.Cut {
				if keys := backupKeys(t, c, id); len(keys) == 0 || slices.ContainsFunc(keys, func(k string) bool { return strings.Contains(k, "/"+marksDir) || strings.Contains(k, "/"+hashDir) }) {
					t.Errorf("of %s is left %v", id, keys)
				}
			}
			if keys := backupKeys(t, c, three.ID); slices.ContainsFunc(keys, func(k string) bool { return strings.Contains(k, "/"+marksDir) }) {
				t.Errorf("marks of a committed backup stay: %v", keys)
			}
			child := childIntent(4, three.ID)
			takeIncremental(t, child, codec, members, c)
			check(t, c.Tomb(t.Context(), three.ID, child.Now))
			must(c.Sweep(t.Context(), child.Now.Add(25*time.Hour)))(t)
			holdsMembers(t, must(c.OpenBackup(t.Context(), child.ID))(t), members)
			check(t, c.Tomb(t.Context(), child.ID, child.Now))
			must(c.Sweep(t.Context(), child.Now.Add(25*time.Hour)))(t)
			must(c.Sweep(t.Context(), child.Now.Add(25*time.Hour)))(t)
			if left := memoryKeys(c); len(left) != 0 {
				t.Errorf("left %v", left)
			}
		})
	}
}

// touch changes so many pages.
func touch(random *rand.Rand, members []member, pages int) []member {
	members = slices.Clone(members)
	for i := range members {
		members[i].data = bytes.Clone(members[i].data)
	}
	for range pages {
		m := members[random.IntN(len(members))]
		m.data[random.IntN(len(m.data))] ^= 0x11
	}
	return members
}

// TestWhatIsMissingOfACutBackupIsStoredAnew takes objects away from a cut backup, one after another, and makes volumes shorter: what goes on with it
// is always whole.
func TestWhatIsMissingOfACutBackupIsStoredAnew(t *testing.T) {
	base := newMemory()
	members := bigMembers(5, 1200)
	one := testIntent(1)
	first := cutAt(t, testCluster(base), one, seal.Codec{}, members, 40_000_000, false)
	refused, less := 0, int64(1<<62)
	for _, gone := range backupKeys(t, testCluster(base), one.ID) {
		name := strings.TrimPrefix(gone, testCluster(base).key.backupDir(one.ID))
		if name == startName || name == decisionName || !strings.HasSuffix(name, "0") && os.Getenv("PGKEEP_ROUNDS") == "" {
			continue
		}
		m := newMemory()
		for k, v := range base.objects {
			m.objects[k] = v
		}
		if delete(m.objects, gone); strings.HasPrefix(name, volumeDir) {
			m.objects[gone] = base.objects[gone][:len(base.objects[gone])-1]
		}
		c := testCluster(m)
		if _, err := c.OpenCut(t.Context(), one.ID); err != nil {
			refused++
			if state.CodeOf(err) != state.CodeCorrupt {
				t.Errorf("without %s: %v", name, err)
			}
			continue
		}
		two := continuing(2, one.ID)
		s := beginAgain(t, c, two, seal.Codec{})
		finish(t, s, members)
		less = min(less, s.Stored())
		check(t, c.VerifyBackup(t.Context(), two.ID, true, func(f Finding) { t.Errorf("without %s: %+v", name, f) }))
		holdsMembers(t, must(c.OpenBackup(t.Context(), two.ID))(t), members)
	}
	if most := 5*1200*8192 - first + 12_000_000; refused == 0 || less > most { // one volume less, and what its frames leave thin
		t.Errorf("%d refused, at least %d stored and at most %d meant", refused, less, most)
	}
}

// TestMarkBeforeItsListsDoesNotCount: the last lists of a cut backup, and a mark in its middle, are not there. What the marks before prove is gone on with.
func TestMarkBeforeItsListsDoesNotCount(t *testing.T) {
	base := newMemory()
	members := bigMembers(5, 1200)
	one := testIntent(1)
	cutAt(t, testCluster(base), one, seal.Codec{}, members, 40_000_000, true)
	d := must(testCluster(base).readDecision(t.Context(), one.ID))(t)
	if len(d.Marks) < 3 || d.HashShards < 2 || d.FileShards < 2 {
		t.Fatalf("too little to take away: %+v", d)
	}
	for i, name := range []string{shardName(hashDir, d.HashShards-1), shardName(filesDir, d.FileShards-1), shardName(marksDir, len(d.Marks)-1)} {
		m := newMemory()
		for k, v := range base.objects {
			m.objects[k] = v
		}
		c := testCluster(m)
		delete(m.objects, c.key.backupDir(one.ID)+name)
		two := continuing(2, one.ID)
		s := beginAgain(t, c, two, seal.Codec{})
		finish(t, s, members)
		if s.Referred() < 5_000_000 {
			t.Errorf("%d without %s: %d bytes are referred to", i, name, s.Referred())
		}
		check(t, c.VerifyBackup(t.Context(), two.ID, true, func(f Finding) { t.Errorf("without %s: %+v", name, f) }))
		holdsMembers(t, must(c.OpenBackup(t.Context(), two.ID))(t), members)
	}
}

// TestLateCutIsGarbage: a backup is aborted and removed while its writer sleeps, or while somebody is about to decide `cut`. What that leaves is no backup
// whose START was lost, for which all WAL would be kept, and goes by the next sweep.
func TestLateCutIsGarbage(t *testing.T) {
	m := newMemory()
	c := testCluster(m)
	one := testIntent(1)
	cutAt(t, c, one, seal.Codec{}, bigMembers(3, 1200), 25_000_000, true)
	keep := func(name string) []byte {
		return must(c.readObject(t.Context(), c.key.backupDir(one.ID)+name, maxShard))(t)
	}
	put := func(name string, body []byte) {
		check(t, c.repo.Store().PutIfAbsent(t.Context(), c.key.backupDir(one.ID)+name, bytes.NewReader(body), int64(len(body)), store.PutOptions{}))
	}
	late, first := keep(decisionName), keep(shardName(marksDir, 0))
	must(c.RemoveCut(t.Context(), one.ID, testNow))(t)
	if left := memoryKeys(c); len(left) != 0 {
		t.Fatalf("left %v", left)
	}
	put(shardName(marksDir, 0), first) // of a writer that slept
	if got := must(c.CutBackup(t.Context(), one.ID, "it woke up", testNow))(t); got != state.BackupAborted {
		t.Errorf("what was removed is %s", got)
	}
	check(t, c.repo.Store().Delete(t.Context(), c.key.commitFile(one.ID)))
	put(decisionName, late) // of somebody who had looked before
	stays := maps.Clone(m.objects)
	if backups := must(c.Backups(t.Context()))(t); len(backups) != 1 || backups[0].State != state.BackupAborted || backups[0].Reusable != 0 {
		t.Errorf("%+v", backups)
	}
	must(c.Sweep(t.Context(), testNow))(t)
	if left := memoryKeys(c); len(left) != 0 {
		t.Errorf("left %v", left)
	}
	m.objects = stays // and as remove-incomplete does it
	if got := must(c.AbortBackup(t.Context(), one.ID, "its writer died", testNow))(t); got != state.BackupAborted {
		t.Errorf("what was removed is %s", got)
	}
	must(c.RemoveAborted(t.Context(), one.ID))(t)
	if left := memoryKeys(c); len(left) != 0 {
		t.Errorf("left %v", left)
	}
}

// TestWrongBytesOfACutBackupAreFound: a volume of it that holds other bytes of the same length is referred to, as any backup's is, and verification
// names it.
func TestWrongBytesOfACutBackupAreFound(t *testing.T) {
	m := newMemory()
	c := testCluster(m)
	members := bigMembers(4, 1200)
	one, two := testIntent(1), continuing(2, testIntent(1).ID)
	cutAt(t, c, one, seal.Codec{}, members, 30_000_000, true)
	volume := c.key.backupDir(one.ID) + volumeName(0, 0)
	m.objects[volume] = bytes.Clone(m.objects[volume])
	m.objects[volume][100_000] ^= 4
	finish(t, beginAgain(t, c, two, seal.Codec{}), members)
	found := false
	check(t, c.VerifyBackup(t.Context(), two.ID, true, func(f Finding) { found = found || f.Object == volume }))
	if !found {
		t.Error("verification does not find it")
	}
}

// TestHostWithoutDataKeyContinues: a backup host that cannot read the past goes on with a cut backup.
func TestHostWithoutDataKeyContinues(t *testing.T) {
	st := storetest.NewMemory(nil)
	c := hostCluster(t, st)
	members := bigMembers(4, 1200)
	one, two := testIntent(1), continuing(2, testIntent(1).ID)
	cutAt(t, c, one, seal.Codec{}, members, 30_000_000, true)
	c = must(OpenWith(t.Context(), st, hostRing()))(t).Cluster(archiveName, archiveID)
	s := beginAgain(t, c, two, seal.Codec{})
	finish(t, s, members)
	if s.Referred() < 10_000_000 {
		t.Errorf("%d are referred to", s.Referred())
	}
	for _, f := range verified(t, c) {
		t.Errorf("%+v", f)
	}
	team := must(OpenWith(t.Context(), st, teamRing()))(t).Cluster(archiveName, archiveID)
	holdsMembers(t, must(team.OpenBackup(t.Context(), two.ID))(t), members)
}

// TestCutCompetes: of `committed`, `aborted` and `cut` one stands, and what is on its way out is gone on with by nobody.
func TestCutCompetes(t *testing.T) {
	c := testCluster(newMemory())
	members := bigMembers(3, 1200)
	one := testIntent(1)
	cutAt(t, c, one, seal.Codec{}, members, 25_000_000, false)
	if got := must(c.AbortBackup(t.Context(), one.ID, "again", testNow))(t); got != state.BackupCut {
		t.Errorf("it is %s", got)
	}
	if _, err := c.RemoveAborted(t.Context(), one.ID); state.CodeOf(err) != state.CodeStale {
		t.Errorf("a cut backup is removed as if it were aborted: %v", err)
	}
	if _, err := c.OpenBackup(t.Context(), one.ID); state.CodeOf(err) != state.CodeStale {
		t.Errorf("a cut backup is restored: %v", err)
	}
	two := continuing(2, one.ID)
	s := beginAgain(t, c, two, seal.Codec{})
	check(t, c.Tomb(t.Context(), one.ID, testNow)) // too late: START names it
	must(c.Sweep(t.Context(), two.Now))(t)
	finish(t, s, members)
	holdsMembers(t, must(c.OpenBackup(t.Context(), two.ID))(t), members)
	if _, err := c.OpenCut(t.Context(), one.ID); state.CodeOf(err) != state.CodeStale {
		t.Errorf("a backup on its way out is gone on with: %v", err)
	}
	if _, err := c.BeginBackup(context.Background(), continuing(3, one.ID)); state.CodeOf(err) != state.CodeStale {
		t.Errorf("a backup on its way out is gone on with: %v", err)
	}
	// The decision is lost: the volumes are read, and stay.
	check(t, c.repo.Store().Delete(t.Context(), c.key.commitFile(one.ID), c.key.tombFile(one.ID)))
	must(c.AbortBackup(t.Context(), one.ID, "its writer is dead", testNow))(t)
	if _, err := c.RemoveAborted(t.Context(), one.ID); state.CodeOf(err) != state.CodeCorrupt {
		t.Errorf("volumes that are read are removed: %v", err)
	}
	holdsMembers(t, must(c.OpenBackup(t.Context(), two.ID))(t), members)
	small := testIntent(5)
	must(c.BeginBackup(t.Context(), small))(t)
	if got := must(c.CutBackup(t.Context(), small.ID, "its writer died", testNow))(t); got != state.BackupAborted {
		t.Errorf("a backup that has proved nothing is %s", got)
	}
}

// TestRemovedWhileItIsGoneOnWith: a cut backup gets its TOMB while another one goes on with it, and stays whole until that is decided. One that is aborted
// nobody goes on with.
func TestRemovedWhileItIsGoneOnWith(t *testing.T) {
	c := testCluster(newMemory())
	members := bigMembers(3, 1200)
	one, two := testIntent(1), continuing(2, testIntent(1).ID)
	cutAt(t, c, one, seal.Codec{}, members, 25_000_000, true)
	before := len(backupKeys(t, c, one.ID))
	s := beginAgain(t, c, two, seal.Codec{})
	if freed := must(c.RemoveCut(t.Context(), one.ID, testNow))(t); freed != 0 || len(backupKeys(t, c, one.ID)) != before+1 { // TOMB
		t.Errorf("%d bytes freed, left %v", freed, backupKeys(t, c, one.ID))
	}
	check(t, c.repo.Store().Delete(t.Context(), c.key.commitFile(one.ID), c.key.tombFile(one.ID))) // the decision is lost
	must(c.AbortBackup(t.Context(), one.ID, "its writer is dead", testNow))(t)
	if _, err := c.RemoveAborted(t.Context(), one.ID); state.CodeOf(err) != state.CodeCorrupt {
		t.Errorf("volumes that are about to be read are removed: %v", err)
	}
	finish(t, s, members)
	holdsMembers(t, must(c.OpenBackup(t.Context(), two.ID))(t), members)
	aborted := testIntent(3)
	must(c.BeginBackup(t.Context(), aborted))(t)
	must(c.AbortBackup(t.Context(), aborted.ID, "again", testNow))(t)
	if _, err := c.BeginBackup(t.Context(), continuing(4, aborted.ID)); state.CodeOf(err) != state.CodeStale {
		t.Errorf("an aborted backup is gone on with: %v", err)
	}
}
