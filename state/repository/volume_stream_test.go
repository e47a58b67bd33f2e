package repository

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgkeep/pgkeep/state/host/hosttest"
	"github.com/pgkeep/pgkeep/state/repository/seal"
)

// member is one member of a made-up folder.
type member struct {
	Member
	data []byte
}

// writeFolder sends members as a tar stream, in chunks of odd lengths, and gives the stream.
func writeFolder(t testing.TB, w *FolderWriter, members []member, chunk int) []byte {
	t.Helper()
	var stream bytes.Buffer
	tw := tar.NewWriter(&stream)
	sent := 0
	for _, m := range members {
		h := &tar.Header{Name: m.Path, Mode: int64(m.Mode), Size: m.Size, ModTime: time.Unix(m.ModTime, 0), Format: tar.FormatUSTAR, Typeflag: tar.TypeReg}
		switch m.Type {
		case Directory:
			h.Typeflag = tar.TypeDir
		case RegularFile:
		case SymbolicLink:
			h.Typeflag, h.Linkname = tar.TypeSymlink, m.Link
		}
		check(t, tw.WriteHeader(h))
		check(t, w.Header(stream.Bytes()[sent:], m.Member))
		for part := range slices.Chunk(m.data, chunk) {
			check(t, w.Data(part))
		}
		_, err := tw.Write(m.data)
		check(t, err)
		sent = stream.Len() // the padding comes with the next header
		check(t, tw.Flush())
	}
	check(t, tw.Close())
	check(t, w.Trailer(stream.Bytes()[sent:]))
	check(t, w.Close())
	return stream.Bytes()
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func randomMembers(random *rand.Rand, n, most int) []member {
	var out []member
	for i := range n {
		m := member{Member: Member{Path: fmt.Sprintf("base/%d/%d", i%7, i), Type: RegularFile, Mode: 0o600, ModTime: 1770757000 + int64(i)}}
		switch {
		case i%11 == 3:
			m.Path, m.Type, m.Mode = fmt.Sprintf("dir%d", i), Directory, 0o700
		case i%13 == 5:
			m.Path, m.Type, m.Link = fmt.Sprintf("pg_tblspc/%d", i), SymbolicLink, "/srv/fast"
		case i%5 != 0:
			m.data = make([]byte, random.IntN(most))
			for j := 0; j < len(m.data); j += 1 + random.IntN(40) {
				m.data[j] = byte(random.Uint32())
			}
			m.Size = int64(len(m.data))
		}
		out = append(out, m)
	}
	return out
}

func commitFacts() CommitFacts {
	return CommitFacts{Stop: 0x4000000, Timeline: 1, Ended: testNow.Add(time.Minute), Decided: testNow.Add(time.Minute), By: "backup1"}
}

// takeBackup writes a backup of the members into every cluster and commits it.
func takeBackup(t testing.TB, in Intent, codec seal.Codec, members []member, chunk int, clusters ...*Cluster) []byte {
	t.Helper()
	var writers []*BackupWriter
	for _, c := range clusters {
		w, err := c.BeginBackup(t.Context(), in)
		check(t, err)
		writers = append(writers, w)
	}
	s, err := NewBackupStream(t.Context(), writers, StreamOptions{Codec: codec})
	check(t, err)
	stream := writeFolder(t, s.Folder(0, ""), members, chunk)
	check(t, s.EndData())
	check(t, s.WriteManifest([]byte("{the manifest}\n")))
	check(t, s.Keep(Kept{BackupLabel: []byte("START WAL LOCATION")}))
	out, err := s.Commit(t.Context(), commitFacts())
	check(t, err)
	for _, o := range out {
		check(t, o.Err)
	}
	return stream
}

// readBack restores every file of a backup into memory, in both ways.
func readBack(t testing.TB, b *BackupReader) map[string][]byte {
	t.Helper()
	got := map[string][]byte{}
	sizes := map[string]int64{}
	for f, err := range b.Files(t.Context()) {
		check(t, err)
		if f.Type == RegularFile {
			got[f.Path] = make([]byte, f.Size)
			sizes[f.Path] = 0
		}
	}
	var mu sync.Mutex
	check(t, b.Pieces(t.Context(), PieceOptions{}, func(p Piece) error {
		mu.Lock()
		defer mu.Unlock()
		copy(got[p.File.Path][p.Offset:], p.Data)
		sizes[p.File.Path] += int64(len(p.Data))
		return nil
	}))
	for path, n := range sizes {
		if n != int64(len(got[path])) {
			t.Fatalf("%s: %d of %d bytes were handed out", path, n, len(got[path]))
		}
	}
	checkInOrder(t, b, got, 1+len(got)%3)
	return got
}

// rounds gives how often a random test runs: n, or what PGKEEP_ROUNDS says.
func rounds(t testing.TB, n int) int {
	t.Helper()
	if s := os.Getenv("PGKEEP_ROUNDS"); s != "" {
		return must(strconv.Atoi(s))(t)
	}
	return n
}

func TestBackupComesBack(t *testing.T) {
	for seed := range uint64(rounds(t, 3)) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			testComesBack(t, rand.New(rand.NewPCG(seed, 1)), []seal.Algorithm{seal.Zstd, seal.Gzip, seal.LZ4}[seed%3])
		})
	}
}

