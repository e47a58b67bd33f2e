package repository

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
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
		in.Start = wal.LSN(4+n)<<20 + 0x28
		in.Redo = in.Start
		gridBackup(t, in, codec, gridMembers(uint64(n)+10*uint64(salt)), c)
	}
	return m
}

// gridBackup takes a backup that ends in the last whole segment.
func gridBackup(t testing.TB, in Intent, codec seal.Codec, members []member, c *Cluster) {
	t.Helper()
	s := must(NewBackupStream(t.Context(), []*BackupWriter{must(c.BeginBackup(t.Context(), in))(t)}, StreamOptions{Codec: codec}))(t)
	writeFolder(t, s.Folder(0, ""), members, 1000)
	check(t, s.EndData())
	check(t, s.WriteManifest([]byte("{the manifest}\n")))
	check(t, s.Keep(Kept{BackupLabel: []byte("START WAL LOCATION")}))
	f := commitFacts()
	f.Stop, f.Ended = 0x702000, in.Now.Add(time.Minute)
	for _, o := range must(s.Commit(t.Context(), f))(t) {
		check(t, o.Err)
	}
}

// class names the class of an object for the table of results.
func (g *grid) class(key string) string {
	for _, c := range []struct{ part, name string }{
		{repositoryKey, "repository"},
		{"/key.json", "key"}, // of an encrypted repository; what is wrapped for a reader proves itself to him alone
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
		return class == "repository" || class == "key"
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
	full := rounds(t, 1) > 1 || os.Getenv("PGKEEP_GRID") == "full"
	tried, most := map[string]int{}, map[string]int{"segment": 2, "label and folders": 2} // by class and operation
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
				if unseen(class, name, key) || !full && tried[class+name] == max(most[class], 1) {
					continue
				}
				tried[class+name]++
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

// judge verifies a repository in which one object is hurt: what is found, and whether what verification says of each backup
// is what comes of a restore.
func (g *grid) judge(t *testing.T, hurt *memory, key, what string) {
	t.Helper()
	r, err := OpenWith(t.Context(), hurt, suiteKeys())
	if key == repositoryKey || g.class(key) == "key" {
		if code := state.CodeOf(err); code == "" {
			t.Errorf("%s: opened: %v", what, err)
		}
		return
	}
	check(t, err)
	c := r.Cluster(archiveName, archiveID)
	v := must(c.Examine(t.Context(), VerifyOptions{Level: state.VerifyFull, Now: func() time.Time { return testNow }}))(t)
	named := false
	for _, f := range v.Damage {
		named = named || strings.HasPrefix(f.Object, key[:len(key)-1])
		if strings.Contains(what, "old version") && strings.HasSuffix(key, decisionName) {
			named = named || strings.HasPrefix(f.Object, strings.TrimSuffix(key, decisionName)) // what it names is not there
		}
		if f.Code == "" || f.Text == "" {
			t.Errorf("%s: an empty finding %+v", what, f)
		}
	}
	if !named || v.Wrong == 0 {
		t.Errorf("%s: not found: %+v", what, v.Damage)
	}
	for n := 1; n <= 2; n++ {
		restored := g.restore(t, c, n, key, what)
		g.compare(t, v, testIntent(n).ID, restored, what)
	}
}

// compare holds what verification says of a backup against what came of restoring it.
func (g *grid) compare(t *testing.T, v state.Verification, id string, restored error, what string) {
	t.Helper()
	said, hurt := false, false
	for _, b := range v.Backups {
		said = said || b.ID == id && b.Restorable
	}
	for _, f := range v.Damage {
		hurt = hurt || slices.Contains(f.Hurts, id)
	}
	if strings.Contains(what, "/w/") && strings.Contains(what, "old version") && restored == nil {
		return // a restore believes a whole segment of another life of the cluster; verification believes the index more
	}
	if said != (restored == nil) || hurt == said {
		t.Errorf("%s: %s: verification says restorable %v, hurt %v; a restore says %v\n%+v\n%+v", what, id, said, hurt, restored, v.Backups, v.Damage)
	}
}

// restore does with a backup what a restore to its own end does, and compares the bytes with those that were written.
func (g *grid) restore(t *testing.T, c *Cluster, n int, key, what string) error {
	t.Helper()
	id := testIntent(n).ID
	want := map[string][]byte{}
	for _, m := range gridMembers(uint64(n)) {
		if m.Type == RegularFile {
			want[m.Path] = m.data
		}
	}
	z, err := c.segmentSize(t.Context())
	if err != nil {
		return err
	}
	b, err := c.OpenBackup(t.Context(), id)
	if err != nil {
		return err
	}
	for _, read := range []func(context.Context) ([]byte, error){b.BackupLabel, b.Captured} {
		if _, err := read(t.Context()); err != nil && !errors.Is(err, store.ErrNotExist) {
			return err
		}
	}
	err = b.Pieces(t.Context(), PieceOptions{Workers: 1}, func(p Piece) error {
		if !bytes.Equal(want[p.File.Path][p.Offset:p.Offset+int64(len(p.Data))], p.Data) {
			t.Errorf("%s: wrong bytes of %s in %s", what, p.File.Path, id)
		}
		return nil
	})
	if touched := strings.Contains(key, "/b/") && (strings.Contains(key, id) || strings.Contains(what, "swap")); err != nil && !touched {
		t.Errorf("%s: the healthy backup %s is not readable: %v", what, id, err)
	}
	for seg := z.SegmentAt(1, b.Info().Redo); err == nil && seg.Start(z) < b.Info().Stop; seg = seg.Next() {
		var r *WALReader
		if r, err = c.OpenSegment(t.Context(), seg); err == nil {
			_, err = io.Copy(io.Discard, r)
			err = errors.Join(err, r.Close())
		}
	}
	return err
}

// TestSoundRepositoriesVerify: no false alarm, in any state of life.
func TestSoundRepositoriesVerify(t *testing.T) {
	for seed := range byte(rounds(t, 10)) {
		codec := seal.Codec{Algorithm: []seal.Algorithm{seal.Zstd, seal.Gzip, seal.LZ4}[seed%3]}
		m := fillGrid(t, codec, seed)
		c := must(OpenWith(t.Context(), m, suiteKeys()))(t).Cluster(archiveName, archiveID)
		check(t, c.Hold(t.Context(), testIntent(1).ID, state.Hold{Reason: "audit"}, testNow))
		check(t, c.RecordVerification(t.Context(), Verification{ID: testIntent(1).ID, At: testNow}))
		check(t, c.Tomb(t.Context(), testIntent(2).ID, testNow))
		must(c.BeginBackup(t.Context(), testIntent(3)))(t)
		must(c.BeginBackup(t.Context(), testIntent(4)))(t)
		must(c.AbortBackup(t.Context(), testIntent(4).ID, "broken off", testNow))(t)
		must(c.DeleteWAL(t.Context(), []wal.Range{{Timeline: 1, From: 0, To: wal.Segment{Number: 5}.Start(mib)}}))(t)
		for _, full := range []bool{false, true} {
			check(t, must(OpenWith(t.Context(), m, suiteKeys()))(t).Verify(t.Context(), full, func(f Finding) { t.Errorf("seed %d, full %v: %+v", seed, full, f) }))
		}
	}
}
