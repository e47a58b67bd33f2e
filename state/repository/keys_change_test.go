package repository

import (
	"bytes"
	"slices"
	"testing"

	"filippo.io/age"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/seal"
	"github.com/pgkeep/pgkeep/state/repository/store/storetest"
)

// TestKeysChange lets a reader come and another go, and changes the key: nothing that is stored is written again, who came reads all of it, and
// who opened the repository before reads what is sealed with the new key.
func TestKeysChange(t *testing.T) {
	st := storetest.NewMemory(nil)
	archivePast(t, hostCluster(t, st))
	newcomer := must(age.GenerateX25519Identity())(t)
	name := newcomer.Recipient().String()
	with := func(opens age.Identity) *seal.Keyring {
		ring := drawTestKeys().ring(opens)
		ring.Data = append(ring.Data, recipient(newcomer))
		return ring
	}
	before := st.Clone()
	if _, err := must(OpenWith(t.Context(), st, with(drawTestKeys().host)))(t).AddReaders(t.Context()); state.CodeOf(err) != state.CodeNoKey {
		t.Errorf("a backup host lets others read data: %v", err)
	}
	wide := must(OpenWith(t.Context(), st, with(drawTestKeys().team)))(t)
	if got := must(wide.AddReaders(t.Context()))(t); len(got) != 1 || got[0] != "data "+name {
		t.Errorf("added %v", got) // the host has wrapped the metadata half already
	}
	open := must(OpenWith(t.Context(), st, teamRing()))(t).Cluster(archiveName, archiveID) // before the key is changed
	if k := must(wide.Rotate(t.Context(), testNow))(t); k.Number != 2 {
		t.Errorf("rotated to %+v", k)
	}
	check(t, must(OpenWith(t.Context(), st, hostRing()))(t).Cluster(archiveName, archiveID).PutHistory(t.Context(), 3, []byte("2\t0/400000\tx\n")))
	must(open.History(t.Context(), 3))(t)
	reader := must(OpenWith(t.Context(), st, with(newcomer)))(t)
	for _, f := range verified(t, reader.Cluster(archiveName, archiveID)) {
		t.Errorf("%+v", f)
	}
	if len(reader.Keys()) != 2 || !reader.ReadsData() || len(reader.Missing()) != 0 {
		t.Errorf("%+v lack %v", reader.Keys(), reader.Missing())
	}
	if got := must(reader.Observe(t.Context(), ObserveOptions{}))(t).Encryption.Beyond; len(got) > 0 {
		t.Errorf("readers beside the configuration: %v", got)
	}
	for _, key := range before.Keys() {
		if !bytes.Equal(before.Bytes(key), st.Bytes(key)) {
			t.Errorf("%s was written again", key)
		}
	}
	if _, err := reader.RemoveReader(t.Context(), name); state.CodeOf(err) != state.CodeStale {
		t.Errorf("a reader of the configuration was removed: %v", err)
	}
	alone := with(newcomer)
	alone.Data, alone.Meta = alone.Data[1:], nil
	r := must(OpenWith(t.Context(), st, alone))(t)
	team, host := recipient(drawTestKeys().team).Fingerprint(), recipient(drawTestKeys().host).Fingerprint()
	beyond := []string{"data " + team, "meta " + host, "meta " + team}
	slices.Sort(beyond)
	if got := must(r.Observe(t.Context(), ObserveOptions{}))(t).Encryption.Beyond; !slices.Equal(got, beyond) {
		t.Errorf("readers beside the configuration: %v, want %v", got, beyond)
	}
	if _, err := reader.RemoveReader(t.Context(), team); state.CodeOf(err) != state.CodeStale {
		t.Errorf("a reader of the configuration was removed by his fingerprint: %v", err)
	}
	if n := must(r.RemoveReader(t.Context(), team))(t); n != 4 {
		t.Errorf("%d wrapped keys were removed", n)
	}
	alone.Data = []seal.Recipient{recipient(drawTestKeys().team)}
	if _, err := r.RemoveReader(t.Context(), name); state.CodeOf(err) != state.CodeStale {
		t.Errorf("the last reader was removed: %v", err)
	}
	if _, err := OpenWith(t.Context(), st, teamRing()); state.CodeOf(err) != state.CodeNoKey {
		t.Errorf("who was removed reads on: %v", err)
	}
}

