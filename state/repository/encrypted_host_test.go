package repository

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/seal"
	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/repository/store/storetest"
	"github.com/pgkeep/pgkeep/state/wal"
)

// past is what stands in the files and the WAL of these tests, and must not be seen by a backup host.
const past = "the balance of account 4711 is 90210"

// pastMembers are files that hold it, once for each page.
func pastMembers(pages int) []member {
	var out []member
	for _, name := range []string{"base/5/16384", "base/5/16385"} {
		data := bytes.Repeat([]byte(past+strings.Repeat(".", pageSize-len(past))), pages)
		for at := 0; at < len(data); at += pageSize {
			data[at+pageSize-1] = byte(at / pageSize)
		}
		out = append(out, member{Member: Member{Path: name, Type: RegularFile, Mode: 0o600, Size: int64(len(data))}, data: data})
	}
	return out
}

// hostCluster is a cluster of a repository that a backup host has made, with nothing but its own keys.
func hostCluster(t testing.TB, st store.Store) *Cluster {
	t.Helper()
	r := must(Create(t.Context(), st, CreateOptions{Now: archiveEpoch, Keys: hostRing()}))(t)
	c := r.Cluster(archiveName, archiveID)
	check(t, c.Ensure(t.Context(), ClusterFacts{Major: 15, SegmentSize: mib, PageSize: 8192, PageChecksums: true}))
	return c
}

// archivePast archives three segments and a part of a fourth that hold what must not be seen, with their index.
func archivePast(t testing.TB, c *Cluster) {
	t.Helper()
	for n := range uint64(4) {
		seg := wal.Segment{Timeline: 1, Number: n}
		plain := plainSegment(seg, mib)
		copy(plain[5000:], past)
		if n == 3 {
			check(t, c.PutPartial(t.Context(), seg, seg.Start(mib)+8192, bytes.NewReader(plain)))
			continue
		}
		check(t, c.PutSegment(t.Context(), seg, summaryOf(seg, mib), bytes.NewReader(plain)))
	}
	check(t, c.PutHistory(t.Context(), 2, []byte("1\t0/380000\tbefore x\n")))
	check(t, c.WriteIndex(t.Context(), 1))
}

// backUpPast takes a full backup and an incremental one on it.
func backUpPast(t testing.TB, c *Cluster) (full, child Intent, members []member) {
	t.Helper()
	full, members = testIntent(1), pastMembers(40)
	takeBackup(t, full, seal.Codec{}, members, 8000, c)
	members[0].data = bytes.Clone(members[0].data)
	copy(members[0].data[3*pageSize:], "new and "+past)
	child = childIntent(2, full.ID)
	takeIncremental(t, child, seal.Codec{}, members, c)
	return full, child, members
}

func verified(t testing.TB, c *Cluster) (found []Finding) {
	t.Helper()
	check(t, c.repo.Verify(t.Context(), true, func(f Finding) { found = append(found, f) }))
	return found
}

