package state

import (
	"time"

	"github.com/pgkeep/pgkeep/state/wal"
)

// Repository is one repository as seen through its store.
type Repository struct {
	Unknown  *Unknown             `json:"unknown,omitempty"`
	Location string               `json:"location"` // path or URL, without credentials
	ID       string               `json:"id,omitempty"`
	Format   int                  `json:"format,omitempty"`
	Free     int64                `json:"free,omitempty"`  // bytes; -1: the store has no limit that it tells
	Total    int64                `json:"total,omitempty"` // bytes; -1 likewise
	Now      time.Time            `json:"now"`             // the newest time seen in the store, by its clock; zero: none
	Clusters map[string][]Cluster `json:"clusters,omitempty"`
	// FstabMount is the mount point of /etc/fstab at or above the path that is not mounted; empty: none. A repository
	// is never created there.
	FstabMount string `json:"fstab_mount,omitempty"`
	// Encryption says what can be read here; nil: nothing is encrypted.
	Encryption *Encryption `json:"encryption,omitempty"`
}

// Encryption is how an encrypted repository stands to the keys of this machine. Its metadata can be read here, or nothing would be known of it.
type Encryption struct {
	Keys []EncryptionKey `json:"keys"` // by number; the last one seals what is new
	// Missing are readers of the configuration, as "data age1…", for whom a key is not wrapped: they cannot read what was sealed with it.
	Missing []string `json:"missing,omitempty"`
	// Beyond are readers for whom the key that seals what is new is wrapped and whom the configuration does not name, as "data 0123456789abcdef" or
	// "data passphrase": what lies there has the fingerprint of a recipient alone, and whoever can write the store can put such a thing there. At most
	// ten are told.
	Beyond []string `json:"beyond,omitempty"`
	// Strays are objects beside the repository's keys that belong to none of them. A few are left where something was broken off.
	Strays int  `json:"strays,omitempty"`
	Writes bool `json:"writes"` // a signing key is here
}

// EncryptionKey is one key of an encrypted repository.
type EncryptionKey struct {
	ID      string    `json:"id"`
	Number  int       `json:"number"` // from 1
	Created time.Time `json:"created"`
	Data    bool      `json:"data"`    // volumes and WAL that were sealed with it can be read here
	Readers int       `json:"readers"` // for how many its data half is wrapped
}

// ReadsData tells whether volumes and WAL can be read here: always where nothing is encrypted.
func (r Repository) ReadsData() bool {
	if r.Encryption == nil {
		return true
	}
	for _, k := range r.Encryption.Keys {
		if !k.Data {
			return false
		}
	}
	return true
}

// Cluster is what a repository holds of one PostgreSQL cluster: a stored name and a system identifier.
type Cluster struct {
	// Unknown says why this cluster could not be seen while others of its repository were; nothing else but name and
	// system identifier is told then.
	Unknown     *Unknown        `json:"unknown,omitempty"`
	Name        string          `json:"name"`
	SystemID    string          `json:"system_id"`
	Major       int             `json:"major"`
	SegmentSize wal.SegmentSize `json:"segment_size"`
	Backups     []Backup        `json:"backups,omitempty"`   // oldest first
	WAL         []WALRange      `json:"wal,omitempty"`       // by timeline, then position; complete segments, then a partial tail
	Histories   []History       `json:"histories,omitempty"` // archived history files, by timeline
	Gaps        []Gap           `json:"gaps,omitempty"`
	// StalePartialBytes are stored bytes of pushed parts whose segment is archived whole; every prune-wal removes them.
	StalePartialBytes int64 `json:"stale_partial_bytes,omitempty"`
	// Verified is what the newest evidence of a verification says; nil: there is none.
	Verified *Verification `json:"verified,omitempty"`
	// Drills are of each drill the newest and the newest that passed, newest first, without Rows.
	Drills []Drill `json:"drills,omitempty"`
	// Measured is how long the newest recoveries and drills took, newest first; empty: there is no evidence of any.
	Measured []Measured `json:"measured,omitempty"`
	// RestorePoints are the named restore points that a deletion could lose; nil: they were not looked for.
	RestorePoints *RestorePoints `json:"restore_points,omitempty"`
	// Locks says until when WAL and what opens the cluster are locked; nil: it was not looked at, because nothing is to be locked.
	Locks *Locks `json:"locks,omitempty"`
}

