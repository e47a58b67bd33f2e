package repository

import (
	"bytes"
	"context"
	"slices"

	"github.com/zeebo/xxh3"
)

// fileIndex tells in which shard a file stands: flat, 24 bytes a file, and exact, because whoever finds a file there
// compares its name.
type fileIndex struct{ parts [256][]indexedFile }

type indexedFile struct {
	name  xxh3.Uint128
	shard uint32
	at    uint32
}

func nameHash(folder uint32, path string) xxh3.Uint128 {
	h := xxh3.HashString128(path)
	h.Lo ^= uint64(folder) * 0x9E3779B97F4A7C15 // so that tablespaces with the same files spread
	return h
}

func (x *fileIndex) add(folder uint32, path string, shard, at int) {
	h := nameHash(folder, path)
	part := &x.parts[h.Hi>>56]
	*part = append(*part, indexedFile{name: h, shard: uint32(shard), at: uint32(at)})
}

func compareNames(a, b xxh3.Uint128) int {
	switch {
	case a.Hi != b.Hi:
		if a.Hi < b.Hi {
			return -1
		}
		return 1
	case a.Lo < b.Lo:
		return -1
	case a.Lo > b.Lo:
		return 1
	}
	return 0
}

func (x *fileIndex) sort() {
	for i := range x.parts {
		slices.SortFunc(x.parts[i], func(a, b indexedFile) int { return compareNames(a.name, b.name) })
	}
}

func (x *fileIndex) find(folder uint32, path string) (shard, at int, ok bool) {
	h := nameHash(folder, path)
	part := x.parts[h.Hi>>56]
	i, ok := slices.BinarySearchFunc(part, h, func(f indexedFile, h xxh3.Uint128) int { return compareNames(f.name, h) })
	if !ok {
		return 0, 0, false
	}
	return int(part[i].shard), int(part[i].at), true
}

// parentFiles is one shard of the parent's files, those that have data. It keeps no more of them than is needed: a shard may
// have tens of thousands.
type parentFiles struct {
	files  []parentEntry
	frames []frameAt
	live   []int64 // of each frame: how many raw bytes files of this shard read
}

type parentEntry struct {
	path      string
	size      int64
	extents   []Extent
	folder    uint32
	hashShard int
	crc       uint32
	noCRC     bool
}

func (p *Parent) withData(files []File) *parentFiles {
	s := &parentFiles{}
	for i := range files {
		f := &files[i]
		if f.Type != RegularFile || f.Size == 0 {
			continue
		}
		if s.live == nil {
			s.frames, s.live = f.frames, make([]int64, len(f.frames))
		}
		f.Extents = p.readable(f.Extents, f.frames)
		for _, x := range f.Extents {
			s.live[x.frame] += int64(x.Length)
		}
		s.files = append(s.files, parentEntry{
			path: f.Path, size: f.Size, extents: f.Extents, folder: f.Folder, hashShard: f.hashShard, crc: f.CRC32C, noCRC: f.NoCRC,
		})
	}
	return s
}

// open gives one file of a shard of this backup, without its hashes.
func (s *parentFiles) open(f *parentEntry, backup string) *parentFile {
	return &parentFile{size: f.size, extents: f.extents, frames: s.frames, live: s.live, backup: backup, crc: f.crc, noCRC: f.noCRC}
}

func (p *Parent) fileShard(ctx context.Context, n int) (*parentFiles, error) {
	if p.last != nil && n == p.b.rec.decided.FileShards {
		return p.last, nil
	}
	return p.files.get(n, func() (*parentFiles, error) {
		files, err := p.b.fileShard(ctx, n)
		if err != nil {
			return nil, err
		}
		return p.withData(files), nil
	})
}

// parentHashes is one shard of the parent's page hashes.
type parentHashes struct {
	seed   uint64
	runs   []hashRun
	at     []int // where the hashes of each run begin
	hashes []byte
	byName map[xxh3.Uint128]int
}

func (p *Parent) hashShard(ctx context.Context, n int) (*parentHashes, error) {
	return p.hashes.get(n, func() (*parentHashes, error) {
		name := shardName(hashDir, n)
		raw, err := p.b.shard(ctx, name)
		if err != nil {
			return nil, err
		}
		head, hashes, err := decodeHashShard(raw, p.b.rec.id, n)
		if err != nil {
			return nil, corrupt(p.b.key(name), err)
		}
		s := &parentHashes{seed: head.Seed, runs: head.Runs, hashes: hashes, byName: make(map[xxh3.Uint128]int, len(head.Runs))}
		at := 0
		for i, r := range head.Runs {
			s.at = append(s.at, at)
			at += r.Count * hashSize
			s.byName[nameHash(r.Folder, string(r.Path))] = i
		}
		return s, nil
	})
}

// giveTo adds the hashes of f that this shard has; false: it has none that go on where found ends.
func (s *parentHashes) giveTo(found *parentFile, f *parentEntry, seed uint64) bool {
	i, ok := s.byName[nameHash(f.folder, f.path)]
	if !ok || s.seed != seed {
		return false
	}
	r := s.runs[i]
	if r.Folder != f.folder || string(r.Path) != f.path || r.First != found.pages {
		return false
	}
	found.hashes = append(found.hashes, s.hashes[s.at[i]:s.at[i]+r.Count*hashSize])
	found.pages += int64(r.Count)
	return true
}

// parentFile is what the parent has of one file. It is read from its beginning to its end.
type parentFile struct {
	size    int64
	backup  string // the parent, whose own frames do not name it
	extents []Extent
	frames  []frameAt
	live    []int64
	hashes  [][]byte
	pages   int64 // how many have hashes
	crc     uint32
	noCRC   bool

	next   *parentFile // what another cut backup has of it; nil: none has
	extent int         // that was looked at last
	part   int         // of hashes
	before int64       // pages in the parts before
}

// thinShare is the share of a frame that must be read for it to be referred to: what is left of a frame of which less is
// read is stored again, so that volumes become free.
const thinShare = 4

// find tells where the parent, or one of several, has this very page: n bytes at off, with this hash. Pages are asked for in their order.
func (p *parentFile) find(off int64, n int, hash []byte) (at frameAt, in int, ok bool) {
	for ; p != nil && !ok; p = p.next {
		at, in, ok = p.findHere(off, n, hash)
	}
	return at, in, ok
}

func (p *parentFile) findHere(off int64, n int, hash []byte) (at frameAt, in int, ok bool) {
	if len(p.extents) == 0 || off+int64(n) > p.size || n < pageSize && off+int64(n) != p.size || !bytes.Equal(p.hash(off/pageSize), hash) {
		return at, 0, false
	}
	for p.extent < len(p.extents)-1 && p.extents[p.extent].Offset+int64(p.extents[p.extent].Length) <= off {
		p.extent++
	}
	x := p.extents[p.extent]
	if off < x.Offset || off+int64(n) > x.Offset+int64(x.Length) {
		return at, 0, false
	}
	at = p.frames[x.frame]
	if p.live[x.frame] < int64(at.raw)/thinShare {
		return at, 0, false
	}
	if at.backup == "" {
		at.backup = p.backup
	}
	return at, x.in + int(off-x.Offset), true
}

// hash gives the hash of a page; nil: it is not known.
func (p *parentFile) hash(page int64) []byte {
	for p.part < len(p.hashes) {
		k := page - p.before
		if here := int64(len(p.hashes[p.part]) / hashSize); k < here {
			return p.hashes[p.part][k*hashSize : (k+1)*hashSize]
		} else {
			p.before += here
			p.part++
		}
	}
	return nil
}