func testComesBack(t *testing.T, random *rand.Rand, algorithm seal.Algorithm) {
	pick := func(n ...int) int { return n[random.IntN(len(n))] }
	members := randomMembers(random, random.IntN(25), pick(2, 9000, 70_000, 1_200_000))
	codec := seal.Codec{Algorithm: algorithm}
	st := newMemory()
	c := testCluster(st)
	stream := takeBackup(t, testIntent(1), codec, members, pick(511, 8192, 131072, 131071), c)

	b := must(c.OpenBackup(t.Context(), testIntent(1).ID))(t)
	want := map[string][]byte{}
	for _, m := range members {
		if m.Type == RegularFile {
			want[m.Path] = append([]byte{}, m.data...)
		}
	}
	if diff := cmp.Diff(want, readBack(t, b)); diff != "" {
		t.Fatal(diff)
	}
	checkFiles(t, b, members)
	checkHashes(t, b, want)
	if got := rawStream(t, c, b); !bytes.Equal(got, stream) {
		t.Fatalf("the stream of %d bytes came back as %d others", len(stream), len(got))
	}
	check(t, b.Verify(t.Context(), true, func(f Finding) { t.Errorf("a sound backup: %+v", f) }))
}

// checkFiles compares the members, and that no page of a file spans two frames.
func checkFiles(t testing.TB, b *BackupReader, members []member) {
	t.Helper()
	i := 0
	for f, err := range b.Files(t.Context()) {
		check(t, err)
		m := slices.IndexFunc(members, func(m member) bool { return m.Path == f.Path })
		want := File{Path: members[m].Path, Type: members[m].Type, Mode: members[m].Mode, Size: members[m].Size, ModTime: unixTime(members[m].ModTime), Link: members[m].Link}
		if f.Type == RegularFile {
			want.CRC32C = crc32.Checksum(members[m].data, castagnoli())
		}
		for _, x := range f.Extents {
			if x.Offset%pageSize != 0 {
				t.Errorf("%s: a frame begins in mid page, at %d", f.Path, x.Offset)
			}
		}
		f.Extents, f.frames = nil, nil
		if diff := cmp.Diff(want, f, cmp.AllowUnexported(File{})); diff != "" {
			t.Error(diff)
		}
		i++
	}
	if i != len(members) {
		t.Errorf("%d members of %d came back", i, len(members))
	}
}

// checkInOrder reads the backup from its first byte to its last: members in the order of Files, each file's bytes in order.
func checkInOrder(t testing.TB, b *BackupReader, want map[string][]byte, workers int) {
	t.Helper()
	var order []string
	for f := range b.Files(t.Context()) {
		order = append(order, f.Path)
	}
	got := map[string][]byte{}
	var seen []string
	err := b.InOrder(t.Context(), PieceOptions{Workers: workers}, func(f *File, offset int64, data []byte) error {
		if offset == 0 {
			seen = append(seen, f.Path)
		}
		if offset != int64(len(got[f.Path])) {
			t.Errorf("%s: bytes from %d after %d", f.Path, offset, len(got[f.Path]))
		}
		got[f.Path] = append(got[f.Path], data...)
		return nil
	})
	check(t, err)
	if !slices.Equal(seen, order) {
		t.Errorf("the order is %v, want %v", seen, order)
	}
	for name, content := range want {
		if !bytes.Equal(got[name], content) {
			t.Errorf("%s has %d bytes, want %d, or other ones", name, len(got[name]), len(content))
		}
	}
	broken := errors.New("enough")
	if err := b.InOrder(t.Context(), PieceOptions{Workers: workers}, func(*File, int64, []byte) error { return broken }); len(order) > 0 && !errors.Is(err, broken) {
		t.Errorf("the visitor's error: %v", err)
	}
}

