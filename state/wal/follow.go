package wal

import "encoding/binary"

// Bounds of what is remembered of transactions that have not ended. Beyond them the summaries say that they do not know.
const (
	mostOpen      = 100_000   // transactions and subtransactions
	mostEntries   = 1_000_000 // relations and rows, of all of them
	mostRelations = 256       // that one of them made, or deleted from
	mostRows      = 64        // of shared catalogs that one of them deleted
	mostMarks     = 10_000
)

// FollowOptions say which deeds are told.
type FollowOptions struct {
	// Visit is told each deed when the event of its commit was told, in the order of the WAL; nil: they are only put into the
	// Summary. Its error ends the call of Segment.
	Visit func(Deed) error
	// MinRows is how many deleted rows of one relation make a DeedDelete; 0: UsualManyRows.
	MinRows int
	// EveryCommit: a DeedCommit is told for each commit, before what else it did. It is in no Summary.
	EveryCommit bool
}

// Follow lets the Scanner follow transactions, so that each Summary tells what they destroyed. Memory is bounded.
func (s *Scanner) Follow(o FollowOptions) {
	if o.MinRows == 0 {
		o.MinRows = UsualManyRows
	}
	s.follow = &follower{o: o}
	s.follow.reset()
}

// follower follows the transactions of one line of history.
type follower struct {
	o      FollowOptions
	open   map[uint32]*transaction // by xid of a transaction or subtransaction, those that did something worth keeping
	free   []*transaction
	fresh  map[Relation]bool // files that open transactions made; true: something was written to them
	marks  map[rowID]mark
	gids   map[uint32]string // of prepared transactions, by xid
	newest Ended             // the newest commit; without an LSN: none was seen

	whole   uint32 // transactions from this xid on were seen from their beginning
	known   bool   // whole is known
	entries int    // of all in open
	lost    bool   // something was lost sight of
	since   uint32 // transactions from this xid on began after that; 0: not known
}

// transaction is what was seen of one so far, or of a subtransaction.
type transaction struct {
	first    place      // the first record of it that is worth keeping
	made     []Relation // files, in order
	deleted  []Touched
	rows     []rowID // of shared catalogs that it deleted
	database uint32  // that it dropped
	dropped  LSN     // where; zero: none
	prepared bool
}

// reset forgets all: what follows is not the continuation of what was read.
func (f *follower) reset() {
	*f = follower{
		o: f.o, free: f.free, open: map[uint32]*transaction{}, fresh: map[Relation]bool{}, marks: map[rowID]mark{}, gids: map[uint32]string{},
	}
}

// keeps tells how much of a record must be kept that runs off its page: the headers of blocks, and what is decoded.
func (f *follower) keeps(resource uint8) int {
	const headersOfBlocks = 2 << 10
	if resource == resourceHeap {
		return headersOfBlocks + 2*PageSize // an image and a row
	}
	return headersOfBlocks
}

// record takes one record. One that cannot be read is no damage, for its checksum was good: something was lost sight of.
func (f *follower) record(r record, major int, sum *Summary) {
	if len(r.body) > 0 && r.body[0] <= maxBlockID {
		f.blocks(r, major, sum)
	}
	switch r.resource {
	case resourceSmgr, resourceDatabase:
		f.change(r, major)
	case resourceHeap:
		switch r.info & heapMask {
		case heapDelete:
			f.change(r, major)
		case heapInPlace:
			f.overwritten(r, major)
		}
	case resourceStandby:
		f.running(r, major, sum)
	}
}

// lose notes that something was lost sight of.
func (f *follower) lose() { f.lost, f.since = true, 0 }

// blocks counts images, and notes that something was written to a file that an open transaction made. Every record comes
// here, so that this walks over the headers by itself: as headers does, which explains them.
func (f *follower) blocks(r record, major int, sum *Summary) {
	body, payload := r.body, 0
	beyond := int(r.length) - len(body)
	var b Block
	var relation []byte // that the latest header names
	for i := 0; len(body)-i+beyond > payload; {
		if i+4 > len(body) {
			f.lose()
			return
		}
		switch id := body[i]; {
		case id == idOrigin:
			i += 3
			continue
		case id == idTopXID:
			i += 5
			continue
		case id > maxBlockID:
			return
		}
		flags := body[i+1]
		payload += int(binary.LittleEndian.Uint16(body[i+2:]))
		i += 4
		if flags&forkHasImage != 0 {
			c := cursor{left: body[i:]}
			payload += int(c.image(&b, major))
			sum.Images.add(b.Image)
			i = len(body) - len(c.left)
		}
		if flags&forkSameRel == 0 {
			relation = body[min(i, len(body)):]
			i += 12
		}
		if len(f.fresh) > 0 && flags&forkMask == 0 {
			f.wrote(relation)
		}
		i += 4
	}
}

