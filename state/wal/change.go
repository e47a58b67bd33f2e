package wal

// Relation names the files of a table, an index or a TOAST table, as RelFileNode (13 to 15) and RelFileLocator (16 and
// later) in the WAL do: three oids, of which Number is the relfilenode. Database is 0 for relations that all share.
type Relation struct {
	Tablespace uint32 `json:"tablespace"`
	Database   uint32 `json:"database"`
	Number     uint32 `json:"relfilenode"`
}

// ChangeKind says what a record did to a relation or a database.
type ChangeKind uint8

// The kinds of changes that are told.
const (
	FileMade        ChangeKind = iota + 1 // a relation's main fork was created
	FileCut                               // a relation was shortened: by vacuum, or TRUNCATE in the transaction that made it
	RowsInserted                          // into a heap; those of COPY come many in a record
	RowsDeleted                           // from a heap
	RowMarked                             // a heap row was overwritten in place, outside of transactions
	DatabaseDropped                       // a database's files, by DROP DATABASE; not when its transaction ends, but here
)

// Change is one record that changes what a database holds.
type Change struct {
	Kind     ChangeKind
	Start    LSN      // of the record
	End      LSN      // first byte after the record
	XID      uint32   // of the transaction or subtransaction; 0: of none
	Relation Relation // of a DatabaseDropped only the Database
	Rows     int      // of RowsInserted and RowsDeleted
}

// Resource managers, from rmgrlist.h, and their xl_info, from storage_xlog.h, dbcommands_xlog.h and heapam_xlog.h.
const (
	resourceSmgr     = 2  // RM_SMGR_ID
	resourceDatabase = 4  // RM_DBASE_ID
	resourceHeap2    = 9  // RM_HEAP2_ID
	resourceHeap     = 10 // RM_HEAP_ID

	smgrCreate   = 0x10
	smgrTruncate = 0x20

	databaseDrop14 = 0x10 // 13 and 14
	databaseDrop   = 0x20 // 15 and later

	heapMask        = 0x70
	heapInsert      = 0x00
	heapDelete      = 0x10
	heapInPlace     = 0x70
	heapMultiInsert = 0x50 // of RM_HEAP2_ID
)

// EveryChange lets visit be told of the changes that records make, in the order of the WAL, and fills Dropped and Subxacts
// of the events of transaction ends. Its error ends the call of Segment.
func (s *Scanner) EveryChange(visit func(Change) error) { s.changes = visit }

// changes tells whether records of this resource manager may be a Change.
func changes(resource uint8) bool {
	switch resource {
	case resourceSmgr, resourceDatabase, resourceHeap, resourceHeap2:
		return true
	}
	return false
}

// change decodes what the record changes; a kind of zero means nothing that is told.
func (r record) change(major int) (Change, error) {
	out := Change{Start: r.start, End: r.end, XID: r.xid}
	var err error
	switch r.resource {
	case resourceSmgr:
		err = out.decodeSmgr(r, major)
	case resourceDatabase:
		err = out.decodeDatabase(r, major)
	case resourceHeap, resourceHeap2:
		err = out.decodeHeap(r, major)
	}
	if err != nil {
		return Change{}, corrupt(r.start, "%s", err)
	}
	return out, nil
}

func (x *Change) decodeSmgr(r record, major int) error {
	data, err := mainData(r.body, r.length, major)
	if err != nil {
		return err
	}
	c := cursor{left: data}
	switch r.info & infoMask {
	case smgrCreate:
		x.Relation = c.relation()
		if fork := c.u32(); fork == 0 {
			x.Kind = FileMade
		}
		return c.err("creation of a file")
	case smgrTruncate:
		c.skip(4, 1) // the length that is left, in blocks
		x.Kind, x.Relation = FileCut, c.relation()
		return c.err("truncation of a file")
	}
	return nil
}

func (x *Change) decodeDatabase(r record, major int) error {
	drop := uint8(databaseDrop)
	if major < 15 {
		drop = databaseDrop14
	}
	if r.info&infoMask != drop {
		return nil
	}
	data, err := mainData(r.body, r.length, major)
	if err != nil {
		return err
	}
	c := cursor{left: data}
	x.Kind, x.Relation.Database = DatabaseDropped, c.u32()
	return c.err("removal of a database")
}

// decodeHeap tells rows that came and went. The first block that the record names says of which relation.
func (x *Change) decodeHeap(r record, major int) error {
	x.Rows = 1
	switch op := r.info & heapMask; {
	case r.resource == resourceHeap2 && op == heapMultiInsert:
		data, err := mainData(r.body, r.length, major)
		if err != nil {
			return err
		}
		c := cursor{left: data}
		c.skip(2, 1) // flags and padding
		x.Kind, x.Rows = RowsInserted, int(c.u16())
		if c.short {
			return c.err("insertion of rows")
		}
	case r.resource == resourceHeap2:
		return nil
	case op == heapInsert:
		x.Kind = RowsInserted
	case op == heapDelete:
		x.Kind = RowsDeleted
	case op == heapInPlace:
		x.Kind = RowMarked
	default:
		return nil
	}
	seen := false
	return r.blocksOf(major, func(_ LSN, b Block) error {
		if !seen {
			x.Relation = Relation{Tablespace: b.Tablespace, Database: b.Database, Number: b.Relation}
			seen = true
		}
		return nil
	})
}

// relation reads a RelFileNode or RelFileLocator.
func (c *cursor) relation() Relation {
	return Relation{Tablespace: c.u32(), Database: c.u32(), Number: c.u32()}
}
