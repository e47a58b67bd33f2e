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

const goldenIncrementalDir = "testdata/golden/format1-incremental"

// goldenChain gives the files of each link: some pages are new, one file is longer, one shorter, one new, one gone.
func goldenChain() [][]member {
	members := append(goldenMembers(), bigMembers(2, 10)...)
	chain := [][]member{members}
	for link := range 3 {
		next := slices.Clone(members)
		for i, m := range next {
			if m.Type != RegularFile || len(m.data) < 4*pageSize {
				continue
			}
			m.data = bytes.Clone(m.data)
			m.data[(1+link)*pageSize+7] ^= 0x55
			if i == len(next)-1 {
				m.data = append(m.data, bytes.Repeat([]byte{byte(link), 1, 2}, 5000)...)
			}
			m.Size = int64(len(m.data))
			next[i] = m
		}
		fresh := member{Member: Member{Path: "base/5/2000" + string(rune('0'+link)), Type: RegularFile, Mode: 0o600}, data: bytes.Repeat([]byte{byte(link)}, 9000)}
		fresh.Size = int64(len(fresh.data))
		members = append(next[:len(next)-1:len(next)-1], fresh, next[len(next)-1])
		if link == 2 {
			members = slices.DeleteFunc(members, func(m member) bool { return m.Path == "base/5/16384" })
		}
		chain = append(chain, members)
	}
	return chain
}

// TestGoldenIncremental opens a repository that was written once and for all: a full backup and three incremental ones, each with another
// compression, of which the first was deleted and swept.
func TestGoldenIncremental(t *testing.T) {
	dir := must(filepath.Abs(goldenIncrementalDir))(t)
	if *update {
		check(t, os.RemoveAll(dir))
		writeGoldenIncremental(t, dir)
		check(t, os.RemoveAll(filepath.Join(dir, ".pgkeep-tmp")))
	}
	r := must(Open(t.Context(), openDirectory(t, dir, file.Options{})))(t)
	c := r.Cluster("orders.eu", "7335180256203400928")
	backups := must(c.Backups(t.Context()))(t)
	compareGolden(t, goldenIncrementalDir+".json", append(must(json.MarshalIndent(backups, "", "  "))(t), '\n'))
	chain := goldenChain()
	for i, b := range backups {
		if b.State == state.BackupDeleted {
			continue
		}
		check(t, c.VerifyBackup(t.Context(), b.ID, true, func(f Finding) { t.Errorf("%+v", f) }))
		holdsMembers(t, must(c.OpenBackup(t.Context(), b.ID))(t), chain[i+len(chain)-len(backups)])
	}
	last := backups[len(backups)-1]
	must(c.InspectParent(t.Context(), last.ID))(t)
	must(c.OpenParent(t.Context(), last.ID))(t)
}

func writeGoldenIncremental(t *testing.T, dir string) {
	t.Helper()
	r := must(Create(t.Context(), openDirectory(t, dir, file.Options{}), CreateOptions{Now: testNow}))(t)
	c := r.Cluster("orders.eu", "7335180256203400928")
	check(t, c.Ensure(t.Context(), ClusterFacts{Major: 15, SegmentSize: 16 << 20, PageSize: 8192, PageChecksums: true}))
	parent := testIntent(1).ID
	for i, members := range goldenChain() {
		codec := seal.Codec{Algorithm: []seal.Algorithm{seal.Zstd, seal.Gzip, seal.LZ4, seal.Zstd}[i]}
		if i == 0 {
			takeBackup(t, testIntent(1), codec, members, 8000, c)
			continue
		}
		in := childIntent(i+1, parent)
		takeIncremental(t, in, codec, members, c)
		parent = in.ID
	}
	check(t, c.Tomb(t.Context(), testIntent(1).ID, testNow))
}
