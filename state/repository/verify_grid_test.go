package repository

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/seal"
	"github.com/pgkeep/pgkeep/state/wal"
)

// grid is a repository with an object of every class, two backups of one server that share nothing, and the same repository at another
// moment of its life: other objects under the same names.
type grid struct {
	m, other *memory
}

// gridMembers are enough for several volumes, shards and frames.
func gridMembers(seed uint64) []member {
	return randomMembers(rand.New(rand.NewPCG(seed, 5)), 14, 60_000)
}

// fillGrid writes a repository. salt makes the contents differ, and the names not.
func fillGrid(t *testing.T, codec seal.Codec, salt byte) *memory {
	m := newMemory()
	c := newArchive(t, m, mib)
	c = must(c.repo.WithCompression(codec))(t).Cluster(archiveName, archiveID)
	plain := func(seg wal.Segment) []byte {
		b := plainSegment(seg, mib)
		b[9000] = salt
		return b
	}
	for n := range uint64(4) {
		seg := wal.Segment{Timeline: 1, Number: 4 + n}
		check(t, c.PutSegment(t.Context(), seg, summaryOf(seg, mib), bytes.NewReader(plain(seg))))
		if n == 1 {
			check(t, c.WriteIndex(t.Context(), 1))
		}
	}
	part := wal.Segment{Timeline: 1, Number: 8}
	for _, reach := range []wal.LSN{8192, 16384} {
		check(t, c.PutPartial(t.Context(), part, part.Start(mib)+reach, bytes.NewReader(plain(part))))
	}
	for tli := range wal.Timeline(2) {
		check(t, c.PutHistory(t.Context(), tli+2, fmt.Appendf(nil, "1\t0/%d00100\twhy%d\n", tli+5, salt)))
		seg := wal.Segment{Timeline: tli + 2, Number: 8}
		check(t, c.PutSegment(t.Context(), seg, summaryOf(seg, mib), bytes.NewReader(plain(seg))))
		check(t, c.RecordGap(t.Context(), state.Gap{Range: wal.Range{Timeline: 1, From: 1 << 30, To: wal.LSN(tli+2) << 30}, Reason: fmt.Sprint("x", salt)}))
		check(t, c.PutEvidence(t.Context(), archiveEpoch.AddDate(0, 0, int(tli)), salt))
		check(t, c.PutJournal(t.Context(), archiveEpoch.AddDate(0, 0, int(tli)), salt))
	}
	check(t, c.WriteIndex(t.Context(), 1))
	for n := 1; n <= 2; n++ {
		in := testIntent(n)
		in.Start, in.Redo = 0x500028, 0x500028
		takeBackup(t, in, codec, gridMembers(uint64(n)+10*uint64(salt)), 1000, c)
	}
	return m
}

// class names the class of an object for the table of results.
func (g *grid) class(key string) string {
	for _, c := range []struct{ part, name string }{
		{repositoryKey, "repository"},
		{"/cluster.json", "cluster"},
		{"/" + startName, "START"},
		{"/" + decisionName, "COMMIT"},
		{"/" + volumeDir, "volume"},
		{"/" + filesDir, "manifest shard"},
		{"/" + hashDir, "hash shard"},
		{"/" + sumsDir, "sums"},
		{"/backup_manifest/server/", "backup_manifest"},
		{"/backup_manifest/", "label and folders"},
		{".partial-", "partial"},
		{"/w/history/", "history"},
		{"/w/", "segment"},
		{"/wx/", "index"},
		{"/gap/", "gap"},
		{"/evidence/", "evidence"},
		{"/journal/", "journal"},
	} {
		if strings.Contains("/"+key, c.part) {
			return c.name
		}
	}
	return ""
}