// wrote notes that something was written to the main fork of the relation that a block header names.
func (f *follower) wrote(header []byte) {
	c := cursor{left: header}
	r := c.relation()
	if written, fresh := f.fresh[r]; fresh && !written {
		f.fresh[r] = true
	}
}

// running reads XLOG_RUNNING_XACTS: no xid is given out while it is written, so that transactions from its nextXid on begin
// behind it, and those before its oldestRunningXid have ended.
func (f *follower) running(r record, major int, sum *Summary) {
	const runningXacts, nextXIDAt, oldestAt = 0x10, 12, 16
	if r.info&infoMask != runningXacts {
		return
	}
	data, err := mainData(r.body, r.length, major)
	if err != nil || len(data) < oldestAt+4 {
		return
	}
	next, oldest := binary.LittleEndian.Uint32(data[nextXIDAt:]), binary.LittleEndian.Uint32(data[oldestAt:])
	sum.NextXID = next
	if !f.known {
		f.whole, f.known = next, true
	}
	switch {
	case f.lost && f.since == 0:
		f.since = next
	case f.lost && !before(oldest, f.since):
		f.lost, f.since = false, 0 // whatever was lost sight of has ended
	}
}

// before compares xids, which go round.
func before(a, b uint32) bool { return int32(a-b) < 0 }

// wholly tells whether everything that a transaction wrote was seen.
func (f *follower) wholly(xid uint32) bool { return f.known && !before(xid, f.whole) }

// change takes a change that is worth keeping.
func (f *follower) change(r record, major int) {
	c, err := r.change(major)
	if err != nil {
		f.lose()
		return
	}
	if c.XID == 0 || c.Kind != FileMade && c.Kind != RowsDeleted && c.Kind != DatabaseDropped {
		return
	}
	tx := f.open[c.XID]
	if tx == nil {
		if len(f.open) >= mostOpen {
			f.lose()
			return
		}
		tx = f.begin()
		tx.first = place{at: c.Start, before: f.newest}
		f.open[c.XID] = tx
	}
	switch c.Kind {
	case DatabaseDropped:
		tx.database, tx.dropped = c.Relation.Database, c.Start
	case FileMade:
		if f.room(len(tx.made), mostRelations) {
			tx.made = append(tx.made, c.Relation)
			f.fresh[c.Relation] = false
		}
	case RowsDeleted:
		f.deleted(tx, c)
		if c.Relation.Tablespace != sharedTablespace {
			return
		}
		if id, _, _, ok := r.sharedRow(major); ok && len(tx.rows) < mostRows {
			tx.rows = append(tx.rows, id)
			f.entries++
		}
	case FileCut, RowsInserted, RowMarked:
	}
}

// begin gives an empty transaction.
func (f *follower) begin() *transaction {
	if n := len(f.free); n > 0 {
		tx := f.free[n-1]
		f.free = f.free[:n-1]
		return tx
	}
	return &transaction{}
}

// room tells whether one more may be remembered of a transaction that has n.
func (f *follower) room(n, most int) bool {
	if n >= most || f.entries >= mostEntries {
		if f.entries >= mostEntries {
			f.lose()
		}
		return false
	}
	f.entries++
	return true
}

// deleted counts rows. A relation mostly follows itself.
func (f *follower) deleted(tx *transaction, c Change) {
	for i := len(tx.deleted) - 1; i >= 0; i-- {
		if tx.deleted[i].Relation == c.Relation {
			tx.deleted[i].Rows += c.Rows
			return
		}
	}
	if f.room(len(tx.deleted), mostRelations) {
		tx.deleted = append(tx.deleted, Touched{Relation: c.Relation, Rows: c.Rows})
	}
}

// join takes what a subtransaction did.
func (f *follower) join(tx, sub *transaction) {
	if tx.first.at == 0 || sub.first.at != 0 && sub.first.at < tx.first.at {
		tx.first = sub.first
	}
	tx.made = append(tx.made, sub.made...)
	tx.rows = append(tx.rows, sub.rows...)
	for _, d := range sub.deleted {
		f.entries-- // deleted counts it again
		f.deleted(tx, Change{Relation: d.Relation, Rows: d.Rows})
	}
	if sub.dropped != 0 {
		tx.database, tx.dropped = sub.database, sub.dropped
	}
}

// forget lets a transaction go.
func (f *follower) forget(tx *transaction) {
	for _, r := range tx.made {
		delete(f.fresh, r)
	}
	f.entries -= len(tx.made) + len(tx.deleted) + len(tx.rows)
	f.release(tx)
}

// release keeps the memory of a transaction for another.
func (f *follower) release(tx *transaction) {
	const most, large = 64, 4 * mostRelations
	if len(f.free) < most && cap(tx.made) < large {
		*tx = transaction{made: tx.made[:0], deleted: tx.deleted[:0], rows: tx.rows[:0]}
		f.free = append(f.free, tx)
	}
}
