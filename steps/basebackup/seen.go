package basebackup

import (
	"github.com/zeebo/xxh3"

	"github.com/pgkeep/pgkeep/state/repository"
)

// seen holds what came of the backup by the hash of its path: some 45 bytes a member, whatever its name. A cluster may have
// millions, so it is laid out flat, in parts that grow one at a time.
type seen struct{ parts [256]seenPart }

type seenPart struct {
	slots []came
	used  int
}

// came is one member.
type came struct {
	path   xxh3.Uint128
	size   int64
	crc    uint32
	kind   repository.FileType // 0: the slot is free
	listed bool
}

// find gives a member to be looked at or changed until the next add; nil: it did not come.
func (s *seen) find(path xxh3.Uint128) *came {
	part := &s.parts[path.Hi>>56]
	if len(part.slots) == 0 {
		return nil
	}
	if c := part.slot(path); c.kind != 0 {
		return c
	}
	return nil
}

// add notes a member that is not there yet.
func (s *seen) add(c came) {
	part := &s.parts[c.path.Hi>>56]
	if part.used*4 >= len(part.slots)*3 {
		part.grow()
	}
	*part.slot(c.path) = c
	part.used++
}

// slot gives the slot of a path, or the free one where it belongs. There is always a free one.
func (p *seenPart) slot(path xxh3.Uint128) *came {
	for at := path.Lo % uint64(len(p.slots)); ; at = (at + 1) % uint64(len(p.slots)) {
		if c := &p.slots[at]; c.kind == 0 || c.path == path {
			return c
		}
	}
}

func (p *seenPart) grow() {
	old := p.slots
	p.slots = make([]came, len(old)+len(old)/4+16)
	for _, c := range old {
		if c.kind != 0 {
			*p.slot(c.path) = c
		}
	}
}
