package postgres

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// The oids of catalogs that name the others, from pg_class.h, pg_namespace.h and pg_database.h; the same in 13 to 18.
const (
	ClassOID     = 1259 // pg_class: mapped, in each database
	NamespaceOID = 2615 // pg_namespace: its file is in pg_class
	DatabaseOID  = 1262 // pg_database: mapped, shared
)

// FilenodeMap reads a pg_filenode.map: the files of the catalogs that pg_class cannot tell because it is one of them, by
// oid. From relmapper.c: RelMapFile, 13 to 18.
func FilenodeMap(content []byte) (map[uint32]uint32, error) {
	const magic, head, most = 0x592717, 8, 64
	if len(content) < head || binary.LittleEndian.Uint32(content) != magic {
		return nil, fmt.Errorf("read pg_filenode.map: it does not begin with %#x", magic)
	}
	n := binary.LittleEndian.Uint32(content[4:])
	if n > most || int(n)*8+head > len(content) {
		return nil, fmt.Errorf("read pg_filenode.map: it says that it holds %d mappings", n)
	}
	out := map[uint32]uint32{}
	for i := range int(n) {
		at := content[head+8*i:]
		out[binary.LittleEndian.Uint32(at)] = binary.LittleEndian.Uint32(at[4:])
	}
	return out, nil
}

// CatalogRow is a row of pg_class, pg_namespace or pg_database as it lies in a page.
type CatalogRow struct {
	OID       uint32
	Name      string
	Namespace uint32 // pg_class alone
	Method    uint32 // pg_class alone: relam
	Filenode  uint32 // pg_class alone; 0: it has no file, or a mapped one
	Kind      byte   // pg_class alone: relkind
	Old       bool   // a newer version of it may stand elsewhere, or it was deleted
}

// Catalog says whose rows a page holds, and of which major version.
type Catalog struct {
	OID   uint32 // ClassOID, NamespaceOID or DatabaseOID
	Major int
}

// Offsets in the rows, which have no null before them; from pg_class.h. relallfrozen came before relkind in 18.
const (
	nameAt      = 4 // NameData, 64 bytes
	nameLength  = 64
	namespaceAt = 68
	methodAt    = 84
	filenodeAt  = 88
	kindAt      = 115
	kindAt18    = 119
)

// Rows tells the rows of a page of heap that belongs to the catalog. A page that is none, as a page copied in the middle of
// a write may be, tells as many rows as can be read: names are for people, nothing is decided by them.
func (k Catalog) Rows(page []byte, visit func(CatalogRow)) {
	const header, item = 24, 4 // PageHeaderData, ItemIdData
	if len(page) < header {
		return
	}
	lower := min(int(binary.LittleEndian.Uint16(page[12:])), len(page)) // pd_lower
	for at := header; at+item <= lower; at += item {
		id := binary.LittleEndian.Uint32(page[at:])
		off, normal, n := int(id&0x7FFF), id>>15&3 == 1, int(id>>17)
		if !normal || off+n > len(page) {
			continue
		}
		if row, ok := k.row(page[off : off+n]); ok {
			visit(row)
		}
	}
}

// row reads one tuple, from htup_details.h: HeapTupleHeaderData.
func (k Catalog) row(tuple []byte) (CatalogRow, bool) {
	const xmaxInvalid, xmaxLockOnly, head = 0x0800, 0x0080, 23
	if len(tuple) < head || int(tuple[22]) < head || int(tuple[22]) > len(tuple) {
		return CatalogRow{}, false
	}
	mask := binary.LittleEndian.Uint16(tuple[20:])
	data := tuple[tuple[22]:]
	need, kind := nameAt+nameLength, kindAt
	if k.Major >= 18 {
		kind = kindAt18
	}
	if k.OID == ClassOID {
		need = kind + 1
	}
	if len(data) < need {
		return CatalogRow{}, false
	}
	name, _, _ := bytes.Cut(data[nameAt:nameAt+nameLength], []byte{0})
	row := CatalogRow{
		OID: binary.LittleEndian.Uint32(data), Name: string(name),
		Old: mask&(xmaxInvalid|xmaxLockOnly) == 0 && binary.LittleEndian.Uint32(tuple[4:]) != 0,
	}
	if k.OID == ClassOID {
		row.Namespace = binary.LittleEndian.Uint32(data[namespaceAt:])
		row.Method = binary.LittleEndian.Uint32(data[methodAt:])
		row.Filenode = binary.LittleEndian.Uint32(data[filenodeAt:])
		row.Kind = data[kind]
	}
	return row, true
}

// KindOfRelation gives the word for a relkind; empty for one that PostgreSQL does not have.
func KindOfRelation(relkind byte) string {
	switch relkind {
	case 'r':
		return "table"
	case 'i':
		return "index"
	case 'S':
		return "sequence"
	case 't':
		return "toast"
	case 'm':
		return "materialized view"
	case 'p':
		return "partitioned table"
	}
	return ""
}
