package repository

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/seal"
)

// takeIncremental writes an incremental backup of the members into every cluster and commits it.
func takeIncremental(t testing.TB, in Intent, codec seal.Codec, members []member, clusters ...*Cluster) *BackupStream {
	t.Helper()
	var writers []*BackupWriter
	for _, c := range clusters {
		writers = append(writers, must(c.BeginBackup(t.Context(), in))(t))
	}
	parent := must(clusters[0].OpenParent(t.Context(), in.Parent))(t)
	s := must(NewBackupStream(t.Context(), writers, StreamOptions{Codec: codec, Parent: parent}))(t)
	finish(t, s, members)
	return s
}

// change gives the members as they are some time later: pages written, files longer, shorter, gone, new, in another order.
func change(random *rand.Rand, members []member, round int) []member {
	var out []member
	for _, m := range members {
		if m.Type != RegularFile {
			out = append(out, m)
			continue
		}
		m.data = bytes.Clone(m.data)
		switch random.IntN(8) {
		case 0, 1, 2: // some pages
			for range random.IntN(4) {
				if len(m.data) > 0 {
					m.data[random.IntN(len(m.data))] ^= 0x55
				}
			}
		case 3:
			m.data = append(m.data, bytes.Repeat([]byte{byte(round), byte(round >> 1)}, random.IntN(30_000))...)
		case 4:
			m.data = m.data[:random.IntN(len(m.data)+1)]
		case 5:
			if random.IntN(3) == 0 {
				continue
			}
		}
		m.Size = int64(len(m.data))
		out = append(out, m)
	}
	data := bytes.Repeat([]byte{byte(round), 7, 3}, random.IntN(20_000))
	out = append(out, member{Member: Member{Path: fmt.Sprintf("base/1/new%d", round), Type: RegularFile, Mode: 0o600, Size: int64(len(data))}, data: data})
	if random.IntN(2) == 0 {
		i, j := random.IntN(len(out)), random.IntN(len(out))
		out[i], out[j] = out[j], out[i]
	}
	return out
}

func holdsMembers(t testing.TB, b *BackupReader, members []member) {
	t.Helper()
	got := readBack(t, b)
	files := 0
	for _, m := range members {
		if m.Type != RegularFile {
			continue
		}
		files++
		if !bytes.Equal(got[m.Path], m.data) {
			t.Fatalf("backup %s: %s differs", b.rec.id, m.Path)
		}
	}
	if len(got) != files {
		t.Fatalf("backup %s has %d files, want %d", b.rec.id, len(got), files)
	}
	for f, err := range b.Files(t.Context()) {
		check(t, err)
		i := slices.IndexFunc(members, func(m member) bool { return m.Path == f.Path })
		if f.Type == RegularFile && f.CRC32C != updateCRC(0, members[i].data) {
			t.Fatalf("backup %s: the checksum of %s is not that of its content", b.rec.id, f.Path)
		}
	}
	var pages int64
	check(t, b.PageHashes(t.Context(), func(h PageHashes) error {
		i := slices.IndexFunc(members, func(m member) bool { return m.Path == h.Path })
		data := members[i].data[h.First*pageSize:]
		data = data[:min(len(data), len(h.Hashes)/hashSize*pageSize)]
		if !bytes.Equal(hashPages(nil, data, h.Seed), h.Hashes) {
			t.Fatalf("backup %s: hashes of %s are not those of its pages", b.rec.id, h.Path)
		}
		pages += int64(len(h.Hashes) / hashSize)
		return nil
	}))
	for _, m := range members {
		pages -= (m.Size + pageSize - 1) / pageSize
	}
	if pages != 0 {
		t.Fatalf("backup %s has %d hashes too many", b.rec.id, pages)
	}
}

