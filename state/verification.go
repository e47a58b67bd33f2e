package state

import (
	"time"

	"github.com/pgkeep/pgkeep/state/wal"
)

// VerifyLevel says how closely a verification looks.
type VerifyLevel string

// The levels.
const (
	VerifyQuick VerifyLevel = "quick" // every object is there with its size; records, lists and indexes are read
	VerifyFull  VerifyLevel = "full"  // every byte is read and proved, and every frame decoded as a restore does
)

// VerificationKind is the kind of evidence that a verification leaves.
const VerificationKind = "verify"

// Verification is what verification knows of a cluster in one repository: the entry of a piece of evidence. The newest
// one says everything that is known: what an earlier look found and this one did not look at again is carried on.
type Verification struct {
	Kind    string      `json:"kind"` // VerificationKind
	Level   VerifyLevel `json:"level"`
	Sample  int         `json:"sample,omitempty"` // percent of volumes and segments that a full look reads; 0: all
	Only    []string    `json:"only,omitempty"`   // the backups that were asked for; empty: everything
	Began   time.Time   `json:"began"`
	Ended   time.Time   `json:"ended,omitzero"` // zero: it was not finished yet when this was written
	Objects int64       `json:"objects"`
	Bytes   int64       `json:"bytes"` // read and proved
	// Quick and Full are the newest finished looks at everything, this one included; a full one counts as quick too.
	Quick   Look             `json:"quick,omitzero"`
	Full    Look             `json:"full,omitzero"`
	Backups []VerifiedBackup `json:"backups,omitempty"` // oldest first
	Damage  []Damage         `json:"damage,omitempty"`  // what is known to be wrong: the first hundred
	Wrong   int              `json:"wrong"`             // how many there are
	Chains  []Chain          `json:"chains,omitempty"`  // by backup, oldest first
	BadWAL  []wal.Range      `json:"bad_wal,omitempty"` // whole segments that are there and damaged
	// ReadWAL are the whole segments that the newest full look without a sample has read and proved, as far as no later look found
	// them damaged. They may have been deleted since.
	ReadWAL []wal.Range   `json:"read_wal,omitempty"`
	Cursor  *VerifyCursor `json:"cursor,omitempty"` // of an unfinished look: where it goes on
}

// Look is one finished look at everything.
type Look struct {
	Began  time.Time `json:"began"` // zero: there was none
	Ended  time.Time `json:"ended"`
	Sample int       `json:"sample,omitempty"` // percent; 0: all
}

// VerifiedBackup is what was found of one backup.
type VerifiedBackup struct {
	ID         string    `json:"id"`
	Quick      time.Time `json:"quick,omitzero"` // when it was last looked at; zero: never
	Full       time.Time `json:"full,omitzero"`  // when all of it was last read
	Restorable bool      `json:"restorable"`
	Why        string    `json:"why,omitempty"` // it is not
	// Damaged says that what is stored of it, or of the WAL that makes it consistent, is damaged: it is not only waiting for WAL.
	Damaged bool `json:"damaged,omitempty"`
}

// Damage is one thing wrong with what is stored.
type Damage struct {
	Object string `json:"object"` // key in the store
	Code   Code   `json:"code"`
	Text   string `json:"text"`
	// Hurts are the backups that cannot be restored because of it.
	Hurts []string `json:"hurts,omitempty"`
	// Lost are the moments that cannot be recovered because of it, also not from another backup of this repository.
	Lost []Lost `json:"lost,omitempty"`
}

// Lost is a stretch of moments that cannot be recovered.
type Lost struct {
	From     time.Time    `json:"from,omitzero"` // zero: the time is not known
	To       time.Time    `json:"to,omitzero"`   // zero: for ever, or not known; then ToLSN is zero too
	Timeline wal.Timeline `json:"timeline"`
	FromLSN  wal.LSN      `json:"from_lsn"`
	ToLSN    wal.LSN      `json:"to_lsn,omitempty"`
}

// Chain says how far the archived WAL carries a backup along the newest line of history through it.
type Chain struct {
	Backup   string       `json:"backup"`
	Timeline wal.Timeline `json:"timeline"`           // the newest of the line
	Tip      wal.LSN      `json:"tip"`                // the end of the line's archived WAL
	Reaches  wal.LSN      `json:"reaches"`            // up to here nothing is missing or damaged
	Missing  []wal.Range  `json:"missing,omitempty"`  // oldest first; of many the first, see MoreMissing
	Recorded bool         `json:"recorded,omitempty"` // all that is missing is recorded as a gap
	// MoreMissing is how many stretches are missing behind those in Missing: of hundreds of backups that are kept alone each
	// lacks all that the later ones lack too.
	MoreMissing int `json:"more_missing,omitempty"`
	// Segments is how many whole segments are between the backup's redo position and the tip.
	Segments int64 `json:"segments"`
}

// Whole tells whether every moment from the backup's end to the tip can be recovered.
func (c Chain) Whole() bool { return len(c.Missing) == 0 }

// VerifyCursor is where an unfinished look goes on.
type VerifyCursor struct {
	Backups  int          `json:"backups,omitempty"` // how many are done; those before Backup
	Backup   string       `json:"backup,omitempty"`  // whose data is being read; empty: the backups are done
	Shard    int          `json:"shard,omitempty"`   // of its list of files
	Volume   int          `json:"volume,omitempty"`  // the n-th that the shard names
	Timeline wal.Timeline `json:"timeline,omitempty"`
	Segment  uint64       `json:"segment,omitempty"` // the next to be read
}
