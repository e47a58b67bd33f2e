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

// inPart gives the members as they are some time later, files of whole pages mostly as a server that keeps WAL summaries
// sends them: some pages, and a length.
func inPart(random *rand.Rand, members []member, round int) []member {
	var out []member
	for _, m := range members {
		m.Rebuild = nil
		if m.Type != RegularFile || m.Size == 0 || m.Size%pageSize != 0 && random.IntN(2) == 0 {
			out = append(out, m)
			continue
		}
		switch random.IntN(6) {
		case 0: // whole, and changed
			m.data = append(bytes.Clone(m.data), byte(round))
		case 1: // gone
			continue
		default:
			m = rebuilt(random, m, round)
		}
		m.Size = int64(len(m.data))
		out = append(out, m)
	}
	data := bytes.Repeat([]byte{byte(round), 7}, random.IntN(9)*pageSize/2)
	return append(out, member{Member: Member{Path: fmt.Sprintf("base/1/new%d", round), Type: RegularFile, Mode: 0o600, Size: int64(len(data))}, data: data})
}

// rebuilt changes pages of a file, and its length, as pg_combinebackup understands what a server says of it.
func rebuilt(random *rand.Rand, m member, round int) member {
	have := len(m.data) / pageSize
	pages := have
	if random.IntN(2) == 0 {
		pages = random.IntN(have + 20)
	}
	blocks, from := []uint32{}, 0
	if random.IntN(4) == 0 {
		from = pages + random.IntN(9) // behind a hole of zeros
	}
	for b, every := from, 1+random.IntN(30); b < max(pages, from+1) && random.IntN(3) > 0; b += 1 + random.IntN(every) {
		blocks = append(blocks, uint32(b))
	}
	least := pages
	if random.IntN(3) == 0 { // cut below, and grown again
		least = random.IntN(pages + 1)
	}
	if len(blocks) > 0 {
		pages = max(pages, int(blocks[len(blocks)-1])+1)
	}
	data := make([]byte, pages*pageSize)
	copy(data, m.data[:min(have, least)*pageSize])
	for _, b := range blocks {
		page := data[int(b)*pageSize : int(b+1)*pageSize]
		for i := range page {
			page[i] = byte(i * round)
		}
		page[0], page[1] = byte(random.Uint32()), byte(b)
	}
	m.data, m.Rebuild = data, &Rebuild{Blocks: blocks, Least: int64(least)}
	return m
}

// writeInPart sends members, of those that are rebuilt only their pages.
func writeInPart(t testing.TB, w *FolderWriter, members []member, chunk int) {
	t.Helper()
	for _, m := range members {
		check(t, w.Header(make([]byte, 512), m.Member))
		data := m.data
		if m.Rebuild != nil {
			data = nil
			for _, b := range m.Rebuild.Blocks {
				data = append(data, m.data[int(b)*pageSize:int(b+1)*pageSize]...)
			}
		}
		for part := range slices.Chunk(data, chunk) {
			check(t, w.Data(part))
		}
	}
	check(t, w.Trailer(make([]byte, 1024)))
	check(t, w.Close())
}

func takeInPart(t testing.TB, in Intent, codec seal.Codec, members []member, chunk int, clusters ...*Cluster) {
	t.Helper()
	var writers []*BackupWriter
	for _, c := range clusters {
		writers = append(writers, must(c.BeginBackup(t.Context(), in))(t))
	}
	parent := must(clusters[0].OpenParent(t.Context(), in.Parent))(t)
	s := must(NewBackupStream(t.Context(), writers, StreamOptions{Codec: codec, Parent: parent, Summaries: true}))(t)
	writeInPart(t, s.Folder(0, ""), members, chunk)
	check(t, s.EndData())
	out, err := s.Commit(t.Context(), commitFacts())
	check(t, err)
	for _, o := range out {
		check(t, o.Err)
	}
}