// TestIncrementalChains takes chains of backups of files that change in every way, of random depth and from random parents; deletes
// some, sweeps, and reads every one that is left, each time.
func TestIncrementalChains(t *testing.T) {
	for round := range rounds(t, 4) {
		random := rand.New(rand.NewPCG(uint64(round), 3))
		a, b := testCluster(newMemory()), testCluster(newMemory())
		codec := seal.Codec{Algorithm: []seal.Algorithm{seal.Zstd, seal.Gzip, seal.LZ4}[round%3]}
		members := randomMembers(random, 10+random.IntN(40), 300_000)
		now := map[string][]member{}
		takeBackup(t, testIntent(1), codec, members, 60_000, a, b)
		ids := []string{testIntent(1).ID}
		now[ids[0]] = members
		for n := 2; n < 9; n++ {
			parent := ids[len(ids)-1-random.IntN(min(2, len(ids)))]
			members = change(random, now[parent], n)
			in := childIntent(n, parent)
			takeIncremental(t, in, codec, members, a, b)
			ids = append(ids, in.ID)
			now[in.ID] = members
			if random.IntN(2) == 0 && len(ids) > 1 {
				gone := random.IntN(len(ids))
				for _, c := range []*Cluster{a, b} {
					check(t, c.Tomb(t.Context(), ids[gone], in.Now))
					must(c.Sweep(t.Context(), in.Now.Add(25*time.Hour)))(t)
				}
				ids = slices.Delete(ids, gone, gone+1)
			}
			if len(ids) == 0 {
				break
			}
			for _, id := range ids {
				for _, c := range []*Cluster{a, b} {
					holdsMembers(t, must(c.OpenBackup(t.Context(), id))(t), now[id])
					check(t, c.VerifyBackup(t.Context(), id, true, func(f Finding) { t.Fatalf("round %d: %+v", round, f) }))
				}
			}
		}
		late := testNow.Add(10_000 * time.Hour)
		for _, id := range ids {
			check(t, a.Tomb(t.Context(), id, late))
		}
		must(a.Sweep(t.Context(), late.Add(25*time.Hour)))(t)
		must(a.Sweep(t.Context(), late.Add(25*time.Hour)))(t)
		if left := memoryKeys(a); len(left) != 0 {
			t.Errorf("round %d: left %v", round, left)
		}
	}
}

// bigMembers are files of so many pages each, all of which differ.
func bigMembers(files, pages int) []member {
	random := rand.New(rand.NewPCG(1, 1))
	var out []member
	for i := range files {
		data := make([]byte, pages*pageSize)
		for j := range data {
			data[j] = byte(random.Uint32() & 15)
		}
		out = append(out, member{Member: Member{Path: fmt.Sprintf("base/5/%d", 16384+i), Type: RegularFile, Mode: 0o600, Size: int64(len(data))}, data: data})
	}
	return out
}

func TestIncrementalStoresWhatChanged(t *testing.T) {
	c := testCluster(newMemory())
	members := bigMembers(8, 500)
	full := testIntent(1)
	takeBackup(t, full, seal.Codec{}, members, 100_000, c)
	changed := slices.Clone(members)
	changed[3].data = bytes.Clone(changed[3].data)
	for page := 7; page < 500; page += 13 {
		changed[3].data[page*pageSize+100] ^= 1
	}
	in := childIntent(2, full.ID)
	s := takeIncremental(t, in, seal.Codec{}, changed, c)
	if want := int64(8*500-38) * pageSize; s.Referred() != want {
		t.Errorf("%d bytes were not stored again, want %d", s.Referred(), want)
	}
	backups := must(c.Backups(t.Context()))(t)
	f, i := backups[0], backups[1]
	if i.StoredBytes*30 > f.StoredBytes || i.DataBytes != f.DataBytes || i.Kind != KindIncremental || fmt.Sprint(i.Refs) != fmt.Sprint([]string{f.ID}) {
		t.Errorf("full %+v, incremental %+v", f, i)
	}
	if i.Chain == nil || i.Chain.Depth != 1 || i.Chain.Full != f.ID || !i.Chain.Began.Equal(full.Now) || i.Chain.LiveBytes*10 < i.Chain.ReferredBytes*9 {
		t.Errorf("chain %+v", i.Chain)
	}
	holdsMembers(t, must(c.OpenBackup(t.Context(), in.ID))(t), changed)
	next := childIntent(3, in.ID)
	takeIncremental(t, next, seal.Codec{}, members[:4], c)
	if got := must(c.OpenBackup(t.Context(), next.ID))(t).Info(); got.Chain.Depth != 2 || got.Chain.Full != f.ID || got.Chain.LiveBytes*2 > got.Chain.ReferredBytes*2 {
		t.Errorf("chain %+v", got.Chain)
	}
}