// unseen are damages that nothing in a repository can tell from its history: what nobody names was removed, and an index that is
// missing makes looking slower and hides nothing. Of a lost COMMIT the lease tells: TestALostDecisionIsNoGarbage.
func unseen(class, operation, key string) bool {
	last := strings.HasSuffix(key, "000000010000000000000007") || !strings.Contains(key, "/w/00000001/")
	switch operation {
	case "delete":
		return slices.Contains([]string{"index", "gap", "evidence", "journal", "partial", "COMMIT"}, class) || class == "segment" && last
	case "duplicate":
		return class == "repository"
	case "old version": // a whole object of another life of the same cluster, of which nothing knows the digest
		return slices.Contains([]string{"repository", "index", "gap", "evidence", "history", "partial"}, class) || class == "segment" && !strings.Contains(key, "/w/00000001/")
	}
	return false
}

// operations are the ten of the corruption grid. An operation that cannot be done gives false.
func (g *grid) operations(key string) map[string]func(*rand.Rand, *memory) bool {
	body := g.m.objects[key]
	set := func(b []byte) func(*rand.Rand, *memory) bool {
		return func(_ *rand.Rand, m *memory) bool {
			m.objects[key] = b
			return !bytes.Equal(b, body)
		}
	}
	neighbour := func() string {
		for _, k := range g.m.keys() {
			if k != key && g.class(k) == g.class(key) {
				return k
			}
		}
		return ""
	}()
	return map[string]func(*rand.Rand, *memory) bool{
		"flip": func(r *rand.Rand, m *memory) bool {
			b := bytes.Clone(body)
			b[r.IntN(len(b))] ^= 1 << r.IntN(8)
			m.objects[key] = b
			return true
		},
		"zero": func(r *rand.Rand, m *memory) bool {
			b := bytes.Clone(body)
			at := r.IntN(len(b))
			clear(b[at:min(len(b), at+4096)])
			m.objects[key] = b
			return !bytes.Equal(b, body)
		},
		"cut one":  set(body[:len(body)-1]),
		"cut half": set(body[:len(body)/2]),
		"cut all":  set(nil),
		"append":   set(append(bytes.Clone(body), 0)),
		"swap": func(_ *rand.Rand, m *memory) bool {
			if neighbour == "" {
				return false
			}
			m.objects[key], m.objects[neighbour] = m.objects[neighbour], body
			return !bytes.Equal(m.objects[key], body)
		},
		"old version": func(_ *rand.Rand, m *memory) bool {
			old, ok := g.other.objects[key]
			m.objects[key] = old
			return ok && !bytes.Equal(old, body)
		},
		"delete": func(_ *rand.Rand, m *memory) bool { delete(m.objects, key); return true },
		"duplicate": func(_ *rand.Rand, m *memory) bool {
			m.objects[key[:len(key)-1]+"~"] = body
			return true
		},
		"forbid": func(_ *rand.Rand, m *memory) bool {
			m.step = func(call string) (error, error) {
				if call == "get "+key {
					return fmt.Errorf("open %s: %w", key, fs.ErrPermission), nil
				}
				return nil, nil
			}
			return true
		},
	}
}

// TestCorruptionGrid: every class of object times every operation. Full verification finds each and names the object; what is not hurt
// verifies and reads as before; what is hurt is not read.
func TestCorruptionGrid(t *testing.T) {
	found, classes := 0, map[string]int{}
	codecs := []seal.Codec{{}, {Algorithm: seal.LZ4}, {Algorithm: seal.Gzip}}
	for _, codec := range codecs[:min(len(codecs), rounds(t, 1))] {
		g := &grid{m: fillGrid(t, codec, 0), other: fillGrid(t, codec, 1)}
		for _, key := range g.m.keys() {
			class := g.class(key)
			if class == "" {
				continue // README.txt
			}
			operations := g.operations(key)
			for _, name := range slices.Sorted(maps.Keys(operations)) {
				if unseen(class, name, key) {
					continue
				}
				for seed := range uint64(rounds(t, 1)) {
					hurt := &memory{objects: maps.Clone(g.m.objects)}
					if operations[name](rand.New(rand.NewPCG(seed, 9)), hurt) {
						found++
						classes[class]++
						g.judge(t, hurt, key, fmt.Sprintf("%s, %s, seed %d", key, name, seed))
					}
				}
			}
		}
	}
	t.Logf("%d damages found, of %v", found, classes)
	if found < 110 || len(classes) < 11 {
		t.Errorf("only %d damages of %d classes", found, len(classes))
	}
}

