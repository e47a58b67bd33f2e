package repository

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/seal"
	"github.com/pgkeep/pgkeep/state/repository/store/file"
)

const goldenRebuiltDir = "testdata/golden/format1-summaries"

// goldenRebuilt gives the files of a full backup and of two that are laid over it: one file gets pages and becomes longer, with a hole
// of zeros; one stays as it is; one is cut.
func goldenRebuilt() [][]member {
	first := append(goldenMembers(), bigMembers(3, 10)...)
	chain := [][]member{first}
	for link := range 2 {
		next := slices.Clone(chain[link])
		big := next[len(next)-3:]
		pages := make([]byte, (14+link)*pageSize)
		copy(pages, big[0].data)
		blocks := []uint32{2, uint32(12 + link)}
		for _, b := range blocks {
			copy(pages[int(b)*pageSize:], bytes.Repeat([]byte{byte(link), byte(b), 9}, pageSize/3))
		}
		big[0].data, big[0].Rebuild = pages, &Rebuild{Blocks: blocks, Least: int64(14 + link)}
		big[1].Rebuild = &Rebuild{Least: 10}
		big[2].data = big[2].data[:(9-link)*pageSize]
		big[2].Rebuild = &Rebuild{Least: int64(9 - link)}
		for i := range big {
			big[i].Size = int64(len(big[i].data))
		}
		chain = append(chain, next)
	}
	return chain
}

// TestGoldenRebuilt opens a repository that was written once and for all: a full backup, which is being deleted, and two of which the
// server told what changed.
func TestGoldenRebuilt(t *testing.T) {
	dir := must(filepath.Abs(goldenRebuiltDir))(t)
	if *update {
		check(t, os.RemoveAll(dir))
		writeGoldenRebuilt(t, dir)
		check(t, os.RemoveAll(filepath.Join(dir, ".pgkeep-tmp")))
	}
	c := must(Open(t.Context(), openDirectory(t, dir, file.Options{})))(t).Cluster("orders.eu", "7335180256203400928")
	backups := must(c.Backups(t.Context()))(t)
	compareGolden(t, goldenRebuiltDir+".json", append(must(json.MarshalIndent(backups, "", "  "))(t), '\n'))
	chain := goldenRebuilt()
	for i, b := range backups {
		if b.State == state.BackupDeleted {
			continue
		}
		check(t, c.VerifyBackup(t.Context(), b.ID, true, func(f Finding) { t.Errorf("%+v", f) }))
		holdsRebuilt(t, must(c.OpenBackup(t.Context(), b.ID))(t), chain[i+len(chain)-len(backups)])
	}
	last := backups[len(backups)-1]
	if facts := must(c.InspectParent(t.Context(), last.ID))(t); !facts.Sparse {
		t.Errorf("%+v", facts)
	}
	must(c.OpenParent(t.Context(), last.ID))(t)
}

func writeGoldenRebuilt(t *testing.T, dir string) {
	t.Helper()
	r := must(Create(t.Context(), openDirectory(t, dir, file.Options{}), CreateOptions{Now: testNow}))(t)
	c := r.Cluster("orders.eu", "7335180256203400928")
	check(t, c.Ensure(t.Context(), ClusterFacts{Major: 17, SegmentSize: 16 << 20, PageSize: 8192, PageChecksums: true}))
	chain := goldenRebuilt()
	takeBackup(t, testIntent(1), seal.Codec{}, chain[0], 8000, c)
	parent := testIntent(1).ID
	for i, members := range chain[1:] {
		in := childIntent(i+2, parent)
		takeInPart(t, in, seal.Codec{Algorithm: []seal.Algorithm{seal.Zstd, seal.LZ4}[i]}, members, 8000, c)
		parent = in.ID
	}
	check(t, c.Tomb(t.Context(), testIntent(1).ID, testNow))
}
