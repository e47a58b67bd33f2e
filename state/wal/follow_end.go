package wal

// event takes one record that matters to recovery, and tells what its transaction did.
func (f *follower) event(e *Event, sum *Summary) error {
	var err error
	switch e.Kind {
	case Commit:
		f.preparedEnd(e, "commit", sum)
		tx := f.ended(e)
		err = f.committed(e, tx, sum)
		f.forget(tx)
		f.newest = Ended{XID: e.XID, LSN: e.End, Time: e.Time}
	case Abort:
		f.preparedEnd(e, "abort", sum)
		f.forget(f.ended(e))
	case Prepare:
		f.prepare(e, sum)
	case EndOfRecovery, ShutdownCheckpoint:
		for xid, tx := range f.open { // no transaction outlives that but prepared ones
			if !tx.prepared {
				delete(f.open, xid)
				f.forget(tx)
			}
		}
	case RestorePointRecord, OnlineCheckpoint, Switch, ParameterChange, Other:
	}
	return err
}

// mostGIDs bounds the names of prepared transactions that are remembered: max_prepared_transactions is mostly far below.
const mostGIDs = 10_000

// prepare joins what a prepared transaction did: it is not lost when the server stops.
func (f *follower) prepare(e *Event, sum *Summary) {
	sum.addPrepared(PreparedEvent{Kind: "prepare", XID: e.XID, GID: e.GID, LSN: e.End, Time: e.Time})
	if len(f.gids) < mostGIDs {
		f.gids[e.XID] = e.GID
	}
	tx := f.ended(e)
	if tx.first.at == 0 {
		f.release(tx)
		return
	}
	tx.prepared = true
	f.open[e.XID] = tx
}

func (f *follower) preparedEnd(e *Event, kind string, sum *Summary) {
	if !e.Prepared {
		return
	}
	gid := e.GID
	if gid == "" {
		gid = f.gids[e.XID]
	}
	delete(f.gids, e.XID)
	sum.addPrepared(PreparedEvent{Kind: kind, XID: e.XID, GID: gid, LSN: e.End, Time: e.Time})
}

// ended takes a transaction and its subtransactions off the list.
func (f *follower) ended(e *Event) *transaction {
	tx := f.open[e.XID]
	delete(f.open, e.XID)
	if tx == nil {
		tx = f.begin()
	}
	if len(f.open) == 0 {
		return tx
	}
	for _, x := range e.Subxacts {
		if sub := f.open[x]; sub != nil {
			f.join(tx, sub)
			f.release(sub)
			delete(f.open, x)
		}
	}
	return tx
}

// committed tells the deeds of a commit.
func (f *follower) committed(e *Event, tx *transaction, sum *Summary) error {
	base := Deed{XID: e.XID, Time: e.Time, LSN: e.End, Stop: e.Start}
	begin := place{at: e.Start, before: f.newest}
	tell := func(d Deed) error {
		d.Before = begin.last()
		d.Unsure = d.Before == nil || !f.wholly(d.XID)
		if d.Kind != DeedCommit {
			sum.addDeed(d)
		}
		if f.o.Visit == nil {
			return nil
		}
		return f.o.Visit(d)
	}
	if f.o.EveryCommit && f.o.Visit != nil {
		d := base
		d.Kind, d.Relations, d.Rows = DeedCommit, touched(e.Dropped, tx.deleted), rowsOf(tx.deleted)
		if err := tell(d); err != nil {
			return err
		}
	}
	if tx.dropped != 0 {
		d := base
		begin = f.beginOfDrop(tx, e.Time)
		d.Kind, d.Stop = DeedDropDatabase, begin.at
		d.Relations = []Touched{{Relation: Relation{Database: tx.database}}}
		return tell(d)
	}
	if len(e.Dropped) > 0 {
		d := base
		d.Kind, d.Relations = f.kindOfDrop(e.Dropped, tx), touched(e.Dropped, nil)
		if err := tell(d); err != nil {
			return err
		}
	}
	if many := manyOf(tx.deleted, f.o.MinRows); len(many) > 0 {
		d := base
		d.Kind, d.Relations, d.Rows = DeedDelete, touched(nil, many), rowsOf(many)
		return tell(d)
	}
	return nil
}

func rowsOf(deleted []Touched) (n int) {
	for _, d := range deleted {
		n += d.Rows
	}
	return n
}

// firstNormal is FirstNormalObjectId of transam.h: below it are the catalogs that initdb made.
const firstNormal = 16384

// manyOf gives the users' tables of which many rows were deleted.
func manyOf(deleted []Touched, least int) []Touched {
	var out []Touched
	for _, d := range deleted {
		if d.Rows >= least && d.Number >= firstNormal {
			out = append(out, d)
		}
	}
	return out
}

// kindOfDrop tells a DROP, a TRUNCATE and a replacement apart. The latter two make a new file for each that they drop. The
// first of them is the table's own: after a TRUNCATE it is empty, and no row of a catalog was deleted.
func (f *follower) kindOfDrop(dropped []Relation, tx *transaction) DeedKind {
	gone := make(map[Relation]bool, len(dropped))
	for _, r := range dropped {
		gone[r] = true
	}
	kept, first := 0, Relation{}
	for _, r := range tx.made {
		if gone[r] {
			continue
		}
		if kept++; kept == 1 {
			first = r
		}
	}
	if kept < len(dropped) {
		return DeedDrop
	}
	for _, d := range tx.deleted {
		if d.Number < firstNormal {
			return DeedReplace
		}
	}
	if f.fresh[first] {
		return DeedReplace
	}
	return DeedTruncate
}