// Locks is until when objects that belong to no backup cannot be deleted by anybody; of a backup its LockedUntil says it.
type Locks struct {
	Opening time.Time   `json:"opening"`       // what opening the cluster takes: REPOSITORY.json, keys, facts, histories; zero: not locked
	WAL     []LockedWAL `json:"wal,omitempty"` // all archived whole segments, by timeline and position
}

// LockedWAL is a stretch of archived WAL by the lock of its first or last segment, whichever ends before: what is put later is locked for longer, and a
// lock that is extended reaches the first segment of a stretch last.
type LockedWAL struct {
	wal.Range
	Until time.Time `json:"until"` // zero: not locked
}

// RestorePoints tells of the names that pg_create_restore_point() put into archived WAL before the end of the newest
// backup. However many there are, only so much is told that a cluster takes a few kilobytes.
type RestorePoints struct {
	Stretches []PointStretch `json:"stretches,omitempty"` // by timeline and position; one without a restore point is left out
	// Unread is how many archived segments were not looked at, because they are not indexed yet and there are too many.
	Unread int `json:"unread,omitempty"`
}

// PointStretch counts the restore points of a stretch of WAL between the ends of two backups, From excluded and To included.
type PointStretch struct {
	wal.Range
	Count   int                `json:"count"`
	AtLeast bool               `json:"at_least,omitempty"` // there are more: a segment tells of so many only
	Newest  []wal.RestorePoint `json:"newest"`             // the newest of them, newest first
}

// WALRange is a contiguous stretch of archived WAL.
type WALRange struct {
	wal.Range
	Bytes       int64     `json:"bytes"` // as stored
	FirstCommit time.Time `json:"first_commit"`
	LastCommit  time.Time `json:"last_commit"`       // of the newest commit inside, Partial included; zero: none seen
	Partial     wal.LSN   `json:"partial,omitempty"` // where a pushed unfinished segment ends beyond To; zero: none
}

// History is one archived timeline history file, parsed.
type History struct {
	Timeline wal.Timeline `json:"timeline"`
	Parents  []Parent     `json:"parents"` // oldest first
}

// Parent is one line of a history file: the timeline was left at Switch.
type Parent struct {
	Timeline wal.Timeline `json:"timeline"`
	Switch   wal.LSN      `json:"switch"`
	Reason   string       `json:"reason,omitempty"`
}

// Gap is WAL that is recorded as lost.
type Gap struct {
	wal.Range
	Reason   string    `json:"reason"`
	Recorded time.Time `json:"recorded"`
}

// BackupState is what the objects of a backup say; usability, which also needs WAL, is Cluster.Usability.
type BackupState string

// The states of a backup.
const (
	BackupRunning   BackupState = "running"   // START, no decision, writer alive or not known to be dead
	BackupAbandoned BackupState = "abandoned" // START, no decision, writer dead
	BackupCommitted BackupState = "committed"
	BackupDamaged   BackupState = "damaged" // committed, with pages whose checksum failed in the source
	BackupAborted   BackupState = "aborted" // decided aborted; what is left of it is garbage
	BackupCut       BackupState = "cut"     // its writer did not finish it; another backup can go on with what it stored, and nobody can restore it
	BackupDeleted   BackupState = "deleted" // TOMB is there; held when Hold is set and unexpired
	// BackupCorrupt is a backup of which START, the decision or TOMB cannot be read or was lost, Failure says which: it may
	// be whole or not. It is never usable, no parent, never removed by itself, and its WAL stays: all of it where Redo is zero.
	BackupCorrupt BackupState = "corrupt"
)

