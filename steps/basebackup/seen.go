package basebackup

import (
	"encoding/binary"
	"fmt"
	"os"
	"syscall"

	"github.com/zeebo/xxh3"

	"github.com/pgkeep/pgkeep/state/repository"
)

// seen holds what came of the backup by the hash of its path: some 40 bytes a member, whatever its name. A cluster may have
// millions. They lie flat, in parts that grow one at a time, and outside of Go's heap, which would grow by as much again before
// it is collected.
type seen struct{ parts [256]seenPart }

type seenPart struct {
	memory []byte // slots, and less than one at its end
	used   int
}

// came is one member.
type came struct {
	path   xxh3.Uint128
	size   int64
	crc    uint32
	kind   repository.FileType // 0: the slot is free
	listed bool
}

// A slot is path, size, crc, kind and listed.
const (
	slotSize = 30
	sizeAt   = 16
	crcAt    = 24
	kindAt   = 28
	listedAt = 29
)

// find gives a member; false: it did not come.
func (s *seen) find(path xxh3.Uint128) (came, bool) {
	part := &s.parts[path.Hi>>56]
	if len(part.memory) == 0 {
		return came{}, false
	}
	b := part.slot(path)
	return came{
		path: path, size: int64(binary.LittleEndian.Uint64(b[sizeAt:])), crc: binary.LittleEndian.Uint32(b[crcAt:]),
		kind: repository.FileType(b[kindAt]), listed: b[listedAt] != 0,
	}, b[kindAt] != 0
}

// put notes a member, or what has changed of it. The error is the system's, which has no memory.
func (s *seen) put(c came) error {
	part := &s.parts[c.path.Hi>>56]
	if n := len(part.memory) / slotSize; part.used >= n-n/8-1 { // one of eight stays free
		if err := part.grow(); err != nil {
			return err
		}
	}
	b := part.slot(c.path)
	if b[kindAt] == 0 {
		part.used++
	}
	binary.LittleEndian.PutUint64(b, c.path.Hi)
	binary.LittleEndian.PutUint64(b[8:], c.path.Lo)
	binary.LittleEndian.PutUint64(b[sizeAt:], uint64(c.size))
	binary.LittleEndian.PutUint32(b[crcAt:], c.crc)
	b[kindAt], b[listedAt] = byte(c.kind), 0
	if c.listed {
		b[listedAt] = 1
	}
	return nil
}

// close gives the memory back. Nothing has come then.
func (s *seen) close() {
	for i := range s.parts {
		s.parts[i].free()
	}
}

// slot gives the slot of a path, or the free one where it belongs. There is always a free one.
func (p *seenPart) slot(path xxh3.Uint128) []byte {
	n := uint64(len(p.memory) / slotSize)
	for at := path.Lo % n; ; at = (at + 1) % n {
		b := p.memory[at*slotSize : (at+1)*slotSize]
		if b[kindAt] == 0 || binary.LittleEndian.Uint64(b[8:]) == path.Lo && binary.LittleEndian.Uint64(b) == path.Hi {
			return b
		}
	}
}

// grow makes room for a quarter more.
func (p *seenPart) grow() error {
	page := os.Getpagesize()
	size := (len(p.memory)*5/4 + page) / page * page
	memory, err := syscall.Mmap(-1, 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		return fmt.Errorf("make room for the names of files: %w", err)
	}
	more := seenPart{memory: memory, used: p.used}
	for b := p.memory; len(b) >= slotSize; b = b[slotSize:] {
		if b[kindAt] != 0 {
			copy(more.slot(xxh3.Uint128{Hi: binary.LittleEndian.Uint64(b), Lo: binary.LittleEndian.Uint64(b[8:])}), b[:slotSize])
		}
	}
	p.free()
	*p = more
	return nil
}

func (p *seenPart) free() {
	if p.memory != nil {
		_ = syscall.Munmap(p.memory) // it fails only for what Mmap did not give
	}
	*p = seenPart{}
}
