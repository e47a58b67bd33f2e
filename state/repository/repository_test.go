package repository

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/host/hosttest"
	"github.com/pgkeep/pgkeep/state/repository/seal"
	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/repository/store/file"
	"github.com/pgkeep/pgkeep/state/repository/store/storetest"
	"github.com/pgkeep/pgkeep/state/wal"
)

func openDirectory(t testing.TB, path string, o file.Options) *file.Store {
	t.Helper()
	st, err := file.Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	return st
}

func TestCreateAndOpen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "repository")
	o := CreateOptions{Keys: suiteKeys(), Now: archiveEpoch, Compression: seal.Codec{Algorithm: seal.LZ4, Level: 3}, Random: bytes.NewReader(bytes.Repeat([]byte{7}, 24))}
	r, err := Create(t.Context(), openDirectory(t, dir, file.Options{}), o)
	if err != nil {
		t.Fatal(err)
	}
	if r.ID() != strings.Repeat("07", 16) || r.HashSeed() != 0x0707070707070707 && suiteKeys() == nil || r.Compression() != o.Compression {
		t.Errorf("%s, %x, %v", r.ID(), r.HashSeed(), r.Compression())
	}
	again, err := Create(t.Context(), openDirectory(t, dir, file.Options{}), CreateOptions{Now: archiveEpoch.Add(time.Hour), Keys: suiteKeys()})
	if err != nil || again.ID() != r.ID() {
		t.Errorf("created again: %v", err)
	}
	if _, err := Create(t.Context(), storetest.NewMemory(nil), CreateOptions{Compression: seal.Codec{Algorithm: "bzip2"}}); err == nil {
		t.Error("a repository with an unknown compression was created")
	}
}

// TestCreateKilled kills Create before and after each call: the place can still become a repository, and never is half of one.
func TestCreateKilled(t *testing.T) {
	for at := int64(1); at < 12; at++ {
		for _, before := range []bool{true, false} {
			st := storetest.NewMemory(nil)
			dead := false
			kill := func(now bool) func(storetest.Call) error {
				return func(c storetest.Call) error {
					if dead = dead || c.N == at && now == before; dead {
						return errKilled
					}
					return nil
				}
			}
			_, err := Create(t.Context(), &storetest.Faulty{Store: st, Before: kill(true), After: kill(false)}, CreateOptions{Now: archiveEpoch, Keys: suiteKeys()})
			if dead != errors.Is(err, errKilled) {
				t.Fatalf("killed at call %d: %v, %v", at, dead, err)
			}
			if _, err := OpenWith(t.Context(), st, suiteKeys()); err != nil && state.CodeOf(err) != state.CodeAbsent {
				t.Fatalf("killed at call %d, open: %v", at, err)
			}
			if _, err := Create(t.Context(), st, CreateOptions{Now: archiveEpoch, Keys: suiteKeys()}); err != nil {
				t.Fatalf("killed at call %d, create again: %v", at, err)
			}
		}
	}
}

// careless is a store whose put replaces.
type careless struct{ *storetest.Memory }

func (c careless) PutIfAbsent(ctx context.Context, key string, body io.ReaderAt, size int64, o store.PutOptions) error {
	c.Set(key, nil)
	return c.Memory.PutIfAbsent(ctx, key, body, size, o)
}

func TestUnconditionalStore(t *testing.T) {
	_, err := Create(t.Context(), careless{storetest.NewMemory(nil)}, CreateOptions{Now: archiveEpoch, Keys: suiteKeys()})
	if state.CodeOf(err) != state.CodeUnconditionalStore {
		t.Errorf("%v", err)
	}
}