// checkHashes compares every page hash with a new one.
func checkHashes(t testing.TB, b *BackupReader, want map[string][]byte) {
	t.Helper()
	pages := 0
	check(t, b.PageHashes(t.Context(), func(h PageHashes) error {
		data := want[h.Path][h.First*pageSize:]
		data = data[:min(len(data), len(h.Hashes)/hashSize*pageSize)]
		if !bytes.Equal(hashPages(nil, data, h.Seed), h.Hashes) {
			t.Errorf("%s: other hashes from page %d on", h.Path, h.First)
		}
		pages += len(h.Hashes) / hashSize
		return nil
	}))
	for _, data := range want {
		pages -= (len(data) + pageSize - 1) / pageSize
	}
	if pages != 0 {
		t.Errorf("%d hashes too many", pages)
	}
}

// rawStream decodes the volumes of the data directory by their seek tables alone.
func rawStream(t testing.TB, c *Cluster, b *BackupReader) []byte {
	t.Helper()
	d := must(seal.NewDeframer())(t)
	defer d.Close()
	var out []byte
	for n := range b.Folders()[0].Volumes {
		body := plainObject(t, c, b.key(volumeName(0, n)))
		table := must(volumeTable(body))(t)
		if table.first != int64(len(out)) || table.number != n {
			t.Fatalf("volume %d says that it is %d and begins at %d, not %d", n, table.number, table.first, len(out))
		}
		for _, f := range table.frames {
			out = must(d.Frame(out, body[f.offset:f.offset+int64(f.stored)], f.raw))(t)
		}
	}
	return out
}

func TestVolumesByHand(t *testing.T) {
	members := randomMembers(rand.New(rand.NewPCG(7, 7)), 60, 900_000)
	for _, tool := range []struct {
		codec   seal.Algorithm
		command string
	}{{seal.Zstd, "zstd -dc"}, {seal.Gzip, "gzip -dc"}, {seal.LZ4, "lz4 -dc"}} {
		t.Run(string(tool.codec), func(t *testing.T) {
			hosttest.Need(t, hosttest.Program(strings.Fields(tool.command)[0]))
			st := newMemory()
			c := testCluster(st)
			takeBackup(t, testIntent(1), seal.Codec{Algorithm: tool.codec}, members, 100_000, c)
			dir := t.TempDir()
			for key := range st.objects {
				path := filepath.Join(dir, strings.TrimPrefix(key, c.key.backupDir(testIntent(1).ID)))
				check(t, os.MkdirAll(filepath.Dir(path), 0o700))
				check(t, os.WriteFile(path, plainObject(t, c, key), 0o600))
			}
			shell(t, dir, "mkdir out && cat v/base/* | "+tool.command+" | tar x -C out --exclude='pg_tblspc/*'")
			shell(t, dir, "cat sums/* | sha256sum -c --quiet --strict")
			for _, m := range members {
				if m.Type == RegularFile {
					if got := must(os.ReadFile(filepath.Join(dir, "out", m.Path)))(t); !bytes.Equal(got, m.data) {
						t.Errorf("%s differs", m.Path)
					}
				}
			}
		})
	}
}

func shell(t *testing.T, dir, command string) {
	t.Helper()
	cmd := exec.Command("bash", "-o", "pipefail", "-c", command)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
}

// A repository that fails is given up: its putters, who work side by side, find that out by one volume each at most.
func TestStreamGoesOnWithoutAFailingRepository(t *testing.T) {
	good, bad := newMemory(), newMemory()
	var puts atomic.Int32
	bad.step = func(call string) (error, error) {
		if strings.Contains(call, "/v/base/") {
			puts.Add(1)
			return errors.New("input/output error"), nil
		}
		return nil, nil
	}
	testTwo(t, good, bad, time.Hour)
	if n := puts.Load(); n < 1 || n > putsPerLane {
		t.Errorf("%d volumes were put into a repository that fails, by %d putters", n, putsPerLane)
	}
}

// The same when every putter is under way as the first one fails, and more volumes wait behind them.
func TestARepositoryGivenUpIsNotAskedAgain(t *testing.T) {
	good, bad := newMemory(), newMemory()
	var taken, puts atomic.Int32
	full := make(chan struct{}) // as many are in flight as may be
	good.step = func(call string) (error, error) {
		if strings.Contains(call, "put ") && strings.Contains(call, "/v/base/") && taken.Add(1) == objectsInFlight {
			close(full)
		}
		return nil, nil
	}
	bad.step = func(call string) (error, error) {
		if strings.Contains(call, "/v/base/") {
			puts.Add(1)
			<-full
			return errors.New("input/output error"), nil
		}
		return nil, nil
	}
	testTwo(t, good, bad, time.Hour)
	if n := puts.Load(); n != putsPerLane {
		t.Errorf("%d volumes were put into a repository that fails, by %d putters", n, putsPerLane)
	}
}

