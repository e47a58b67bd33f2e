package basebackup

import (
	"context"
	"crypto/sha256"
	"fmt"
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

// filesTwiceVar makes this test program back so many made-up files up twice, the second time on the first: "1000000|dir|zstd|gzip".
const filesTwiceVar = "PGKEEP_TEST_FILES_TWICE"

// TestMemoryOfManyFilesTwice: what an incremental backup knows of its parent fits into the bound. By default there are 20,000 files;
// PGKEEP_MEMORY=full takes a million.
func TestMemoryOfManyFilesTwice(t *testing.T) {
	files := 20_000
	if os.Getenv("PGKEEP_MEMORY") == "full" {
		files = 1_000_000
	}
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), "GOMEMLIMIT=144MiB", fmt.Sprintf("%s=%d|%s|%s", filesTwiceVar, files, t.TempDir(), "zstd"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%d files: %s", files, out)
	for line := range strings.Lines(string(out)) {
		what, peak, _ := strings.Cut(strings.TrimSpace(line), "=")
		if n, err := strconv.ParseInt(peak, 10, 64); err != nil || n > memoryBound>>20 {
			t.Errorf("%s took %q MiB, %v", what, peak, err)
		}
	}
}

// manyFilesTwice is the whole of the child's work.
func manyFilesTwice(args []string) error {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	ctx := context.Background()
	st, err := file.Open(filepath.Join(args[1], "repo"), file.Options{})
	if err != nil {
		return err
	}
	repo, err := repository.Create(ctx, st, repository.CreateOptions{Now: testClock, Compression: seal.Codec{Algorithm: seal.Algorithm(args[2])}})
	if err != nil {
		return err
	}
	c := repo.Cluster("orders", "7335180256203400928")
	if err := c.Ensure(ctx, repository.ClusterFacts{Major: 15, SegmentSize: 16 << 20, PageSize: 8192, PageChecksums: true}); err != nil {
		return err
	}
	parent, err := takeFiles(ctx, []*repository.Cluster{c}, n, "", false)
	for _, told := range []bool{false, true} {
		if err == nil {
			err = newPeak()
		}
		if err != nil {
			return err
		}
		if parent, err = takeFiles(ctx, []*repository.Cluster{c}, n, parent, told); err == nil {
			err = tellPeak(map[bool]string{false: "compared", true: "told"}[told])
		}
		if err != nil {
			return err
		}
		b, err := c.OpenBackup(ctx, parent)
		if err == nil && b.Info().StoredBytes > b.Info().DataBytes/2 {
			err = fmt.Errorf("it stored %d bytes of %d", b.Info().StoredBytes, b.Info().DataBytes)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// newPeak lets the peak begin anew: others read in other processes.
func newPeak() error {
	debug.FreeOSMemory()
	return os.WriteFile("/proc/self/clear_refs", []byte("5"), 0)
}

// takeFiles backs the made-up files up, on a parent when there is one, whose manifest the server is given when it tells what changed.
func takeFiles(ctx context.Context, dst []*repository.Cluster, n int, parent string, told bool) (string, error) {
	k := &taking{
		ctx: ctx, o: Options{Now: func() time.Time { return testClock }, VerifyPages: true, Parent: parent}, dst: dst,
		version: 150018, outcomes: make([]Outcome, len(dst)), members: newMembers(), began: testClock,
	}
	if parent != "" {
		p := &parentage{facts: make([]repository.ParentFacts, len(dst)), open: map[string]*repository.Parent{}}
		for i, c := range dst {
			f, err := c.InspectParent(ctx, parent)
			if err == nil {
				p.facts[i] = f
				p.open[f.Copy], err = c.OpenParent(ctx, parent)
			}
			if err != nil {
				return "", err
			}
		}
		k.parent = p
	}
	if k.summaries = told; told {
		k.o.Truncated = func(context.Context, postgres.Since) (map[postgres.Relation]uint32, error) { return nil, nil }
		m := k.parentManifest(ctx)
		if _, err := io.Copy(io.Discard, m); err != nil {
			return "", err
		}
		_ = m.Close()
	}
	defer k.members.known.close()
	k.id = repository.NewBackupID(testClock, k.kind(), uint32(7+len(parent)+map[bool]int{true: 1}[told]))
	start := postgres.BackupStart{LSN: 0x3000028, Timeline: 1, Tablespaces: []postgres.BackupTablespace{{}}}
	if err := k.Begin(start); err != nil {
		return "", err
	}
	err := k.Archive(postgres.BackupTablespace{}, &tarOfFiles{files: n, told: told})
	if err == nil {
		err = k.Manifest(&manifestOfFiles{files: n, told: told, sum: sha256.New()})
	}
	if err == nil {
		k.label = []byte("START WAL LOCATION")
		_, err = k.commit(ctx, ctx, postgres.BackupResult{StopLSN: 0x4000000, Timeline: 1}, judgement{})
	}
	k.endLeases()
	return k.id, err
}