// TestBackupHostGoesOn: with the meta key alone a host archives, backs up, also incrementally, observes, verifies every byte and deletes,
// and reads nothing of what it has written. Who holds the data key reads everything.
func TestBackupHostGoesOn(t *testing.T) {
	st := storetest.NewMemory(nil)
	c := hostCluster(t, st)
	archivePast(t, c)
	full, child, members := backUpPast(t, c)

	again := must(OpenWith(t.Context(), st, hostRing()))(t)
	if again.ReadsData() || !again.Encrypted() {
		t.Fatal("the host reads data")
	}
	c = again.Cluster(archiveName, archiveID)
	for _, f := range verified(t, c) {
		t.Errorf("%+v", f)
	}
	seen := must(again.Observe(t.Context(), ObserveOptions{}))(t)
	if got := seen.Clusters[archiveName][0]; len(got.Backups) != 2 || len(got.WAL) != 1 || got.WAL[0].Partial == 0 || got.WAL[0].LastCommit.IsZero() {
		t.Errorf("the host sees %+v", got)
	}
	seg := wal.Segment{Timeline: 1, Number: 1}
	if _, err := c.OpenSegment(t.Context(), seg); state.CodeOf(err) != state.CodeNoKey {
		t.Errorf("the host opens a segment: %v", err)
	}
	for _, in := range []Intent{full, child} {
		b := must(c.OpenBackup(t.Context(), in.ID))(t)
		if err := b.Pieces(t.Context(), PieceOptions{}, func(Piece) error { return nil }); state.CodeOf(err) != state.CodeNoKey {
			t.Errorf("the host reads %s: %v", in.ID, err)
		}
	}

	team := must(OpenWith(t.Context(), st, teamRing()))(t).Cluster(archiveName, archiveID)
	for _, f := range verified(t, team) {
		t.Errorf("%+v", f)
	}
	holdsMembers(t, must(team.OpenBackup(t.Context(), full.ID))(t), pastMembers(40))
	holdsMembers(t, must(team.OpenBackup(t.Context(), child.ID))(t), members)
	w := must(team.OpenSegment(t.Context(), seg))(t)
	if got := must(io.ReadAll(w))(t); !bytes.Contains(got, []byte(past)) {
		t.Error("the segment is another one")
	}
	check(t, w.Close())

	if freed := must(c.DeleteWAL(t.Context(), []wal.Range{{Timeline: 1, From: 0, To: 2 * wal.LSN(mib)}}))(t); freed == 0 {
		t.Error("the host deleted nothing")
	}
	check(t, c.Tomb(t.Context(), child.ID, testNow))
	must(c.Sweep(t.Context(), testNow.AddDate(0, 1, 0)))(t)
}

// TestHostSeesDamageItCannotRead flips one bit of each object that the host cannot decrypt: it finds it.
func TestHostSeesDamageItCannotRead(t *testing.T) {
	st := storetest.NewMemory(nil)
	c := hostCluster(t, st)
	archivePast(t, c)
	backUpPast(t, c)
	tried := 0
	for _, key := range st.Keys() {
		if classOf(key) != seal.ClassData {
			continue
		}
		tried++
		hurt := st.Clone()
		body := bytes.Clone(hurt.Bytes(key))
		body[len(body)*2/3] ^= 4
		hurt.Set(key, body)
		c := must(OpenWith(t.Context(), hurt, hostRing()))(t).Cluster(archiveName, archiveID)
		if found := verified(t, c); len(found) == 0 || found[0].Object != key {
			t.Errorf("%s: %v", key, found)
		}
	}
	if tried < 5 {
		t.Errorf("%d objects were damaged", tried)
	}
}

// TestStolenBackupHost takes everything that lies on a backup host, its identity and its writer key, and the whole store: nothing of the past
// comes to light. What the thief can open is what the meta key opens.
func TestStolenBackupHost(t *testing.T) {
	st := storetest.NewMemory(nil)
	c := hostCluster(t, st)
	archivePast(t, c)
	backUpPast(t, c)
	stolen := []age.Identity{drawTestKeys().host}
	for _, key := range st.Keys() { // keys that are wrapped for the host
		if id, err := (&seal.Keyring{Opens: stolen[:1]}).Unwrap(st.Bytes(key), ""); strings.HasSuffix(key, ".age") && err == nil {
			stolen = append(stolen, id)
		}
	}
	if len(stolen) != 2 {
		t.Fatalf("the host has %d keys", len(stolen))
	}
	opened := 0
	for _, key := range st.Keys() {
		class, body := classOf(key), st.Bytes(key)
		if bytes.Contains(body, []byte(past[:16])) {
			t.Errorf("%s shows the past as it lies there", key)
		}
		r, err := age.Decrypt(bytes.NewReader(body), stolen...)
		if class == seal.ClassData {
			var none *age.NoIdentityMatchError
			if !errors.As(err, &none) {
				t.Errorf("the thief opens %s: %v", key, err)
			}
			continue
		}
		if class == seal.ClassClear {
			continue
		}
		plain := must(io.ReadAll(must(r, err)(t)))(t)
		opened++
		d := must(seal.NewDeframer())(t)
		if raw, err := d.Frame(nil, plain, maxShard); err == nil {
			plain = raw
		}
		d.Close()
		if bytes.Contains(plain, []byte(past[:16])) {
			t.Errorf("%s shows the past to the thief", key)
		}
	}
	if opened < 10 {
		t.Errorf("the thief opened %d objects: the test looks at nothing", opened)
	}
}