// In the bubble a minute passes only when everybody waits: a machine that is slow stalls no repository.
func TestStreamGoesOnWithoutAStalledRepository(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		good, bad := newMemory(), newMemory()
		release := make(chan struct{})
		defer close(release)
		bad.step = func(call string) (error, error) {
			if strings.Contains(call, "put ") && strings.Contains(call, "/v/base/") {
				<-release
			}
			return nil, nil
		}
		began := time.Now()
		testTwo(t, good, bad, time.Minute)
		if waited := time.Since(began); waited != time.Minute {
			t.Errorf("the backup was done after %s, its other repository was to be given up after a minute", waited)
		}
	})
}

// testTwo takes one backup into two repositories, of which bad takes no volumes.
func testTwo(t *testing.T, good, bad *memory, stall time.Duration) {
	t.Helper()
	a, b := testCluster(good), testCluster(bad)
	in := testIntent(1)
	s := must(NewBackupStream(t.Context(), []*BackupWriter{must(a.BeginBackup(t.Context(), in))(t), must(b.BeginBackup(t.Context(), in))(t)}, StreamOptions{StallTimeout: stall}))(t)
	random := rand.New(rand.NewPCG(3, 3))
	var members []member
	for i := range 12 {
		data := make([]byte, 6<<20)
		for j := range data {
			data[j] = byte(random.Uint32())
		}
		members = append(members, member{Member{Path: fmt.Sprintf("f%d", i), Type: RegularFile, Size: int64(len(data))}, data})
	}
	writeFolder(t, s.Folder(0, ""), members, 1<<20)
	out := must(s.Commit(t.Context(), commitFacts()))(t)
	if out[0].Err != nil || out[1].Err == nil {
		t.Fatalf("outcomes %v, %v", out[0].Err, out[1].Err)
	}
	if n := len(readBack(t, must(a.OpenBackup(t.Context(), in.ID))(t))); n != 12 {
		t.Errorf("%d files", n)
	}
	got := must(b.Backups(t.Context()))(t)
	if len(got) != 1 || got[0].State != "aborted" {
		t.Errorf("in the failing repository: %+v", got)
	}
}

func TestCancelledStreamAborts(t *testing.T) {
	st := newMemory()
	c := testCluster(st)
	s := must(NewBackupStream(t.Context(), []*BackupWriter{must(c.BeginBackup(t.Context(), testIntent(1)))(t)}, StreamOptions{}))(t)
	w := s.Folder(0, "")
	check(t, w.Header(make([]byte, 512), Member{Path: "a", Type: RegularFile, Size: 100}))
	s.Abort(t.Context(), "interrupted", testNow)
	if got := must(c.Backups(t.Context()))(t); got[0].State != "aborted" || got[0].Failure != "interrupted" {
		t.Errorf("%+v", got)
	}
	if _, err := c.RemoveAborted(t.Context(), testIntent(1).ID); err != nil {
		t.Fatal(err)
	}
	if left := st.keys(); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func BenchmarkVolumes(b *testing.B) {
	members := []member{{Member{Path: "base/5/16384", Type: RegularFile}, nil}}
	random := rand.New(rand.NewPCG(3, 3))
	for len(members[0].data) < 256<<20 { // rows such as pgbench's: a quarter of the bytes carry something
		page := make([]byte, pageSize)
		for j := 0; j < len(page); j += 4 {
			page[j] = byte(random.Uint32())
		}
		members[0].data = append(members[0].data, page...)
	}
	members[0].Size = int64(len(members[0].data))
	for _, a := range []seal.Algorithm{seal.Zstd, seal.LZ4, seal.Gzip} {
		b.Run(string(a), func(b *testing.B) {
			b.SetBytes(members[0].Size)
			b.ReportAllocs()
			for range b.N {
				c := testCluster(newMemory())
				w := must(c.BeginBackup(b.Context(), testIntent(1)))(b)
				s := must(NewBackupStream(b.Context(), []*BackupWriter{w}, StreamOptions{Codec: seal.Codec{Algorithm: a}}))(b)
				f := s.Folder(0, "")
				check(b, f.Header(make([]byte, 512), members[0].Member))
				for part := range slices.Chunk(members[0].data, 128<<10) {
					check(b, f.Data(part))
				}
				check(b, f.Close())
				must(s.Commit(b.Context(), commitFacts()))(b)
			}
		})
	}
}
