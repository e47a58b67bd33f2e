package wal

import (
	"encoding/binary"
	"time"
)

// A DROP DATABASE removes the files with a record of its own, long before its transaction commits. Since August 2023
// (13.12, 14.9, 15.4, 16) it marks the row of pg_database as invalid in place before that, in no transaction: a copy that
// contains the mark refuses connections to the database. Recovery must stop before the mark, where there is one. VACUUM
// overwrites the same rows in place, also on servers that never mark: what was written tells the two apart.

// sharedTablespace is pg_global. Of the catalogs in it only pg_database has rows that are overwritten in place.
const sharedTablespace = 1664

// rowID is a row's place.
type rowID struct {
	Relation
	block  uint32
	offset uint16
}

// place is a position in the WAL and the last commit before it.
type place struct {
	at     LSN // zero: none
	before Ended
}

// last gives the last commit before the place; nil: none was seen.
func (p place) last() *Ended {
	if p.before.LSN == 0 {
		return nil
	}
	return &p.before
}

// invalidDatabase is DATCONNLIMIT_INVALID_DB.
const invalidDatabase = -2

// connectionLimitAt gives the offset of datconnlimit in a row of pg_database.
func connectionLimitAt(major int) int {
	if major < 15 {
		return 208
	}
	return 80
}

// sharedRow gives the row of a shared catalog that a heap record deletes or overwrites.
func (r record) sharedRow(major int) (id rowID, b Block, p parts, ok bool) {
	first := true
	p, err := headers(r.body, r.length, major, func(block *Block) error {
		if first {
			b, first = *block, false
		}
		return nil
	})
	c := cursor{left: p.main}
	if r.info&heapMask == heapDelete {
		c.skip(4, 1) // xmax
	}
	id = rowID{Relation: b.relation(), block: b.Number, offset: c.u16()}
	return id, b, p, err == nil && !first && !c.short && b.Tablespace == sharedTablespace
}

func (b *Block) relation() Relation {
	return Relation{Tablespace: b.Tablespace, Database: b.Database, Number: b.Relation}
}

// marking tells whether what was written over a row of pg_database marks it as invalid. known is false when the row is in
// an image that is compressed with lz4 or zstd.
func marking(id rowID, b Block, p parts, major int) (marks, known bool) {
	row := p.blocks
	if b.Image.Compression != 0 {
		if len(row) < b.Image.Bytes {
			return false, false
		}
		page, ok := b.Image.page(row[:b.Image.Bytes])
		if !ok {
			return false, false
		}
		if row = rowOf(page, id.offset); row == nil {
			return false, true
		}
	}
	at := connectionLimitAt(major)
	if len(row) < at+4 {
		return false, true
	}
	return int32(binary.LittleEndian.Uint32(row[at:])) == invalidDatabase, true
}

// page rebuilds the page of an image.
func (i Image) page(stored []byte) ([]byte, bool) {
	kept := PageSize - int(i.holeLength)
	switch {
	case kept < 0 || int(i.holeAt) > kept:
		return nil, false
	case i.Compression == PGLZ:
		var ok bool
		if stored, ok = pglz(stored, kept); !ok {
			return nil, false
		}
	case i.Compression != Uncompressed || len(stored) != kept:
		return nil, false
	}
	page := make([]byte, PageSize)
	copy(page, stored[:i.holeAt])
	copy(page[int(i.holeAt)+int(i.holeLength):], stored[i.holeAt:])
	return page, true
}

// rowOf gives a row's columns, from its place on a page of a heap; nil: there is none. From bufpage.h and htup_details.h.
func rowOf(page []byte, offset uint16) []byte {
	const pageHeader, item, hoffAt = 24, 4, 22
	at := pageHeader + item*(int(offset)-1)
	if offset == 0 || at+item > len(page) {
		return nil
	}
	pointer := binary.LittleEndian.Uint32(page[at:])
	start, length := int(pointer&0x7FFF), int(pointer>>17)
	if start+length > len(page) || length <= hoffAt {
		return nil
	}
	row := page[start : start+length]
	if hoff := int(row[hoffAt]); hoff <= len(row) {
		return row[hoff:]
	}
	return nil
}

// Bounds of a mark of which the record does not tell whether it is one: a DROP DATABASE deletes the row right after.
const (
	nearMark     = 64 << 20
	nearMarkTime = 10 * time.Minute
)

// overwritten notes what an overwritten row of pg_database says about a drop that may follow.
func (f *follower) overwritten(r record, major int) {
	id, b, p, ok := r.sharedRow(major)
	if !ok {
		return
	}
	marks, known := marking(id, b, p, major)
	old, marked := f.marks[id]
	switch {
	case known && !marks:
		delete(f.marks, id)
	case marked && old.sure: // a drop that was cut short, and is tried again
	case marked || len(f.marks) < mostMarks:
		f.marks[id] = mark{place: place{at: r.start, before: f.newest}, sure: known}
	}
}

// mark is where a row of pg_database was overwritten; sure: to be invalid.
type mark struct {
	place
	sure bool
}

// beginOfDrop gives where a DROP DATABASE began.
func (f *follower) beginOfDrop(tx *transaction, committed time.Time) place {
	begin := tx.first
	for _, id := range tx.rows {
		m, ok := f.marks[id]
		delete(f.marks, id)
		far := !m.sure && (tx.dropped-m.at > nearMark || m.before.LSN == 0 || committed.Sub(m.before.Time) > nearMarkTime)
		if ok && !far && m.at < begin.at {
			begin = m.place
		}
	}
	return begin
}