// holdsRebuilt reads a backup back, and compares every checksum and every hash that it has with its content.
func holdsRebuilt(t testing.TB, b *BackupReader, members []member) {
	t.Helper()
	got := readBack(t, b)
	find := func(path string) member {
		return members[slices.IndexFunc(members, func(m member) bool { return m.Path == path })]
	}
	files := 0
	for f, err := range b.Files(t.Context()) {
		check(t, err)
		if f.Type != RegularFile {
			continue
		}
		files++
		m := find(f.Path)
		if !bytes.Equal(got[f.Path], m.data) {
			t.Fatalf("backup %s: %s of %d bytes differs, rebuilt %+v", b.rec.id, f.Path, len(m.data), m.Rebuild)
		}
		if !f.NoCRC && f.CRC32C != updateCRC(0, m.data) || f.NoCRC && m.Rebuild == nil {
			t.Fatalf("backup %s: checksum of %s: %08x, unknown %v", b.rec.id, f.Path, f.CRC32C, f.NoCRC)
		}
	}
	for _, m := range members {
		if m.Type == RegularFile {
			files--
		}
	}
	if files != 0 {
		t.Fatalf("backup %s has %d files too many", b.rec.id, files)
	}
	check(t, b.PageHashes(t.Context(), func(h PageHashes) error {
		data := find(h.Path).data[h.First*pageSize:]
		if !bytes.Equal(hashPages(nil, data[:min(len(data), len(h.Hashes)/hashSize*pageSize)], h.Seed), h.Hashes) {
			t.Fatalf("backup %s: hashes of %s are not those of its pages", b.rec.id, h.Path)
		}
		return nil
	}))
}

// TestRebuiltChains takes chains of which most links are laid over their parents, some are compared, and deletes links between.
func TestRebuiltChains(t *testing.T) {
	for round := range rounds(t, 6) {
		random := rand.New(rand.NewPCG(uint64(round), 4))
		a, b := testCluster(newMemory()), testCluster(newMemory())
		codec := seal.Codec{Algorithm: []seal.Algorithm{seal.Zstd, seal.Gzip, seal.LZ4}[round%3]}
		members := randomMembers(random, 10, 300_000)
		members = append(members, bigMembers(6, 1+random.IntN(300))...)
		now := map[string][]member{}
		takeBackup(t, testIntent(1), codec, members, 60_000, a, b)
		ids := []string{testIntent(1).ID}
		now[ids[0]] = members
		for n := 2; n < 9 && len(ids) > 0; n++ {
			in := childIntent(n, ids[len(ids)-1-random.IntN(min(2, len(ids)))])
			if random.IntN(4) == 0 {
				members = change(random, now[in.Parent], n)
				for i := range members {
					members[i].Rebuild = nil
				}
				takeIncremental(t, in, codec, members, a, b)
			} else {
				members = inPart(random, now[in.Parent], n)
				takeInPart(t, in, codec, members, 1+random.IntN(40_000), a, b)
			}
			ids = append(ids, in.ID)
			now[in.ID] = members
			if random.IntN(2) == 0 {
				gone := random.IntN(len(ids))
				for _, c := range []*Cluster{a, b} {
					check(t, c.Tomb(t.Context(), ids[gone], in.Now))
					must(c.Sweep(t.Context(), in.Now.Add(25*time.Hour)))(t)
				}
				ids = slices.Delete(ids, gone, gone+1)
			}
			for _, id := range ids {
				holdsRebuilt(t, must(a.OpenBackup(t.Context(), id))(t), now[id])
				check(t, b.VerifyBackup(t.Context(), id, true, func(f Finding) { t.Fatalf("round %d: %+v", round, f) }))
			}
		}
	}
}

