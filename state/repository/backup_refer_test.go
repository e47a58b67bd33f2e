package repository

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/seal"
)

// childIntent is the intent of an incremental backup.
func childIntent(n int, parent string) Intent {
	in := testIntent(n)
	in.ID, in.Kind, in.Parent = NewBackupID(in.Now, KindIncremental, uint32(n)), KindIncremental, parent
	return in
}

// referBackup writes, as later incrementals will, a backup whose files are the parent's but for the first page of each,
// which is new and lies in a volume of its own. It gives the new page.
func referBackup(t testing.TB, c *Cluster, in Intent) ([]byte, error) {
	t.Helper()
	w, err := c.BeginBackup(t.Context(), in)
	if err != nil {
		return nil, err
	}
	page := bytes.Repeat([]byte{byte(in.Now.Hour())}, pageSize)
	framer := must(seal.NewFramer(seal.Codec{}))(t)
	out := must(framer.Frame(nil, page))(t)
	own := frameAt{stored: len(out), raw: pageSize, sum: xxh3.Hash(page)}
	volume := framer.Note(slices.Clone(out), seekTable{frames: []frameAt{own}}.encode())
	sums, refs, files := sumWriter{dir: sumsDir}, sumWriter{dir: refsDir}, fileShardWriter{backup: in.ID}
	put := func(name string, body []byte) error {
		return c.putObject(t.Context(), c.key.backupDir(in.ID)+name, body)
	}
	list := func(name string, body []byte) error {
		if err := sums.add(sumLine{name: name, size: int64(len(body)), sum: sha256.Sum256(body)}, put); err != nil {
			return err
		}
		return put(name, body)
	}
	if err := list(volumeName(0, 0), volume); err != nil {
		return nil, err
	}
	parent, err := c.OpenBackup(t.Context(), in.Parent)
	if err != nil {
		return nil, err
	}
	from := map[string]bool{}
	var refersTo []string
	d := decision{Format: backupFormat, ID: in.ID, Decision: decidedCommitted, Stop: 0x4000000, Timeline: 1, Decided: in.Now, Ended: in.Now}
	for f, err := range parent.Files(t.Context()) {
		if err != nil {
			return nil, err
		}
		f.frames = slices.Clone(f.frames)
		for i := range f.frames {
			if f.frames[i].backup == "" {
				f.frames[i].backup = in.Parent
			}
		}
		if f.Size >= pageSize {
			f = overlay(f, own)
		}
		for _, x := range f.Extents {
			if at := f.frames[x.frame]; at.backup != "" && !from[referenceName(at.backup, volumeName(at.folder, at.volume))] {
				from[referenceName(at.backup, volumeName(at.folder, at.volume))] = true
				refersTo = append(refersTo, at.backup)
			}
		}
		d.Files++
		d.DataBytes += f.Size
		if err := files.add(&f, func(name string, raw []byte) error { return list(name, must(framer.Frame(nil, raw))(t)) }); err != nil {
			return nil, err
		}
	}
	if err := files.flush(func(name string, raw []byte) error { return list(name, must(framer.Frame(nil, raw))(t)) }); err != nil {
		return nil, err
	}
	if err := list(folderListName, must(encodeRecord(folderList{Format: 1, Backup: in.ID, Folders: parent.Folders()}))(t)); err != nil {
		return nil, err
	}
	for name := range from {
		other, vol, _ := splitReference(name)
		body, err := c.readObject(t.Context(), c.key.backupDir(other)+vol, maxVolume)
		if err != nil {
			return nil, err
		}
		if err := refs.add(sumLine{name: name, size: int64(len(body)), sum: sha256.Sum256(body)}, put); err != nil {
			return nil, err
		}
	}
	if err := refs.flush(put); err != nil {
		return nil, err
	}
	if err := sums.flush(put); err != nil {
		return nil, err
	}
	slices.Sort(refersTo)
	d.Sums, d.Refs, d.RefersTo, d.FileShards = sums.shards, refs.shards, slices.Compact(refersTo), files.number
	return page, w.commit(t.Context(), d)
}

// overlay lays a new first page over a file.
func overlay(f File, own frameAt) File {
	f.frames = append(f.frames, own)
	extents := []Extent{{Length: pageSize, frame: len(f.frames) - 1}}
	for _, x := range f.Extents {
		if skip := int(max(0, pageSize-x.Offset)); skip < x.Length {
			extents = append(extents, Extent{Offset: x.Offset + int64(skip), Length: x.Length - skip, frame: x.frame, in: x.in + skip})
		}
	}
	f.Extents = extents
	return f
}