// TestPlantedWrappedKeys: whoever can write the store can put something beside a repository's keys, named as if it were wrapped for a reader. It keeps
// nobody from reading, and counts for no reader when the one who reads is to go.
func TestPlantedWrappedKeys(t *testing.T) {
	st := storetest.NewMemory(nil)
	archivePast(t, hostCluster(t, st))
	newcomer := must(age.GenerateX25519Identity())(t)
	name, team := newcomer.Recipient().String(), drawTestKeys().team.Recipient().String()
	id := must(OpenWith(t.Context(), st, teamRing()))(t).Keys()[0].ID
	other := must(seal.Wrap(drawTestKeys().data, recipient(newcomer)))(t) // a key, and not this one
	for _, class := range []seal.Class{seal.ClassMeta, seal.ClassData} {
		st.Set(wrappedFile(id, class, seal.Fingerprint(name)), other)
		st.Set(wrappedFile(id, class, "0000000000000000"), []byte("nothing"))
	}
	ring := drawTestKeys().ring(drawTestKeys().team, newcomer)
	ring.Data, ring.Meta = []seal.Recipient{recipient(newcomer)}, nil
	r := must(OpenWith(t.Context(), st, ring))(t)
	if got := must(r.Unopened(t.Context()))(t); len(got) != 2 || got[0] != "data "+name || got[1] != "meta "+name {
		t.Errorf("not opened: %v", got)
	}
	before := len(st.Keys())
	if _, err := r.RemoveReader(t.Context(), team); state.CodeOf(err) != state.CodeStale || len(st.Keys()) != before {
		t.Errorf("the only reader was removed: %v", err)
	}
	if got := must(must(OpenWith(t.Context(), st, teamRing()))(t).Unopened(t.Context()))(t); len(got) != 0 {
		t.Errorf("the team does not open %v", got)
	}
}

// TestLostKeyHidesNothingElse: where the record of a newer key is gone, what was sealed with it is damaged, and what was before it is seen and read.
func TestLostKeyHidesNothingElse(t *testing.T) {
	st := storetest.NewMemory(nil)
	c := hostCluster(t, st)
	archivePast(t, c)
	takeBackup(t, testIntent(1), seal.Codec{}, pastMembers(2), 8000, c)
	k := must(must(OpenWith(t.Context(), st, hostRing()))(t).Rotate(t.Context(), testNow))(t)
	c = must(OpenWith(t.Context(), st, hostRing()))(t).Cluster(archiveName, archiveID)
	takeBackup(t, testIntent(2), seal.Codec{}, pastMembers(2), 8000, c)
	check(t, st.Delete(t.Context(), keyFile(k.ID)))
	r := must(OpenWith(t.Context(), st, teamRing()))(t)
	seen := must(r.Observe(t.Context(), ObserveOptions{}))(t).Clusters[archiveName][0]
	if len(seen.Backups) != 2 || seen.Backups[0].State != state.BackupCommitted || seen.Backups[1].State != state.BackupCorrupt {
		t.Errorf("seen %+v", seen.Backups)
	}
	before := len(st.Keys())
	if n, err := r.Cluster(archiveName, archiveID).Sweep(t.Context(), testNow.AddDate(1, 0, 0)); n > 0 || len(st.Keys()) != before {
		t.Errorf("a sweep took away %d bytes, %v", n, err)
	}
	must(r.Cluster(archiveName, archiveID).OpenBackup(t.Context(), testIntent(1).ID))(t)
	if _, err := r.Cluster(archiveName, archiveID).OpenBackup(t.Context(), testIntent(2).ID); state.CodeOf(err) != state.CodeCorrupt {
		t.Errorf("what nobody can read is opened: %v", err)
	}
}