// judge verifies a repository in which one object is hurt.
func (g *grid) judge(t *testing.T, hurt *memory, key, what string) {
	t.Helper()
	r, err := Open(t.Context(), hurt)
	if key == repositoryKey {
		if code := state.CodeOf(err); code == "" {
			t.Errorf("%s: opened: %v", what, err)
		}
		return
	}
	check(t, err)
	named := false
	check(t, r.Verify(t.Context(), true, func(f Finding) {
		named = named || strings.HasPrefix(f.Object, key[:len(key)-1])
		if strings.Contains(what, "old version") && strings.HasSuffix(key, decisionName) {
			named = named || strings.HasPrefix(f.Object, strings.TrimSuffix(key, decisionName)) // what it names is not there
		}
		if f.Code == "" || f.Text == "" {
			t.Errorf("%s: an empty finding %+v", what, f)
		}
	}))
	if !named {
		t.Errorf("%s: not found", what)
	}
	if g.class(key) == "cluster" {
		return
	}
	c := r.Cluster(archiveName, archiveID)
	for n := 1; n <= 2; n++ {
		g.readHurt(t, c, n, key, what)
	}
}

// readHurt reads a backup: the one that is not hurt comes back whole, and the other never with other bytes.
func (g *grid) readHurt(t *testing.T, c *Cluster, n int, key, what string) {
	t.Helper()
	id := testIntent(n).ID
	want := map[string][]byte{}
	for _, m := range gridMembers(uint64(n)) {
		if m.Type == RegularFile {
			want[m.Path] = m.data
		}
	}
	b, err := c.OpenBackup(t.Context(), id)
	if err == nil {
		err = b.Pieces(t.Context(), PieceOptions{Workers: 1}, func(p Piece) error {
			if !bytes.Equal(want[p.File.Path][p.Offset:p.Offset+int64(len(p.Data))], p.Data) {
				t.Errorf("%s: wrong bytes of %s in %s", what, p.File.Path, id)
			}
			return nil
		})
	}
	touched := strings.Contains(key, "/b/") && (strings.Contains(key, id) || strings.Contains(what, "swap"))
	if err != nil && !touched {
		t.Errorf("%s: the healthy backup %s is not readable: %v", what, id, err)
	}
	kind := path.Base(path.Dir(key))
	if err == nil && strings.Contains(key, id) && (kind == "files" || strings.HasSuffix(key, "/"+startName) || strings.HasSuffix(key, "/"+decisionName)) &&
		!strings.Contains(what, "duplicate") {
		t.Errorf("%s: %s is restored all the same", what, id)
	}
}

// TestSoundRepositoriesVerify: no false alarm, in any state of life.
func TestSoundRepositoriesVerify(t *testing.T) {
	for seed := range byte(rounds(t, 10)) {
		codec := seal.Codec{Algorithm: []seal.Algorithm{seal.Zstd, seal.Gzip, seal.LZ4}[seed%3]}
		m := fillGrid(t, codec, seed)
		c := must(Open(t.Context(), m))(t).Cluster(archiveName, archiveID)
		check(t, c.Hold(t.Context(), testIntent(1).ID, state.Hold{Reason: "audit"}, testNow))
		check(t, c.RecordVerification(t.Context(), Verification{ID: testIntent(1).ID, At: testNow}))
		check(t, c.Tomb(t.Context(), testIntent(2).ID, testNow))
		must(c.BeginBackup(t.Context(), testIntent(3)))(t)
		must(c.BeginBackup(t.Context(), testIntent(4)))(t)
		must(c.AbortBackup(t.Context(), testIntent(4).ID, "broken off", testNow))(t)
		must(c.DeleteWAL(t.Context(), []wal.Range{{Timeline: 1, From: 0, To: wal.Segment{Number: 5}.Start(mib)}}))(t)
		for _, full := range []bool{false, true} {
			check(t, must(Open(t.Context(), m))(t).Verify(t.Context(), full, func(f Finding) { t.Errorf("seed %d, full %v: %+v", seed, full, f) }))
		}
	}
}
