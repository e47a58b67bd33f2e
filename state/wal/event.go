package wal

import (
	"fmt"
	"time"
)

// EventKind says what a record means to recovery.
type EventKind uint8

// The kinds of records that are told. All others are only checked.
const (
	Commit             EventKind = iota + 1 // COMMIT or COMMIT PREPARED
	Abort                                   // ABORT or ABORT PREPARED
	RestorePointRecord                      // pg_create_restore_point()
	EndOfRecovery                           // the first record of a timeline after a promotion
	ShutdownCheckpoint                      // the server stopped cleanly, or a recovery ended with a checkpoint
	OnlineCheckpoint                        // an ordinary checkpoint
	Switch                                  // the rest of the segment is padding
	ParameterChange                         // the server started with other values of settings that a copy must not be below
	Prepare                                 // PREPARE TRANSACTION
	Other                                   // any other record; told only after EveryRecord
)

// String gives a lower-case name for messages.
func (k EventKind) String() string {
	names := [...]string{"", "commit", "abort", "restore point", "end of recovery", "shutdown checkpoint", "checkpoint", "switch", "parameter change", "prepare", "record"}
	if int(k) < len(names) && k > 0 {
		return names[k]
	}
	return fmt.Sprintf("event %d", uint8(k))
}

// Event is one record that matters to recovery.
type Event struct {
	Kind  EventKind
	Start LSN // of the record
	End   LSN // first byte after the record, where PostgreSQL says that it has replayed it
	// XID of a Commit, Abort or Prepare; for COMMIT PREPARED and ROLLBACK PREPARED the prepared transaction's, as
	// recovery_target_xid compares it.
	XID uint32
	// Prepared: a Commit or Abort of a prepared transaction. GID names the transaction of a Prepare, and of what ends it
	// where wal_level is logical.
	Prepared bool
	GID      string
	// Time that the record carries: of the transaction's end, the restore point, the end of recovery, or the checkpoint
	// (whole seconds). Zero: none, or one that no calendar has.
	Time time.Time
	Name string // of a RestorePointRecord
	// Timeline and PrevTimeline of EndOfRecovery and the checkpoints: equal where no timeline began.
	Timeline, PrevTimeline Timeline
	Settings               Settings // of a ParameterChange
	// Dropped are the relations whose files go with the end of a transaction, and Subxacts its subtransactions; both are
	// told only after EveryChange or Follow. A Commit drops what DROP, TRUNCATE or a rewrite made needless, an Abort what was
	// made. A Prepare has the Subxacts alone.
	Dropped  []Relation
	Subxacts []uint32
}

// Settings are those of which recovery demands at least the origin's values, as the WAL and pg_control carry them.
type Settings struct {
	MaxConnections int `json:"max_connections"`
	MaxWorkers     int `json:"max_worker_processes"`
	MaxSenders     int `json:"max_wal_senders"`
	MaxPrepared    int `json:"max_prepared_transactions"`
	MaxLocks       int `json:"max_locks_per_transaction"`
}

// Max gives for each setting the larger value.
func (a Settings) Max(b Settings) Settings {
	return Settings{
		MaxConnections: max(a.MaxConnections, b.MaxConnections),
		MaxWorkers:     max(a.MaxWorkers, b.MaxWorkers),
		MaxSenders:     max(a.MaxSenders, b.MaxSenders),
		MaxPrepared:    max(a.MaxPrepared, b.MaxPrepared),
		MaxLocks:       max(a.MaxLocks, b.MaxLocks),
	}
}

// RestorePoint is a name that pg_create_restore_point() put into the WAL.
type RestorePoint struct {
	Name string    `json:"name"`
	LSN  LSN       `json:"lsn"` // end of the record
	Time time.Time `json:"time"`
}

// Summary is what one whole or partial segment holds. It travels inside WAL objects and their index as JSON; a field
// that says nothing is left out.
type Summary struct {
	First     LSN `json:"first,omitempty"`      // start of the first record that begins in the segment; zero: none
	LastStart LSN `json:"last_start,omitempty"` // start of the last complete record that was seen to its end
	Last      LSN `json:"last,omitempty"`       // end of that record; zero: none
	// End of valid WAL: Segment.End for a complete segment; else the end of the last complete record. See Scanner.Torn.
	End LSN `json:"end"`
	// Commits and Aborts count transaction ends, whose times and xids the next four fields bound; recovery to a time
	// stops at either. The segment that holds a record's last byte owns it.
	Commits   int       `json:"commits,omitempty"`
	Aborts    int       `json:"aborts,omitempty"`
	MinCommit time.Time `json:"min_commit,omitzero"` // of commits alone
	MaxCommit time.Time `json:"max_commit,omitzero"` // of commits alone
	MaxEnd    time.Time `json:"max_end,omitzero"`    // of commits and aborts
	MinXID    uint32    `json:"min_xid,omitempty"`   // of commits and aborts, compared as plain numbers
	MaxXID    uint32    `json:"max_xid,omitempty"`
	// Clock is the newest time that any record carries, checkpoints and restore points included.
	Clock         time.Time      `json:"clock,omitzero"`
	RestorePoints []RestorePoint `json:"restore_points,omitempty"`
	// Settings are the largest that the segment's parameter changes ask for.
	Settings Settings `json:"settings,omitzero"`
	// Switched: the segment ends with a switch record; what follows Last is padding.
	Switched bool `json:"switched,omitempty"`

	// Followed: transactions were followed, which fills the fields below. Summaries that earlier releases wrote have none of
	// it, nor has one of which the Scanner lost sight because too many transactions did too much at once.
	Followed bool `json:"followed,omitempty"`
	// NextXID is such that transactions with this xid or one that comes after it wrote nothing before the segment's end but
	// in this segment; of several the newest. Zero: not known.
	NextXID   uint32 `json:"next_xid,omitempty"`
	Deeds     []Deed `json:"deeds,omitempty"` // of commits in the segment, in order; at most 32
	MoreDeeds bool   `json:"more_deeds,omitempty"`
	// Prepared are the first 16 of PreparedCount records about prepared transactions.
	Prepared      []PreparedEvent `json:"prepared,omitempty"`
	PreparedCount int             `json:"prepared_count,omitempty"`
	Images        Images          `json:"images,omitzero"` // full-page images of records that end in the segment
}

// add takes one event into the summary.
func (s *Summary) add(e *Event) {
	if e.Time.After(s.Clock) {
		s.Clock = e.Time
	}
	switch e.Kind {
	case Commit:
		s.Commits++
		s.addTransaction(e)
		if !e.Time.IsZero() && (s.MinCommit.IsZero() || e.Time.Before(s.MinCommit)) {
			s.MinCommit = e.Time
		}
		if e.Time.After(s.MaxCommit) {
			s.MaxCommit = e.Time
		}
	case Abort:
		s.Aborts++
		s.addTransaction(e)
	case RestorePointRecord:
		s.RestorePoints = append(s.RestorePoints, RestorePoint{Name: e.Name, LSN: e.End, Time: e.Time})
	case Switch:
		s.Switched = true
	case ParameterChange:
		s.Settings = s.Settings.Max(e.Settings)
	case EndOfRecovery, ShutdownCheckpoint, OnlineCheckpoint, Prepare, Other:
	}
}

func (s *Summary) addTransaction(e *Event) {
	if e.Time.After(s.MaxEnd) {
		s.MaxEnd = e.Time
	}
	if e.XID == 0 {
		return
	}
	if s.MinXID == 0 || e.XID < s.MinXID {
		s.MinXID = e.XID
	}
	s.MaxXID = max(s.MaxXID, e.XID)
}
