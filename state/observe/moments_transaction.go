package observe

import (
	"cmp"
	"slices"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// Bounds of what is remembered of transactions that have not ended: their number is the sum of all subtransactions.
const (
	mostOpen      = 100_000
	mostRelations = 256 // of one of them
)

// mark is a place in the WAL and what was known there.
type mark struct {
	at     wal.LSN // start of a record; zero: none
	before *state.Commit
}

// transaction is what was seen of one so far, or of a subtransaction.
type transaction struct {
	first    mark                 // the first record of it that was seen
	marked   mark                 // of pg_database, newest at that time; see dropOfDatabase
	made     []wal.Relation       // files, in order
	deleted  map[wal.Relation]int // rows
	database uint32               // that it dropped
	dropped  wal.LSN              // where
}

// block notes that something was written to a file that an open transaction made.
func (m *momentSearch) block(_ wal.LSN, b wal.Block) error {
	r := wal.Relation{Tablespace: b.Tablespace, Database: b.Database, Number: b.Relation}
	if _, fresh := m.fresh[r]; fresh && b.Fork == 0 {
		m.fresh[r] = true
	}
	return nil
}

// sharedTablespace is pg_global, where pg_database lies.
const sharedTablespace = 1664

// change takes one change.
func (m *momentSearch) change(c wal.Change) error {
	switch {
	case c.Kind == wal.RowMarked && c.Relation.Tablespace == sharedTablespace:
		m.marked = mark{at: c.Start, before: m.before}
		return nil
	case c.XID == 0, c.Kind != wal.FileMade && c.Kind != wal.RowsDeleted && c.Kind != wal.DatabaseDropped:
		return nil
	}
	tx := m.open[c.XID]
	if tx == nil {
		if len(m.open) >= mostOpen {
			return nil
		}
		tx = &transaction{first: mark{at: c.Start, before: m.before}, marked: m.marked, deleted: map[wal.Relation]int{}}
		m.open[c.XID] = tx
	}
	switch _, known := tx.deleted[c.Relation]; {
	case c.Kind == wal.DatabaseDropped:
		tx.database, tx.dropped = c.Relation.Database, c.Start
	case c.Kind == wal.FileMade && len(tx.made) < mostRelations:
		tx.made = append(tx.made, c.Relation)
		m.fresh[c.Relation] = false
	case c.Kind == wal.RowsDeleted && (known || len(tx.deleted) < mostRelations):
		tx.deleted[c.Relation] += c.Rows
	}
	return nil
}

// join takes what a subtransaction did.
func (tx *transaction) join(sub *transaction) {
	if tx.first.at == 0 || sub.first.at < tx.first.at {
		tx.first, tx.marked = sub.first, sub.marked
	}
	tx.made = append(tx.made, sub.made...)
	for r, n := range sub.deleted {
		tx.deleted[r] += n
	}
	if sub.dropped != 0 {
		tx.database, tx.dropped = sub.database, sub.dropped
	}
}

// event takes one record that matters to recovery.
func (m *momentSearch) event(e *wal.Event) error {
	switch e.Kind {
	case wal.Commit:
		tx := m.ended(e)
		err := m.committed(e, tx)
		m.forget(tx)
		m.before = commitOf(e)
		return err
	case wal.Abort:
		m.forget(m.ended(e))
	case wal.RestorePointRecord:
		if m.wants(state.MomentRestorePoint) && m.within(e.Time) && (m.o.Name == "" || m.o.Name == e.Name) {
			return m.tell(state.Moment{
				Kind: state.MomentRestorePoint, Timeline: m.history.Timeline, Time: e.Time, LSN: e.End, Name: e.Name, Before: m.before,
			})
		}
	case wal.OnlineCheckpoint, wal.Switch, wal.ParameterChange, wal.Other:
	case wal.EndOfRecovery, wal.ShutdownCheckpoint:
		clear(m.fresh)
		clear(m.open) // no transaction outlives that but prepared ones, whose subtransactions are rare
	}
	return nil
}

// ended takes a transaction and its subtransactions off the list.
func (m *momentSearch) ended(e *wal.Event) *transaction {
	tx := m.open[e.XID]
	delete(m.open, e.XID)
	if tx == nil {
		tx = &transaction{deleted: map[wal.Relation]int{}}
	}
	for _, x := range e.Subxacts {
		if sub := m.open[x]; sub != nil {
			tx.join(sub)
			delete(m.open, x)
		}
	}
	return tx
}

func (m *momentSearch) forget(tx *transaction) {
	for _, r := range tx.made {
		delete(m.fresh, r)
	}
}

// committed tells the moments of a commit.
func (m *momentSearch) committed(e *wal.Event, tx *transaction) error {
	if !m.within(e.Time) {
		return nil
	}
	base := state.Moment{Timeline: m.history.Timeline, XID: e.XID, Time: e.Time, LSN: e.End, Stop: e.Start, Before: m.before}
	if m.wants(state.MomentTransaction) && (m.o.XID == 0 || m.o.XID == e.XID) {
		x := base
		x.Kind, x.Relations = state.MomentTransaction, relationsOf(e.Dropped, tx.deleted)
		for _, n := range tx.deleted {
			x.Rows += n
		}
		return m.tell(x)
	}
	if tx.dropped != 0 && m.wants(state.MomentDropDatabase) {
		return m.tell(tx.dropOfDatabase(base))
	}
	if len(e.Dropped) > 0 {
		if kind := m.kindOfDrop(e.Dropped, tx); m.wants(kind) {
			base.Kind, base.Relations = kind, relationsOf(e.Dropped, nil)
			return m.tell(base)
		}
	}
	return m.deletedMany(base, tx)
}

// deletedMany tells a transaction that deleted many rows of one user's table.
func (m *momentSearch) deletedMany(x state.Moment, tx *transaction) error {
	if !m.wants(state.MomentDelete) {
		return nil
	}
	many := map[wal.Relation]int{}
	for r, n := range tx.deleted {
		if n >= m.o.MinRows && r.Number >= firstNormal {
			many[r] = n
			x.Rows += n
		}
	}
	if len(many) == 0 {
		return nil
	}
	x.Kind, x.Relations = state.MomentDelete, relationsOf(nil, many)
	return m.tell(x)
}

// firstNormal is FirstNormalObjectId of transam.h: below it are the catalogs that initdb made.
const firstNormal = 16384

// kindOfDrop tells a DROP, a TRUNCATE and a replacement apart. The latter two make a new file for each that they drop. The
// first of them is the table's own: after a TRUNCATE it is empty, and no row of a catalog was deleted.
func (m *momentSearch) kindOfDrop(dropped []wal.Relation, tx *transaction) state.MomentKind {
	var kept []wal.Relation
	for _, r := range tx.made {
		if !slices.Contains(dropped, r) {
			kept = append(kept, r)
		}
	}
	if len(kept) < len(dropped) {
		return state.MomentDrop
	}
	for r := range tx.deleted {
		if r.Number < firstNormal {
			return state.MomentReplace
		}
	}
	if m.fresh[kept[0]] {
		return state.MomentReplace
	}
	return state.MomentTruncate
}

// dropOfDatabase stops before anything of it: its files go with a record of their own, long before the commit. Since
// August 2023 (13.12, 14.9, 15.4, 16) the row of pg_database is marked invalid in place before that, in no transaction: a
// copy that contains the mark refuses connections to the database.
func (tx *transaction) dropOfDatabase(x state.Moment) state.Moment {
	x.Kind = state.MomentDropDatabase
	x.Relations = []state.NamedRelation{{Relation: wal.Relation{Database: tx.database}, Kind: "database"}}
	begin := tx.first
	if tx.marked.at != 0 && !tx.marked.older(x.Time) {
		begin = tx.marked
	}
	x.Stop, x.Before = begin.at, begin.before
	return x
}

// older tells whether the mark was made long before a time: then it is of a vacuum, which marks pg_database too.
func (k mark) older(t time.Time) bool {
	return k.before != nil && t.Sub(k.before.Time) > 10*time.Minute
}

// relationsOf lists relations, those with the most deleted rows first.
func relationsOf(dropped []wal.Relation, deleted map[wal.Relation]int) []state.NamedRelation {
	var out []state.NamedRelation
	for _, r := range dropped {
		out = append(out, state.NamedRelation{Relation: r})
	}
	for r, n := range deleted {
		out = append(out, state.NamedRelation{Relation: r, Rows: n})
	}
	slices.SortFunc(out, func(a, b state.NamedRelation) int {
		return cmp.Or(cmp.Compare(b.Rows, a.Rows), cmp.Compare(a.Database, b.Database), cmp.Compare(a.Number, b.Number))
	})
	return out
}
