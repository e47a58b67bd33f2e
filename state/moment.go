package state

import (
	"time"

	"github.com/pgkeep/pgkeep/state/wal"
)

// MomentKind says what a transaction did that somebody may want to undo.
type MomentKind string

// The kinds of moments.
const (
	MomentDrop         MomentKind = "drop"          // tables, or indexes alone
	MomentTruncate     MomentKind = "truncate"      // also a rewrite of a table that was empty
	MomentReplace      MomentKind = "replace"       // VACUUM FULL, ALTER TABLE, REINDEX …, or a DROP and a CREATE in one
	MomentDelete       MomentKind = "delete"        // many rows
	MomentDropDatabase MomentKind = "drop-database" // its files go before its transaction commits
	MomentTransaction  MomentKind = "transaction"   // any commit
	MomentRestorePoint MomentKind = "restore-point"
)

// Moment is something in archived WAL that one may want to recover to just before, or, a restore point, right to.
type Moment struct {
	Kind     MomentKind   `json:"kind"`
	Timeline wal.Timeline `json:"timeline"` // of the history that was searched
	XID      uint32       `json:"xid,omitempty"`
	Time     time.Time    `json:"time,omitzero"` // of the commit, or the restore point
	LSN      wal.LSN      `json:"lsn"`           // end of the record that makes it so
	// Stop is where recovery must stop to contain nothing of it: before the first record that starts here. A restore point
	// has none: recovery stops right after it.
	Stop      wal.LSN         `json:"stop,omitempty"`
	Name      string          `json:"name,omitempty"` // of a restore point, or of a database
	Relations []NamedRelation `json:"relations,omitempty"`
	Rows      int             `json:"rows,omitempty"`   // that were deleted, those of dropped tables not counted
	Before    *Commit         `json:"before,omitempty"` // the last commit that a recovery up to Stop contains; nil: none was seen
}

// NamedRelation is a relation of which the name may be known.
type NamedRelation struct {
	wal.Relation
	Name   string `json:"name,omitempty"` // database.schema.relation; empty: not known
	Kind   string `json:"kind,omitempty"` // table, index, toast, sequence, materialized view, …
	Unsure bool   `json:"unsure,omitzero"`
	Rows   int    `json:"rows,omitempty"` // that were deleted
}
