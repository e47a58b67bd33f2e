package repository

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/seal"
	"github.com/pgkeep/pgkeep/state/repository/store/storetest"
	"github.com/pgkeep/pgkeep/state/wal"
)

// TestHostSeesAnotherLife: what a trusted writer has signed under the right name, and of the right length, is found by a host that cannot decrypt it
// where it is not what the lists and the index name: an object of another life of the same cluster, put back.
func TestHostSeesAnotherLife(t *testing.T) {
	st := storetest.NewMemory(nil)
	c := hostCluster(t, st)
	archivePast(t, c)
	full, _, _ := backUpPast(t, c)
	seg := wal.Segment{Timeline: 1, Number: 1}
	volume := c.key.backupDir(full.ID) + volumeName(0, 0)
	team := must(OpenWith(t.Context(), st, teamRing()))(t).Cluster(archiveName, archiveID)
	body := bytes.Clone(plainObject(t, team, volume))
	body[len(body)/2] ^= 1
	sameSize := otherOfSize(t, seg, len(st.Bytes(c.key.segmentFile(seg, mib))))
	for key, put := range map[string]func(c *Cluster) error{
		volume: func(c *Cluster) error { return c.putObject(t.Context(), volume, body) },
		c.key.segmentFile(seg, mib): func(c *Cluster) error {
			return c.PutSegment(t.Context(), seg, summaryOf(seg, mib), bytes.NewReader(sameSize))
		},
	} {
		hurt := st.Clone()
		check(t, hurt.Delete(t.Context(), key))
		c := must(OpenWith(t.Context(), hurt, hostRing()))(t).Cluster(archiveName, archiveID)
		check(t, put(c))
		c = must(OpenWith(t.Context(), hurt, hostRing()))(t).Cluster(archiveName, archiveID)
		if found := verified(t, c); len(found) == 0 || found[0].Object != key || found[0].Code != state.CodeCorrupt {
			t.Errorf("%s of another life: %+v", key, found)
		}
	}
}

// otherOfSize gives another content of a segment that is as long as the given one when it is stored, so that its length does not betray it.
func otherOfSize(t *testing.T, seg wal.Segment, size int) []byte {
	t.Helper()
	for letter := byte('a'); letter <= 'z'; letter++ {
		st := storetest.NewMemory(nil)
		c := hostCluster(t, st)
		other := plainSegment(seg, mib)
		copy(other[5000:], past)
		other[5000+len(past)-1] = letter
		check(t, c.PutSegment(t.Context(), seg, summaryOf(seg, mib), bytes.NewReader(other)))
		if len(st.Bytes(c.key.segmentFile(seg, mib))) == size {
			return other
		}
	}
	t.Fatal("no other content has this size")
	return nil
}

// TestRepositoryFileIsBound: the key of a repository is signed for its very REPOSITORY.json, so that nobody changes what that says.
func TestRepositoryFileIsBound(t *testing.T) {
	st := storetest.NewMemory(nil)
	hostCluster(t, st)
	for name, change := range map[string]func(f *repositoryFile){
		"page size":     func(f *repositoryFile) { f.PageSize = 4096 },
		"its beginning": func(f *repositoryFile) { f.Created = f.Created.AddDate(0, 0, 1) },
	} {
		var f repositoryFile
		check(t, decodeRecord(st.Bytes(repositoryKey), &f))
		change(&f)
		hurt := st.Clone()
		hurt.Set(repositoryKey, must(encodeRecord(f))(t))
		if _, err := OpenWith(t.Context(), hurt, teamRing()); state.CodeOf(err) != state.CodeCorrupt || !strings.Contains(err.Error(), "no key") {
			t.Errorf("another %s: opened: %v", name, err)
		}
	}
}

// TestKeyGoneSinceOpened: verification tells of a key that was taken away after the repository was opened with it: the next one who opens it
// reads nothing of what was sealed with it.
func TestKeyGoneSinceOpened(t *testing.T) {
	st := storetest.NewMemory(nil)
	c := hostCluster(t, st)
	key := keyFile(c.repo.Keys()[0].ID)
	check(t, st.Delete(t.Context(), key))
	if found := verified(t, c); len(found) != 1 || found[0].Object != key {
		t.Errorf("a key that is gone: %+v", found)
	}
}

