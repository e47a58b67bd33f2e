package basebackup

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/state/repository/seal"
	"github.com/pgkeep/pgkeep/state/repository/store/file"
)

// filesVar makes this test program back up so many made-up files and read them back: "1000000|dir|zstd|gzip".
const filesVar = "PGKEEP_TEST_FILES"

// memoryBound is the most that a backup or a restore may hold.
const memoryBound = 192 << 20 // with the GOMEMLIMIT that cmd/pgkeep sets

// TestMemoryOfManyFiles: a cluster of a million relations is backed up, verified and read back within the bound, with each compression and into two
// repositories that compress differently. By default there are 20,000 files; PGKEEP_MEMORY=full takes a million.
func TestMemoryOfManyFiles(t *testing.T) {
	files := 20_000
	if os.Getenv("PGKEEP_MEMORY") == "full" {
		files = 1_000_000
	}
	for _, codecs := range []string{"zstd", "gzip", "lz4", "zstd|gzip"} {
		t.Run(codecs, func(t *testing.T) {
			cmd := exec.Command(os.Args[0], "-test.run=^$")
			cmd.Env = append(os.Environ(), "GOMEMLIMIT=144MiB", fmt.Sprintf("%s=%d|%s|%s", filesVar, files, t.TempDir(), codecs))
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			t.Logf("%d files: %s", files, strings.Join(strings.Fields(string(out)), " "))
			for line := range strings.Lines(string(out)) {
				what, peak, _ := strings.Cut(strings.TrimSpace(line), "=")
				if n, err := strconv.ParseInt(peak, 10, 64); err != nil || n > memoryBound>>20 {
					t.Errorf("%s took %q MiB, %v", what, peak, err)
				}
			}
		})
	}
}

// manyFiles is the whole of the child's work.
func manyFiles(args []string) error {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	ctx := context.Background()
	k := &taking{
		ctx: ctx, o: Options{Now: func() time.Time { return testClock }, VerifyPages: true}, id: repository.NewBackupID(testClock, repository.KindFull, 7),
		version: 150018, outcomes: make([]Outcome, len(args)-2), members: newMembers(), began: testClock,
	}
	for i, algorithm := range args[2:] {
		st, err := file.Open(filepath.Join(args[1], fmt.Sprint(i)), file.Options{})
		if err != nil {
			return err
		}
		o := repository.CreateOptions{Now: testClock, Compression: seal.Codec{Algorithm: seal.Algorithm(algorithm)}}
		repo, err := repository.Create(ctx, st, o)
		if err != nil {
			return err
		}
		c := repo.Cluster("orders", "7335180256203400928")
		if err := c.Ensure(ctx, repository.ClusterFacts{Major: 15, SegmentSize: 16 << 20, PageSize: 8192, PageChecksums: true}); err != nil {
			return err
		}
		k.dst = append(k.dst, c)
	}
	start := postgres.BackupStart{LSN: 0x3000028, Timeline: 1, Tablespaces: []postgres.BackupTablespace{{}}}
	if err := k.Begin(start); err != nil {
		return err
	}
	err = k.Archive(postgres.BackupTablespace{}, &tarOfFiles{files: n})
	if err == nil {
		err = k.Manifest(&manifestOfFiles{files: n, sum: sha256.New()})
	}
	if err == nil {
		k.label = []byte("START WAL LOCATION")
		_, err = k.commit(ctx, ctx, postgres.BackupResult{StopLSN: 0x4000000, Timeline: 1}, judgement{})
	}
	k.endLeases()
	if err == nil {
		err = tellPeak("backup")
	}
	if err != nil {
		return err
	}
	c, id := k.dst[0], k.id
	k.members.known.close()
	*k = taking{}
	debug.FreeOSMemory()
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil { // the peak begins anew: others read in other processes
		return err
	}
	return readFiles(ctx, c, id, n)
}