// TestThinFramesAreStoredAgain: once less than a quarter of a frame is read, what is left of it is stored again, and its volume becomes
// free when nobody reads it.
func TestThinFramesAreStoredAgain(t *testing.T) {
	c := testCluster(newMemory())
	members := bigMembers(4, 640)
	takeBackup(t, testIntent(1), seal.Codec{}, members, 100_000, c)
	random := rand.New(rand.NewPCG(9, 9))
	parent := testIntent(1).ID
	for n := 2; n < 5; n++ { // all pages but one of each eight
		next := slices.Clone(members)
		for i := range next {
			next[i].data = bytes.Clone(next[i].data)
			for page := range 640 {
				if page%8 != 0 {
					next[i].data[page*pageSize+random.IntN(pageSize)] ^= 0x80
				}
			}
		}
		members = next
		in := childIntent(n, parent)
		takeIncremental(t, in, seal.Codec{}, members, c)
		parent = in.ID
	}
	info := must(c.OpenBackup(t.Context(), parent))(t).Info()
	if slices.Contains(info.Refs, testIntent(1).ID) {
		t.Errorf("it still reads frames of which an eighth is left: %v", info.Refs)
	}
	holdsMembers(t, must(c.OpenBackup(t.Context(), parent))(t), members)
}

// TestParentThatCannotBeTrusted: a parent with a volume that is missing or cut short is told of before the work and before the decision.
func TestParentThatCannotBeTrusted(t *testing.T) {
	c := testCluster(newMemory())
	members := bigMembers(3, 200)
	full := testIntent(1)
	takeBackup(t, full, seal.Codec{}, members, 100_000, c)
	must(c.InspectParent(t.Context(), full.ID))(t)

	in := childIntent(2, full.ID)
	w := must(c.BeginBackup(t.Context(), in))(t)
	s := must(NewBackupStream(t.Context(), []*BackupWriter{w}, StreamOptions{Parent: must(c.OpenParent(t.Context(), full.ID))(t)}))(t)
	writeFolder(t, s.Folder(0, ""), members, 100_000)
	lost := c.key.backupDir(full.ID) + volumeName(0, 0)
	check(t, c.repo.Store().Delete(t.Context(), lost))
	out, err := s.Commit(t.Context(), commitFacts())
	if err != nil || state.CodeOf(out[0].Err) != state.CodeCorrupt || !strings.Contains(out[0].Err.Error(), "missing") {
		t.Errorf("a backup that refers to what is gone: %v, %v", out, err)
	}
	if b := must(c.Backups(t.Context()))(t); b[1].State != state.BackupAborted {
		t.Errorf("it is %s", b[1].State)
	}
	if _, err := c.InspectParent(t.Context(), full.ID); state.CodeOf(err) != state.CodeCorrupt {
		t.Errorf("a parent without a volume: %v", err)
	}
	if _, err := c.InspectParent(t.Context(), in.ID); state.CodeOf(err) != state.CodeStale {
		t.Errorf("an aborted parent: %v", err)
	}
}

// TestParentsHashesAreBad: hashes that cannot be read make a backup larger, and nothing else.
func TestParentsHashesAreBad(t *testing.T) {
	c := testCluster(newMemory())
	members := bigMembers(3, 200)
	full := testIntent(1)
	takeBackup(t, full, seal.Codec{}, members, 100_000, c)
	p := must(c.OpenParent(t.Context(), full.ID))(t)
	p.hashes = shardCache[*parentHashes]{loads: 10}
	check(t, c.repo.Store().Delete(t.Context(), c.key.backupDir(full.ID)+shardName(hashDir, 0)))
	in := childIntent(2, full.ID)
	s := must(NewBackupStream(t.Context(), []*BackupWriter{must(c.BeginBackup(t.Context(), in))(t)}, StreamOptions{Parent: p}))(t)
	writeFolder(t, s.Folder(0, ""), members, 100_000)
	out := must(s.Commit(t.Context(), commitFacts()))(t)
	check(t, out[0].Err)
	if s.Referred() != 0 {
		t.Errorf("%d bytes are referred to by guess", s.Referred())
	}
	holdsMembers(t, must(c.OpenBackup(t.Context(), in.ID))(t), members)
}
