package repository

import (
	"bytes"
	"testing"

	"github.com/pgkeep/pgkeep/state/repository/seal"
)

// TestSparseHashesKeepTheirPlace: hashes of a parent that begin behind its first page are not taken for those of its first pages.
func TestSparseHashesKeepTheirPlace(t *testing.T) {
	c := testCluster(newMemory())
	page := func(b byte) []byte { return bytes.Repeat([]byte{b}, pageSize) }
	file := func(r *Rebuild, pages ...[]byte) []member {
		data := bytes.Join(pages, nil)
		return []member{{Member: Member{Path: "base/1/16384", Type: RegularFile, Mode: 0o600, Size: int64(len(data)), Rebuild: r}, data: data}}
	}
	takeBackup(t, testIntent(1), seal.Codec{}, file(nil, page('a'), page('b'), page('c')), 9000, c)
	told := file(&Rebuild{Blocks: []uint32{1}, Least: 3}, page('a'), page('x'), page('c'))
	takeInPart(t, childIntent(2, testIntent(1).ID), seal.Codec{}, told, 9000, c)
	moved := file(nil, page('x'), page('x'), page('c'))
	in := childIntent(3, childIntent(2, testIntent(1).ID).ID)
	takeIncremental(t, in, seal.Codec{}, moved, c)
	holdsRebuilt(t, must(c.OpenBackup(t.Context(), in.ID))(t), moved)
}