// Backup is one base backup in one repository.
type Backup struct {
	ID          string       `json:"id"` // 20260210T211617Z-F-7f3a
	State       BackupState  `json:"state"`
	Kind        string       `json:"kind"` // full | incremental
	Version     int          `json:"version"`
	Timeline    wal.Timeline `json:"timeline"`
	Redo        wal.LSN      `json:"redo"` // WAL is needed from here, on Timeline
	Start       wal.LSN      `json:"start,omitempty"`
	Stop        wal.LSN      `json:"stop,omitempty"` // consistent from here; zero until committed
	Began       time.Time    `json:"began"`
	Ended       time.Time    `json:"ended"` // by the server's clock; zero until decided
	FromStandby bool         `json:"from_standby,omitempty"`
	DataBytes   int64        `json:"data_bytes,omitempty"`   // as the cluster's files are long
	StoredBytes int64        `json:"stored_bytes,omitempty"` // what this backup added to the repository
	Parent      string       `json:"parent,omitempty"`
	Refs        []string     `json:"refs,omitempty"`  // other backups whose volumes it reads
	Chain       *BackupChain `json:"chain,omitempty"` // of a committed incremental; nil: a full backup
	Host        string       `json:"host,omitempty"`  // whose pgkeep wrote it
	Failure     string       `json:"failure,omitempty"`
	Tombed      time.Time    `json:"tombed"`                // zero: no TOMB
	LockedUntil time.Time    `json:"locked_until,omitzero"` // object lock: before that nobody can delete it; zero: none, or not looked at
	Hold        *Hold        `json:"hold,omitempty"`
	Schedule    string       `json:"schedule,omitempty"` // which schedule ordered it; empty: by hand or first
	// Continues is the id of the repository from which an abandoned backup was copied by a process of the machine that looked: a copy
	// made there goes on with what it stored. Empty: it was not copied, or by another machine.
	Continues string `json:"continues,omitempty"`
	// Reusable is how many bytes of volumes an abandoned or cut backup has stored and proved, so that another one can go on with them.
	Reusable int64  `json:"reusable,omitempty"`
	Evidence string `json:"evidence,omitempty"` // of a backup without decision: how it is known whether its writer lives; empty: it is not known
}

// BackupChain is what an incremental backup says of the backups that it builds on.
type BackupChain struct {
	Depth         int       `json:"depth"`          // 1: its parent is a full backup
	Full          string    `json:"full"`           // the full backup that the chain began with; it may be deleted by now
	Began         time.Time `json:"full_began"`     // of that backup
	ReferredBytes int64     `json:"referred_bytes"` // of all volumes of other backups that it reads, as stored
	LiveBytes     int64     `json:"live_bytes"`     // of these: what it reads
	// Summaries: the server told which pages changed (summarize_wal). Only another such backup can build on it: it has not
	// the hashes of all its pages.
	Summaries bool `json:"summaries,omitempty"`
}

// Hold keeps a backup from being deleted.
type Hold struct {
	Holder  string    `json:"holder,omitempty"` // whose hold: empty the operator's, else a restore's own name
	Reason  string    `json:"reason,omitempty"`
	Expires time.Time `json:"expires"` // zero: never
}

// Usability says whether a recovery can start from a backup, as far as the repository proves it.
type Usability string

// The verdicts on a committed backup.
const (
	Usable    Usability = "usable"     // committed, and every byte of WAL from redo to stop is archived
	Waiting   Usability = "waiting"    // committed, WAL up to stop not archived yet
	LostWAL   Usability = "lost"       // a recorded gap cuts redo..stop
	NotUsable Usability = "not usable" // running, abandoned, aborted, damaged or deleted
)

// Usability computes the verdict on b from the cluster's WAL and gaps.
func (c Cluster) Usability(b Backup) Usability {
	if b.State != BackupCommitted {
		return NotUsable
	}
	need := wal.Range{Timeline: b.Timeline, From: b.Redo, To: b.Stop}
	var have []wal.Range
	for _, r := range c.WAL {
		held := r.Range
		if r.Partial > held.To {
			held.To = r.Partial
		}
		have = append(have, held)
	}
	missing := wal.Missing(need, have)
	if len(missing) == 0 {
		return Usable
	}
	for _, m := range missing {
		for _, g := range c.Gaps {
			if g.Timeline == m.Timeline && g.From < m.To && m.From < g.To {
				return LostWAL
			}
		}
	}
	return Waiting
}