func TestReaderFollowsReferences(t *testing.T) {
	members := randomMembers(rand.New(rand.NewPCG(5, 5)), 30, 700_000)
	c := testCluster(newMemory())
	full := testIntent(1)
	takeBackup(t, full, seal.Codec{}, members, 100_000, c)
	child := childIntent(2, full.ID)
	must(referBackup(t, c, child))(t)
	grandchild := childIntent(3, child.ID)
	page := must(referBackup(t, c, grandchild))(t)

	b := must(c.OpenBackup(t.Context(), grandchild.ID))(t)
	got := readBack(t, b)
	for _, m := range members {
		if m.Type != RegularFile {
			continue
		}
		want := slices.Clone(m.data)
		if len(want) >= pageSize {
			copy(want, page)
		}
		if !bytes.Equal(got[m.Path], want) {
			t.Errorf("%s differs", m.Path)
		}
	}
	if info := b.Info(); fmt.Sprint(info.Refs) != fmt.Sprint([]string{full.ID}) {
		t.Errorf("it refers to %v", info.Refs)
	}
	if names := must(c.readStart(t.Context(), grandchild.ID))(t).Names; fmt.Sprint(names) != fmt.Sprint([]string{full.ID, child.ID}) {
		t.Errorf("START names %v", names)
	}
	check(t, b.Verify(t.Context(), true, func(f Finding) { t.Errorf("%+v", f) }))

	// The full goes: START, COMMIT, TOMB and the needed volumes stay; then everything goes.
	late := testNow.Add(1000 * time.Hour)
	check(t, c.Tomb(t.Context(), full.ID, testNow))
	check(t, c.Tomb(t.Context(), child.ID, testNow))
	must(c.Sweep(t.Context(), testNow.Add(23*time.Hour)))(t)
	readBack(t, must(c.OpenBackup(t.Context(), child.ID))(t))
	if freed := must(c.Sweep(t.Context(), late))(t); freed == 0 {
		t.Error("nothing was freed")
	}
	for _, key := range memoryKeys(c) {
		if strings.Contains(key, child.ID) || strings.Contains(key, full.ID) && !strings.Contains(key, "/v/") && !strings.HasSuffix(key, ".json") {
			t.Errorf("left: %s", key)
		}
	}
	if len(readBack(t, must(c.OpenBackup(t.Context(), grandchild.ID))(t))) == 0 {
		t.Error("nothing read")
	}
	check(t, c.VerifyBackup(t.Context(), grandchild.ID, true, func(f Finding) { t.Errorf("%+v", f) }))
	check(t, c.Tomb(t.Context(), grandchild.ID, late))
	must(c.Sweep(t.Context(), late.Add(25*time.Hour)))(t)
	must(c.Sweep(t.Context(), late.Add(25*time.Hour)))(t)
	if left := memoryKeys(c); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func TestTombedParentIsRefused(t *testing.T) {
	c := testCluster(newMemory())
	takeBackup(t, testIntent(1), seal.Codec{}, randomMembers(rand.New(rand.NewPCG(5, 5)), 3, 9000), 1000, c)
	check(t, c.Tomb(t.Context(), testIntent(1).ID, testNow))
	_, err := c.BeginBackup(t.Context(), childIntent(2, testIntent(1).ID))
	if state.CodeOf(err) != state.CodeStale {
		t.Errorf("error %v", err)
	}
	backups := must(c.Backups(t.Context()))(t)
	if len(backups) != 2 || backups[1].State != state.BackupAborted {
		t.Errorf("%+v", backups)
	}
}

func TestHoldKeepsATombedBackup(t *testing.T) {
	c := testCluster(newMemory())
	id := testIntent(1).ID
	takeBackup(t, testIntent(1), seal.Codec{}, randomMembers(rand.New(rand.NewPCG(5, 5)), 3, 9000), 1000, c)
	check(t, c.Hold(t.Context(), id, state.Hold{Holder: "restore-1", Expires: testNow.Add(100 * time.Hour)}, testNow))
	check(t, c.Hold(t.Context(), id, state.Hold{Reason: "audit"}, testNow))
	if err := c.Tomb(t.Context(), id, testNow); state.CodeOf(err) != state.CodeStale || !strings.Contains(err.Error(), "audit") {
		t.Errorf("a held backup: %v", err)
	}
	check(t, c.Release(t.Context(), id, testNow))
	if err := c.Tomb(t.Context(), id, testNow); state.CodeOf(err) != state.CodeStale {
		t.Errorf("the operator's release must not end the restore's hold: %v", err)
	}
	// A TOMB and a HOLD that cross: the TOMB is put although a hold stands.
	check(t, c.putRecord(t.Context(), c.key.tombFile(id), tombRecord{Format: 1, ID: id, At: testNow}))
	must(c.Sweep(t.Context(), testNow.Add(50*time.Hour)))(t)
	b := must(c.Backups(t.Context()))(t)
	if len(b) != 1 || b[0].State != state.BackupDeleted || b[0].Hold == nil || b[0].Hold.Holder != "restore-1" {
		t.Fatalf("%+v", b)
	}
	readBack(t, must(c.OpenBackup(t.Context(), id))(t))
	if err := c.Hold(t.Context(), id, state.Hold{}, testNow); state.CodeOf(err) != state.CodeStale {
		t.Errorf("a tombed backup was held: %v", err)
	}
	must(c.Sweep(t.Context(), testNow.Add(101*time.Hour)))(t)
	if left := memoryKeys(c); len(left) != 0 {
		t.Errorf("left after the hold has expired: %v", left)
	}
}

func TestLateWriterFails(t *testing.T) {
	c := testCluster(newMemory())
	id := testIntent(1).ID
	s := must(NewBackupStream(t.Context(), []*BackupWriter{must(c.BeginBackup(t.Context(), testIntent(1)))(t)}, StreamOptions{}))(t)
	writeFolder(t, s.Folder(0, ""), randomMembers(rand.New(rand.NewPCG(5, 5)), 3, 9000), 1000)
	if got := must(c.AbortBackup(t.Context(), id, "its writer is dead", testNow))(t); got != state.BackupAborted {
		t.Fatal(got)
	}
	must(c.RemoveAborted(t.Context(), id))(t)
	out, err := s.Commit(t.Context(), commitFacts())
	if err == nil && out[0].Err == nil {
		t.Error("a backup that was aborted and removed was told of as committed")
	}
	for _, b := range must(c.Backups(t.Context()))(t) {
		if b.State != state.BackupAborted { // for remove-incomplete to plan
			t.Errorf("what a late writer left is listed as %+v", b)
		}
	}
	must(c.Sweep(t.Context(), testNow))(t)
	if left := memoryKeys(c); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}