// TestSamePutAgain: two puts of one thing have other bytes, and are one thing all the same, for a host that cannot read it. Other content is a
// fork, and what somebody planted under the name is no success.
func TestSamePutAgain(t *testing.T) {
	st := storetest.NewMemory(nil)
	c := hostCluster(t, st)
	seg := wal.Segment{Timeline: 1, Number: 1}
	putSegment(t, c, seg, mib)
	before := bytes.Clone(st.Bytes(c.key.segmentFile(seg, mib)))
	putSegment(t, c, seg, mib)
	if !bytes.Equal(before, st.Bytes(c.key.segmentFile(seg, mib))) {
		t.Error("an object was overwritten")
	}
	other := plainSegment(seg, mib)
	other[7000] ^= 1
	err := c.PutSegment(t.Context(), seg, summaryOf(seg, mib), bytes.NewReader(other))
	if state.CodeOf(err) != state.CodeFork {
		t.Errorf("other bytes: %v", err)
	}
	key := c.key.backupDir(testIntent(1).ID) + volumeName(0, 0)
	body := bytes.Repeat([]byte("volume"), 30_000)
	check(t, c.putObject(t.Context(), key, body))
	check(t, c.putObject(t.Context(), key, body))
	body[9] ^= 1
	if err := c.putObject(t.Context(), key, body); !errors.Is(err, store.ErrExists) {
		t.Errorf("another volume: %v", err)
	}
	for name, planted := range map[string][]byte{
		"garbage": []byte("garbage"), "a cut object": before[:len(before)-1], "a changed one": append(bytes.Clone(before[:len(before)-1]), before[len(before)-1]^1),
	} {
		st := storetest.NewMemory(nil)
		c := hostCluster(t, st)
		st.Set(c.key.segmentFile(seg, mib), planted)
		err := c.PutSegment(t.Context(), seg, summaryOf(seg, mib), bytes.NewReader(plainSegment(seg, mib)))
		if state.CodeOf(err) != state.CodeCorrupt {
			t.Errorf("%s was taken for the segment: %v", name, err)
		}
	}
}

// TestCopiesBetweenKeys copies from a plain repository into an encrypted one and back into a third: it stays the same backup. A host
// without the data key copies nothing out, and says why.
func TestCopiesBetweenKeys(t *testing.T) {
	plain := must(Create(t.Context(), storetest.NewMemory(nil), CreateOptions{Now: archiveEpoch}))(t).Cluster(archiveName, archiveID)
	check(t, plain.Ensure(t.Context(), ClusterFacts{Major: 15, SegmentSize: mib, PageSize: 8192, PageChecksums: true}))
	archivePast(t, plain)
	full, child, members := backUpPast(t, plain)
	st := storetest.NewMemory(nil)
	sealed := hostCluster(t, st)
	copyAll := func(from, to *Cluster) error {
		for _, id := range []string{full.ID, child.ID} {
			in := CopyIntent{ID: id, Host: "backup1", Program: "pgkeep test", Now: func() time.Time { return testNow }}
			if c, err := CopyBackup(t.Context(), from, to, in); err != nil || c.Already {
				return errors.Join(err, fmt.Errorf("copied %+v", c))
			}
		}
		_, err := CopyWAL(t.Context(), from, to, WALCopyOptions{Ranges: []wal.Range{{Timeline: 1, To: 3 * wal.LSN(mib)}}, Histories: []wal.Timeline{2}})
		return err
	}
	check(t, copyAll(plain, sealed))
	if err := copyAll(sealed, plain); state.CodeOf(err) != state.CodeNoKey {
		t.Errorf("a host without the data key copied: %v", err)
	}
	team := must(OpenWith(t.Context(), st, teamRing()))(t).Cluster(archiveName, archiveID)
	third := hostCluster(t, storetest.NewMemory(nil))
	check(t, copyAll(team, third))
	for _, c := range []*Cluster{sealed, team, third} {
		for _, f := range verified(t, c) {
			t.Errorf("%+v", f)
		}
	}
	holdsMembers(t, must(team.OpenBackup(t.Context(), child.ID))(t), members)
	one, two := must(plain.InspectParent(t.Context(), child.ID))(t), must(sealed.InspectParent(t.Context(), child.ID))(t)
	if one.Copy != two.Copy {
		t.Error("the copy is another backup")
	}
}