// readFiles verifies and reads back what was written.
func readFiles(ctx context.Context, c *repository.Cluster, id string, n int) error {
	wrong := 0
	if err := c.VerifyBackup(ctx, id, true, func(repository.Finding) { wrong++ }); err != nil || wrong > 0 {
		return fmt.Errorf("%d objects are wrong: %w", wrong, err)
	}
	if err := tellPeak("verify"); err != nil {
		return err
	}
	b, err := c.OpenBackup(ctx, id)
	if err != nil {
		return err
	}
	files := 0
	for f, err := range b.Files(ctx) {
		if err != nil {
			return err
		}
		if f.Type == repository.RegularFile {
			files++
		}
	}
	if files != n {
		return fmt.Errorf("%d of %d files are there", files, n)
	}
	if err := b.Pieces(ctx, repository.PieceOptions{}, func(repository.Piece) error { return nil }); err != nil {
		return err
	}
	return tellPeak("read")
}

// tellPeak prints the most that this process has held so far, in MiB.
func tellPeak(what string) error {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(status)) {
		if kb, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, err := strconv.ParseInt(strings.Fields(kb)[0], 10, 64)
			fmt.Printf("%s=%d\n", what, n>>10)
			return err
		}
	}
	return errors.New("the system does not tell the peak memory")
}

// pageOfFile is the content of the n-th file: a page in each sixteenth, nothing in the others.
func pageOfFile(n int) string {
	if n%16 != 0 {
		return ""
	}
	return strings.Repeat(fmt.Sprintf("%016d", n), 512)
}

func pathOfFile(n int) string { return fmt.Sprintf("base/5/%d", 100_000+n) }

// sentOfFile is the n-th file as it is sent: whole, or told to be as it was.
func sentOfFile(n int, told bool) (path, content string) {
	path, content = pathOfFile(n), pageOfFile(n)
	if told && content != "" {
		path, content = fmt.Sprintf("base/5/INCREMENTAL.%d", 100_000+n), "\x0d\x1f\xae\xd3\x00\x00\x00\x00\x01\x00\x00\x00"
	}
	return path, content
}

// tarOfFiles is a tar stream of so many files, made as it is read.
type tarOfFiles struct {
	files, next int
	told        bool // by a server that knows that nothing changed
	rest        []byte
}

// Read gives the next bytes.
func (r *tarOfFiles) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		switch {
		case r.next == 0:
			r.rest = stream(dir("base"), dir("base/5"))
		case r.next <= r.files:
			path, data := sentOfFile(r.next, r.told)
			r.rest = stream(entry{name: path, data: data})
		case r.next == r.files+1:
			r.rest = closed(nil)
		default:
			return 0, io.EOF
		}
		r.next++
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// manifestOfFiles is their manifest, made as it is read.
type manifestOfFiles struct {
	files, next int
	told        bool
	rest        string
	sum         hash.Hash
}

// Read gives the next bytes.
func (r *manifestOfFiles) Read(p []byte) (int, error) {
	for r.rest == "" {
		switch {
		case r.next == 0:
			r.rest = "{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": ["
		case r.next <= r.files:
			path, data := sentOfFile(r.next, r.told)
			sep := ",\n"
			if r.next == 1 {
				sep = "\n"
			}
			r.rest = fmt.Sprintf("%s{ \"Path\": %q, \"Size\": %d, \"Last-Modified\": \"2026-02-10 21:16:17 GMT\", \"Checksum-Algorithm\": \"CRC32C\", \"Checksum\": %q }",
				sep, path, len(data), postgres.ManifestCRC32C(updateCRC(0, []byte(data))))
		case r.next == r.files+1:
			r.rest = "\n],\n\"WAL-Ranges\": [\n{ \"Timeline\": 1, \"Start-LSN\": \"0/3000028\", \"End-LSN\": \"0/3000100\" }\n],\n"
		case r.next == r.files+2:
			r.rest = fmt.Sprintf("\"Manifest-Checksum\": \"%x\"}\n", r.sum.Sum(nil))
		default:
			return 0, io.EOF
		}
		if r.next < r.files+2 {
			r.sum.Write([]byte(r.rest))
		}
		r.next++
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}