// TestRebuiltReadsNothingOld: what did not change is neither read nor stored, whatever the size, and keeps its checksum.
func TestRebuiltReadsNothingOld(t *testing.T) {
	st := newMemory()
	c := testCluster(st)
	members := bigMembers(10, 600)
	takeBackup(t, testIntent(1), seal.Codec{}, members, 100_000, c)
	volumes := 0
	for key, body := range st.objects {
		if strings.Contains(key, "/v/base/") {
			volumes++
			st.objects[key] = bytes.Repeat([]byte{'x'}, len(body)) // as good as gone
		}
	}
	next := slices.Clone(members)
	for i := range next {
		next[i].Rebuild = &Rebuild{Least: 600}
	}
	next[7].Rebuild.Blocks = []uint32{3, 4, 599}
	next[5].Rebuild.Least = 500 // cut, and grown again to as many pages: its checksum is another
	in := childIntent(2, testIntent(1).ID)
	takeInPart(t, in, seal.Codec{}, next, 9000, c)
	backups := must(c.Backups(t.Context()))(t)
	if got := backups[1]; volumes < 1 || got.StoredBytes > 60<<10 || got.DataBytes != 10*600*pageSize || !got.Chain.Summaries {
		t.Errorf("%d volumes, %+v, %+v", volumes, got, got.Chain)
	}
	facts := must(c.InspectParent(t.Context(), in.ID))(t)
	if full := must(c.InspectParent(t.Context(), in.Parent))(t); !facts.Sparse || full.Sparse || facts.Start != in.Start {
		t.Errorf("%+v on %+v", facts, full)
	}
	unknown := 0
	for f, err := range must(c.OpenBackup(t.Context(), in.ID))(t).Files(t.Context()) {
		check(t, err)
		if f.NoCRC {
			unknown++
		}
	}
	if unknown != 2 {
		t.Errorf("%d checksums are not known", unknown)
	}
}

// TestRebuiltIsRefused: a file that is laid over what is not there, or in a way that cannot be, ends the backup.
func TestRebuiltIsRefused(t *testing.T) {
	full := []member{{Member: Member{Path: "16384", Type: RegularFile, Mode: 0o600, Size: 4 * pageSize}, data: make([]byte, 4*pageSize)}}
	part := func(path string, pages int, blocks ...uint32) Member {
		return Member{Path: path, Type: RegularFile, Mode: 0o600, Size: int64(pages) * pageSize, Rebuild: &Rebuild{Blocks: blocks, Least: int64(pages)}}
	}
	for name, m := range map[string]Member{
		"not in the parent": part("16385", 4), "a page behind its end": part("16384", 4, 4), "pages that do not rise": part("16384", 4, 2, 2),
		"part of a page":   {Path: "16384", Type: RegularFile, Size: pageSize + 1, Rebuild: &Rebuild{}},
		"too many bytes":   part("16384", 4, 2),
		"too few bytes":    part("16384", 4, 1, 2),
		"without a parent": part("16384", 4),
		"a directory":      {Path: "16384", Type: Directory, Rebuild: &Rebuild{}},
	} {
		t.Run(name, func(t *testing.T) {
			c := testCluster(newMemory())
			takeBackup(t, testIntent(1), seal.Codec{}, full, 9000, c)
			in := childIntent(2, testIntent(1).ID)
			o := StreamOptions{Parent: must(c.OpenParent(t.Context(), in.Parent))(t), Summaries: true}
			if name == "without a parent" {
				in, o = testIntent(2), StreamOptions{}
			}
			s := must(NewBackupStream(t.Context(), []*BackupWriter{must(c.BeginBackup(t.Context(), in))(t)}, o))(t)
			w := s.Folder(0, "")
			err := w.Header(make([]byte, 512), m)
			if err == nil {
				err = w.Data(make([]byte, pageSize))
			}
			if err == nil && name == "too many bytes" {
				err = w.Data(make([]byte, 1))
			}
			if err == nil {
				err = w.Close()
			}
			if err == nil {
				t.Error("it was taken")
			}
			if corrupt := state.CodeOf(err) == state.CodeCorrupt; corrupt != (name == "not in the parent") {
				t.Errorf("%s: %v", state.CodeOf(err), err)
			}
			s.Abort(t.Context(), "test", testNow)
		})
	}
}
