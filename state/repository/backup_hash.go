package repository

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/zeebo/xxh3"

	"github.com/pgkeep/pgkeep/state/jsonlist"
)

// A hash shard holds the hashes of pages, by which a later backup finds what changed. Its raw content is
//
//	"PGKH" length of the head(4) head(JSON: hashHead) the hashes(16 bytes each, in the order of the runs)
//
// A hash is the xxh3-128 of a page, seeded with the shard's secret seed: who can write rows must not be able to make two
// pages with one hash. The last page of a file may be short.
const hashMagic = "PGKH"

// hashSize is the length of one page's hash.
const hashSize = 16

type hashHead struct {
	Format int                  `json:"format"`
	Backup string               `json:"backup"`
	Number int                  `json:"number"`
	Seed   uint64               `json:"seed,string"`
	Runs   jsonlist.Of[hashRun] `json:"runs"`
}

// hashRun is a run of consecutive pages of one file.
type hashRun struct {
	Folder uint32 `json:"d,omitempty"`
	Path   []byte `json:"p"` // base64
	First  int64  `json:"f,omitempty"`
	Count  int    `json:"n"`
}

// hashPages appends the hash of every page of data, which begins at a page border of its file.
func hashPages(dst, data []byte, seed uint64) []byte {
	for len(data) > 0 {
		page := data[:min(pageSize, len(data))]
		data = data[len(page):]
		h := xxh3.Hash128Seed(page, seed).Bytes()
		dst = append(dst, h[:]...)
	}
	return dst
}

// hashRunJSON is the most that JSON needs for a run beside its path. hashesOnce is more than an add brings and a head needs beside
// its runs, so that no shard is longer than shardSize.
const (
	hashRunJSON = 64
	hashesOnce  = 16 << 10
)

// hashShardWriter collects runs into shards.
type hashShardWriter struct {
	backup string
	seed   uint64
	number int
	runs   []hashRun
	hashes []byte
	size   int
}

// add takes the hashes of consecutive pages of a file, from page first on.
func (w *hashShardWriter) add(f *File, first int64, hashes []byte, put func(name string, raw []byte) error) error {
	count := len(hashes) / hashSize
	if n := len(w.runs); n > 0 && w.runs[n-1].follows(f, first) {
		w.runs[n-1].Count += count
	} else {
		w.runs = append(w.runs, hashRun{Folder: f.Folder, Path: []byte(f.Path), First: first, Count: count})
		w.size += hashRunJSON + base64.StdEncoding.EncodedLen(len(f.Path))
	}
	w.hashes = append(w.hashes, hashes...)
	if w.size+len(w.hashes) < shardSize-hashesOnce {
		return nil
	}
	return w.flush(put)
}

func (r hashRun) follows(f *File, first int64) bool {
	return r.Folder == f.Folder && r.First+int64(r.Count) == first && string(r.Path) == f.Path
}

// flush puts the last shard.
func (w *hashShardWriter) flush(put func(name string, raw []byte) error) error {
	if len(w.runs) == 0 {
		return nil
	}
	head, err := json.Marshal(hashHead{Format: backupFormat, Backup: w.backup, Number: w.number, Seed: w.seed, Runs: w.runs})
	if err != nil {
		return fmt.Errorf("encode page hashes: %w", err)
	}
	raw := make([]byte, 0, 8+len(head)+len(w.hashes))
	raw = append(raw, hashMagic...)
	raw = binary.LittleEndian.AppendUint32(raw, uint32(len(head)))
	raw = append(append(raw, head...), w.hashes...)
	name := shardName(hashDir, w.number)
	w.number, w.runs, w.hashes, w.size = w.number+1, nil, w.hashes[:0], 0
	return put(name, raw)
}

// decodeHashShard reads and checks the raw content of a hash shard.
func decodeHashShard(b []byte, backup string, number int) (hashHead, []byte, error) {
	var h hashHead
	if len(b) < 8 || string(b[:4]) != hashMagic {
		return h, nil, errors.New("not a shard of page hashes")
	}
	n := binary.LittleEndian.Uint32(b[4:])
	if int64(n) > int64(len(b)-8) {
		return h, nil, errors.New("a shard of page hashes that is cut short")
	}
	if err := json.Unmarshal(b[8:8+n], &h); err != nil {
		return h, nil, fmt.Errorf("decode page hashes: %w", err)
	}
	if h.Backup != backup || h.Number != number || h.Format > backupFormat {
		return h, nil, fmt.Errorf("it is shard %d of backup %.40q, format %d", h.Number, h.Backup, h.Format)
	}
	hashes := b[8+n:]
	total := 0
	for _, r := range h.Runs {
		if r.Count <= 0 || r.First < 0 || r.Count > len(hashes)/hashSize-total {
			return h, nil, errors.New("a run of more pages than there are hashes")
		}
		total += r.Count
	}
	if total*hashSize != len(hashes) {
		return h, nil, fmt.Errorf("%d hashes for %d pages", len(hashes)/hashSize, total)
	}
	return h, hashes, nil
}
