package wal

import (
	"cmp"
	"slices"
	"time"
)

// DeedKind says what a transaction did that somebody may want to undo.
type DeedKind string

// The kinds of deeds.
const (
	DeedDrop         DeedKind = "drop"          // tables, or indexes alone
	DeedTruncate     DeedKind = "truncate"      // also a rewrite of a table that was empty
	DeedReplace      DeedKind = "replace"       // VACUUM FULL, ALTER TABLE, REINDEX …, or a DROP and a CREATE in one
	DeedDelete       DeedKind = "delete"        // many rows of a table
	DeedDropDatabase DeedKind = "drop-database" // its files go before its transaction commits
	DeedCommit       DeedKind = "transaction"   // any commit; told only when asked for
)

// Touched is a relation that a transaction did something to.
type Touched struct {
	Relation
	Rows int `json:"rows,omitempty"` // that were deleted
}

// Ended is a transaction that committed.
type Ended struct {
	XID  uint32    `json:"xid"`
	LSN  LSN       `json:"lsn"` // end of its record
	Time time.Time `json:"time"`
}

// Deed is one committed transaction that destroyed something.
type Deed struct {
	Kind DeedKind  `json:"kind"`
	XID  uint32    `json:"xid"`
	Time time.Time `json:"time,omitzero"` // of the commit
	LSN  LSN       `json:"lsn"`           // end of the commit's record
	// Stop is where recovery must stop to contain nothing of it: before the first record that starts here. It is the commit's
	// own start but for a DROP DATABASE, whose files go long before.
	Stop LSN `json:"stop"`
	// Relations that were dropped, or from which rows were deleted, those with the most rows first. Of a DROP DATABASE the
	// database alone.
	Relations []Touched `json:"relations,omitempty"`
	Others    int       `json:"others,omitempty"` // relations that are not listed
	Rows      int       `json:"rows,omitempty"`   // that were deleted, those of dropped relations not counted
	Before    *Ended    `json:"before,omitempty"` // the last commit that a recovery up to Stop contains; nil: none was seen
	// Unsure: the WAL before what was read may hold more of the transaction, or the commit before it.
	Unsure bool `json:"unsure,omitempty"`
}

// Bounds of what a Summary keeps. What is beyond them is read from the segment when somebody asks.
const (
	mostDeeds    = 32
	mostTouched  = 8
	mostPrepared = 16
)

// UsualManyRows is how many deleted rows of one relation make a deed that a Summary keeps.
const UsualManyRows = 100

// PreparedEvent is a PREPARE TRANSACTION, or what became of it.
type PreparedEvent struct {
	Kind string    `json:"kind"` // prepare, commit or abort
	XID  uint32    `json:"xid"`
	GID  string    `json:"gid,omitempty"` // of a commit or abort: where wal_level is logical, or its PREPARE was seen
	LSN  LSN       `json:"lsn"`           // end of the record
	Time time.Time `json:"time,omitzero"`
}

// Images counts full-page images by how they are stored.
type Images struct {
	Plain int   `json:"plain,omitempty"`
	PGLZ  int   `json:"pglz,omitempty"`
	LZ4   int   `json:"lz4,omitempty"`
	Zstd  int   `json:"zstd,omitempty"`
	Bytes int64 `json:"bytes,omitempty"` // as stored
}

// add takes the image of a block.
func (n *Images) add(i Image) {
	switch i.Compression {
	case Uncompressed:
		n.Plain++
	case PGLZ:
		n.PGLZ++
	case LZ4:
		n.LZ4++
	case Zstd:
		n.Zstd++
	}
	n.Bytes += int64(i.Bytes)
}

// addDeed keeps a deed, or says that there are more.
func (s *Summary) addDeed(d Deed) {
	if len(s.Deeds) >= mostDeeds {
		s.MoreDeeds = true
		return
	}
	if more := len(d.Relations) - mostTouched; more > 0 {
		d.Relations, d.Others = slices.Clone(d.Relations[:mostTouched]), d.Others+more
	}
	s.Deeds = append(s.Deeds, d)
}

// addPrepared keeps the first events of prepared transactions, and counts all.
func (s *Summary) addPrepared(e PreparedEvent) {
	s.PreparedCount++
	if len(s.Prepared) < mostPrepared {
		s.Prepared = append(s.Prepared, e)
	}
}

// touched lists relations, those with the most deleted rows first.
func touched(dropped []Relation, deleted []Touched) []Touched {
	out := make([]Touched, 0, len(dropped)+len(deleted))
	for _, r := range dropped {
		out = append(out, Touched{Relation: r})
	}
	out = append(out, deleted...)
	slices.SortFunc(out, func(a, b Touched) int {
		return cmp.Or(cmp.Compare(b.Rows, a.Rows), cmp.Compare(a.Database, b.Database), cmp.Compare(a.Number, b.Number))
	})
	return out
}