// TestVacant tells the places without REPOSITORY.json apart, as principle 5 wants it: nothing here is an empty repository.
func TestVacant(t *testing.T) {
	top, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	fstab := filepath.Join(top, "fstab")
	if err := os.WriteFile(fstab, []byte("UUID=1 "+top+"/disk ext4 defaults 0 2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	mkdir := func(dirs ...string) func(string) {
		return func(path string) {
			for _, d := range dirs {
				if err := os.MkdirAll(filepath.Join(path, d), 0o700); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	tests := []struct {
		path, expected string
		make           func(string)
		want           state.Code
		creates        bool
	}{
		{"absent", "", mkdir(), state.CodeAbsent, true},
		{"empty", "", mkdir("."), state.CodeAbsent, true},
		{"fresh", "", mkdir("lost+found"), state.CodeAbsent, true},
		{"gone", "slot pgkeep_orders of server orders reserves WAL", mkdir("."), state.CodeNotMounted, true},
		{"disk/pgkeep", "", mkdir(), state.CodeNotMounted, false},
		{"disk", "", mkdir("."), state.CodeNotMounted, false},
		{"data", "", mkdir("base", "global"), state.CodeNotRepository, false},
		{"hidden", "", mkdir(".config"), state.CodeNotRepository, false},
		{"readme", "", func(path string) {
			mkdir(".")(path)
			if err := os.WriteFile(filepath.Join(path, readmeKey), []byte(readme), 0o600); err != nil {
				t.Fatal(err)
			}
		}, state.CodeAbsent, true},
	}
	for _, test := range tests {
		path := filepath.Join(top, test.path)
		test.make(path)
		st := openDirectory(t, path, file.Options{Fstab: fstab})
		seen := Look(t.Context(), st, ObserveOptions{Keys: suiteKeys(), Location: path, Expected: test.expected})
		if seen.Unknown == nil || seen.Unknown.Code != test.want || seen.Unknown.Hint == "" || seen.Clusters != nil || seen.Free <= 0 || seen.Total <= 0 {
			t.Errorf("%s: %+v, %+v", test.path, seen, seen.Unknown)
		}
		if wantMount := strings.HasPrefix(test.path, "disk"); (seen.FstabMount != "") != wantMount {
			t.Errorf("%s: mount point %q", test.path, seen.FstabMount)
		}
		if _, err := Create(t.Context(), st, CreateOptions{Now: archiveEpoch, Keys: suiteKeys()}); (err == nil) != test.creates {
			t.Errorf("%s: create: %v", test.path, err)
		}
	}
}

func TestNewerFormat(t *testing.T) {
	st := storetest.NewMemory(nil)
	newArchive(t, st, mib)
	r, err := OpenWith(t.Context(), st, suiteKeys())
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range []func(*repositoryFile){
		func(f *repositoryFile) { f.Format = Format + 1 },
		func(f *repositoryFile) { f.Cipher = "rot13" },
		func(f *repositoryFile) { f.Capabilities = []string{"packed-journal"} },
	} {
		f := r.file
		change(&f)
		body, err := encodeRecord(f)
		if err != nil {
			t.Fatal(err)
		}
		st.Set(repositoryKey, body)
		if _, err := OpenWith(t.Context(), st, suiteKeys()); state.CodeOf(err) != state.CodeNewerFormat || state.HintOf(err) == "" {
			t.Errorf("%+v: %v", f, err)
		}
	}
}

func TestEnsure(t *testing.T) {
	c := newArchive(t, storetest.NewMemory(nil), mib)
	facts, err := c.Facts(t.Context())
	if err != nil || facts.Major != 15 || facts.SegmentSize != mib {
		t.Errorf("%+v, %v", facts, err)
	}
	facts.PageChecksums = false // pg_checksums was run
	if err := c.Ensure(t.Context(), facts); err != nil {
		t.Error(err)
	}
	for _, change := range []func(*ClusterFacts){
		func(f *ClusterFacts) { f.Major = 16 }, func(f *ClusterFacts) { f.SegmentSize = 16 << 20 }, func(f *ClusterFacts) { f.PageSize = 4096 },
	} {
		other := facts
		change(&other)
		if err := c.Ensure(t.Context(), other); state.CodeOf(err) != state.CodeIdentity {
			t.Errorf("%+v: %v", other, err)
		}
	}
	for _, bad := range []ClusterKey{{"../x", "1"}, {"a.b.c", "1"}, {"A", "1"}, {"", "1"}, {"a", "0"}, {"a", "x"}, {"a", "99999999999999999999"}, {"-a", "1"}, {"a'; touch x #", "1"}} {
		if err := c.repo.Cluster(bad.Name, bad.SystemID).Ensure(t.Context(), facts); err == nil {
			t.Errorf("cluster %q was added", bad)
		}
	}
	keys, err := c.repo.Clusters(t.Context())
	if d := cmp.Diff([]ClusterKey{{archiveName, archiveID}}, keys); d != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
}

func TestObserve(t *testing.T) {
	now := archiveEpoch
	st := storetest.NewMemory(func() time.Time { return now })
	c := newArchive(t, st, mib)
	for n := range uint64(3) {
		putSegment(t, c, wal.Segment{Timeline: 1, Number: n + 1}, mib)
	}
	next := wal.Segment{Timeline: 1, Number: 4}
	if err := c.PutPartial(t.Context(), next, next.Start(mib)+8192, bytes.NewReader(plainSegment(next, mib))); err != nil {
		t.Fatal(err)
	}
	done := wal.Segment{Timeline: 1, Number: 3}
	if err := c.PutPartial(t.Context(), done, done.Start(mib)+8192, bytes.NewReader(plainSegment(done, mib))); err != nil {
		t.Fatal(err)
	}
	if err := c.PutHistory(t.Context(), 2, []byte("1\t0/480000\tbefore x\n")); err != nil {
		t.Fatal(err)
	}
	now = archiveEpoch.Add(time.Hour)
	gap := state.Gap{Range: wal.Range{Timeline: 1, From: 1, To: 9}, Reason: "slot lost", Recorded: archiveEpoch}
	if err := c.RecordGap(t.Context(), gap); err != nil {
		t.Fatal(err)
	}
	seen := Look(t.Context(), st, ObserveOptions{Keys: suiteKeys(), Location: "memory"})
	stale := int64(len(st.Bytes(c.key.partialFile(done, mib, 8192))))
	want := state.Repository{
		Location: "memory", ID: c.repo.ID(), Format: 1, Free: -1, Total: -1, Now: now,
		Clusters: map[string][]state.Cluster{archiveName: {{
			Name: archiveName, SystemID: archiveID, Major: 15, SegmentSize: mib, Gaps: []state.Gap{gap}, StalePartialBytes: stale, RestorePoints: &state.RestorePoints{},
			Histories: []state.History{{Timeline: 2, Parents: []state.Parent{{Timeline: 1, Switch: 0x480000, Reason: "before x"}}}},
			WAL: []state.WALRange{{
				Range:       wal.Range{Timeline: 1, From: 1 << 20, To: 4 << 20},
				Bytes:       seen.Clusters[archiveName][0].WAL[0].Bytes,
				FirstCommit: archiveEpoch.Add(time.Minute), LastCommit: archiveEpoch.Add(3*time.Minute + time.Second), Partial: 4<<20 + 8192,
			}},
		}}},
	}
	if suiteKeys() != nil {
		want.Encryption = c.repo.encryption()
	}
	if d := cmp.Diff(want, seen); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// TestObserveFails fails each call of a look once: the repository is unknown with a code and a sentence, and no part of it is told.
func TestObserveFails(t *testing.T) {
	st := storetest.NewMemory(nil)
	c := newArchive(t, st, mib)
	putSegment(t, c, wal.Segment{Timeline: 1, Number: 1}, mib)
	if err := c.PutHistory(t.Context(), 2, []byte("1\t0/480000\tx\n")); err != nil {
		t.Fatal(err)
	}
	for at := int64(1); ; at++ {
		f := &storetest.Faulty{Store: st, Before: func(call storetest.Call) error {
			if call.N == at {
				return fmt.Errorf("read: %w", syscall.EIO)
			}
			return nil
		}}
		seen := Look(t.Context(), f, ObserveOptions{Keys: suiteKeys(), Location: "memory"})
		if f.Calls() < at {
			if at < 10 || seen.Unknown != nil {
				t.Errorf("%d calls, then %+v", at, seen.Unknown)
			}
			return
		}
		if seen.Unknown == nil || seen.Unknown.Code != state.CodeIO || seen.Clusters != nil {
			t.Errorf("call %d failed: %+v, %+v", at, seen.Unknown, seen.Clusters)
		}
	}
}

// TestRepositoryDiskFull fills a tiny tmpfs under an archive: CodeDiskFull, nothing torn, and it goes on once there is room.
func TestRepositoryDiskFull(t *testing.T) {
	dir := hosttest.Tmpfs(t, 512)
	c := newArchive(t, openDirectory(t, dir, file.Options{}), mib)
	noise := func(seg wal.Segment) []byte {
		b := plainSegment(seg, mib)
		for i := range 200 << 10 { // does not compress
			b[i*4] = byte(i*i*31 + i>>3*int(seg.Number+7))
			b[i*4+1] = byte(i * 7919 >> 5)
		}
		return b
	}
	var full error
	seg := wal.Segment{Timeline: 1, Number: 1}
	for range 2 {
		if err := c.PutSegment(t.Context(), seg, summaryOf(seg, mib), bytes.NewReader(plainSegment(seg, mib))); err != nil {
			t.Fatal(err)
		}
		seg = seg.Next()
	}
	if err := c.WriteIndex(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	for ; full == nil && seg.Number < 100; seg = seg.Next() {
		full = c.PutSegment(t.Context(), seg, summaryOf(seg, mib), bytes.NewReader(noise(seg)))
	}
	if state.CodeOf(full) != state.CodeDiskFull || state.HintOf(full) == "" || !errors.Is(full, syscall.ENOSPC) {
		t.Fatalf("%v", full)
	}
	failed := wal.Segment{Timeline: 1, Number: seg.Number - 1}
	end, err := reopened(t, c).DurableEnd(t.Context(), 1)
	if err != nil || end != failed.Start(mib) {
		t.Errorf("durable end %s, %v: the segment at %s was not acknowledged", end, err, failed.Start(mib))
	}
	junk, err := os.Create(filepath.Join(dir, "c", "junk"))
	if err != nil {
		t.Fatal(err)
	}
	defer junk.Close()
	for err == nil { // not a byte is left for an index
		_, err = junk.Write(make([]byte, 512))
	}
	if _, err := c.DeleteWAL(t.Context(), []wal.Range{{Timeline: 1, From: 0, To: wal.Segment{Number: 6}.End(mib)}}); err != nil {
		t.Fatalf("a full disk cannot be made less full: %v", err)
	}
	if ranges, err := reopened(t, c).WALRanges(t.Context()); err != nil || len(ranges) != 1 || ranges[0].From != 7<<20 {
		t.Errorf("after the deletion: %+v, %v", ranges, err)
	}
	if err := c.PutSegment(t.Context(), failed, summaryOf(failed, mib), bytes.NewReader(noise(failed))); err != nil {
		t.Errorf("once there is room: %v", err)
	}
}

// TestNotMountedUnderway takes the directory away while the repository is open: nobody is told that an object does not exist.
func TestNotMountedUnderway(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "r")
	c := newArchive(t, openDirectory(t, dir, file.Options{}), mib)
	if err := os.Rename(dir, dir+"-away"); err != nil {
		t.Fatal(err)
	}
	_, err := c.OpenSegment(t.Context(), wal.Segment{Timeline: 1, Number: 1})
	if state.CodeOf(err) != state.CodeNotMounted || errors.Is(err, store.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

// TestReadmeNamesLayout keeps README.txt and the keys together.
func TestReadmeNamesLayout(t *testing.T) {
	for _, part := range []string{"v/base/*", "w/history/", ".partial-", "COMMIT.json", "TOMB.json", "zstd -dc", "pg_tblspc"} {
		if !strings.Contains(readme, part) {
			t.Errorf("README.txt does not mention %s", part)
		}
	}
}

// BenchmarkPutSegment archives 16 MiB segments into a directory with each codec.
func BenchmarkPutSegment(b *testing.B) {
	const z = wal.DefaultSegmentSize
	plain := make([]byte, z)
	random := rand.New(rand.NewPCG(1, 2))
	for i := 0; i+64 <= len(plain); i += 64 { // about as compressible as pgbench's WAL: 3:1 with zstd
		binary.LittleEndian.PutUint64(plain[i:], random.Uint64())
		binary.LittleEndian.PutUint64(plain[i+16:], uint64(i))
		binary.LittleEndian.PutUint64(plain[i+40:], random.Uint64N(1<<40))
	}
	for _, a := range []seal.Algorithm{seal.Zstd, seal.Gzip, seal.LZ4} {
		b.Run(string(a), func(b *testing.B) {
			c := newArchive(b, openDirectory(b, b.TempDir(), file.Options{}), z)
			r, err := c.repo.WithCompression(seal.Codec{Algorithm: a})
			if err != nil {
				b.Fatal(err)
			}
			c = r.Cluster(archiveName, archiveID)
			b.SetBytes(int64(z))
			n := uint64(0)
			for b.Loop() {
				n++
				seg := wal.Segment{Timeline: 1, Number: n}
				if err := c.PutSegment(b.Context(), seg, summaryOf(seg, z), bytes.NewReader(plain)); err != nil {
					b.Fatal(err)
				}
			}
			ranges, err := c.WALRanges(b.Context())
			if err != nil || len(ranges) != 1 {
				b.Fatalf("%+v, %v", ranges, err)
			}
			b.ReportMetric(float64(n)*float64(z)/float64(ranges[0].Bytes), "ratio")
		})
	}
}

// slowLook is a store in which another process creates the repository and uses it after the first look at REPOSITORY.json.
type slowLook struct {
	store.Store
	meanwhile func()
}

func (s *slowLook) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	r, err := s.Store.Get(ctx, key, off, n)
	if key == repositoryKey && s.meanwhile != nil {
		s.meanwhile()
		s.meanwhile = nil
	}
	return r, err
}

// TestCreatedMeanwhile opens a repository that was none at the first look and is used at the second: two applies that begin at once.
func TestCreatedMeanwhile(t *testing.T) {
	m := storetest.NewMemory(nil)
	st := &slowLook{Store: m, meanwhile: func() { newArchive(t, m, mib) }}
	if _, err := OpenWith(t.Context(), st, suiteKeys()); err != nil {
		t.Errorf("%v", err)
	}
}