// TestForgedKey: a record that names a trusted writer and was not signed by him is no key, so that nothing is ever sealed for who put it there.
func TestForgedKey(t *testing.T) {
	st := storetest.NewMemory(nil)
	archivePast(t, hostCluster(t, st))
	id := must(OpenWith(t.Context(), st, hostRing()))(t).Keys()[0].ID
	var k keyRecord
	check(t, decodeRecord(st.Bytes(keyFile(id)), &k))
	his, _, _, err := seal.NewRepositoryKey("ffffffffffffffff", 9)
	check(t, err)
	beside := k
	beside.ID, beside.Number, beside.Meta, beside.Data = his.ID, his.Number, his.Meta, his.Data
	for name, forged := range map[string]keyRecord{"beside": beside, "unsigned": func() keyRecord { k := beside; k.Signature = strings.Repeat("0", 128); return k }()} {
		hurt := st.Clone()
		hurt.Set(keyFile(forged.ID), must(encodeRecord(forged))(t))
		r := must(OpenWith(t.Context(), hurt, teamRing()))(t)
		if got := r.Keys(); len(got) != 1 || got[0].ID != id {
			t.Errorf("%s: keys %+v", name, got)
		}
		if found := verified(t, r.Cluster(archiveName, archiveID)); len(found) != 1 || found[0].Object != keyFile(forged.ID) {
			t.Errorf("%s: found %+v", name, found)
		}
	}
	k.Data = his.Data // instead of the repository's own
	st.Set(keyFile(id), must(encodeRecord(k))(t))
	if _, err := OpenWith(t.Context(), st, teamRing()); state.CodeOf(err) != state.CodeCorrupt {
		t.Errorf("opened with a changed key: %v", err)
	}
}

// TestWrappedForNobody: a key whose data half nobody can unwrap any more is told of, also by a host that never could.
func TestWrappedForNobody(t *testing.T) {
	st := storetest.NewMemory(nil)
	c := hostCluster(t, st)
	id := c.repo.Keys()[0].ID
	for _, key := range st.Keys() {
		if strings.HasPrefix(key, keysDir+id+"/data-") {
			check(t, st.Delete(t.Context(), key))
		}
	}
	if found := verified(t, must(OpenWith(t.Context(), st, hostRing()))(t).Cluster(archiveName, archiveID)); len(found) != 1 || found[0].Object != keyFile(id) {
		t.Errorf("wrapped for nobody: %+v", found)
	}
}

// TestRepairLeavesWhatItCannotRead: an object that a repair cannot look at, because the store does not answer for it, may be whole: it is left as it is.
func TestRepairLeavesWhatItCannotRead(t *testing.T) {
	a, b, ids := twins(t)
	key := openedAgain(t, a).key.backupDir(ids[0]) + volumeName(0, 0)
	before := bytes.Clone(a.objects[key])
	c := openedAgain(t, a)
	tried := false
	a.step = func(call string) (error, error) {
		if call == "get "+key {
			tried = true
			return errors.New("the disk does not answer"), nil
		}
		if strings.HasPrefix(call, "delete ") {
			t.Errorf("%s", call)
		}
		return nil, nil
	}
	out := must(c.Repair(t.Context(), []state.Damage{{Object: key, Hurts: ids}}, []RepairSource{{Name: "main", Cluster: openedAgain(t, b)}}))(t)
	if len(out) != 1 || out[0].Healed || out[0].Sound || !strings.Contains(out[0].Why, "does not answer") || !tried {
		t.Errorf("repaired %+v", out)
	}
	if !bytes.Equal(a.objects[key], before) {
		t.Error("it was changed")
	}
}

// TestRepairTakesNoOtherStart: START of a copy is its own, so that the original's does not heal it: it is left as it is, and nothing is called healed.
func TestRepairTakesNoOtherStart(t *testing.T) {
	a, _, ids := twins(t)
	from, m := openedAgain(t, a), newMemory()
	to := newArchive(t, m, mib)
	in := CopyIntent{ID: ids[0], Host: "elsewhere", Program: "pgkeep test", Now: func() time.Time { return testNow }}
	must(CopyBackup(t.Context(), from, to, in))(t)
	key := to.key.startFile(ids[0])
	m.objects[key] = m.objects[key][:len(m.objects[key])/2]
	c := openedAgain(t, m)
	out := must(c.Repair(t.Context(), []state.Damage{{Object: key}}, []RepairSource{{Name: "main", Cluster: from}}))(t)
	if len(out) != 1 || out[0].Healed || out[0].Sound || !strings.Contains(out[0].Why, "is not the one that COMMIT names") {
		t.Errorf("repaired %+v", out)
	}
}
