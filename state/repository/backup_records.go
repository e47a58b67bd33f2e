package repository

import (
	"time"

	"github.com/pgkeep/pgkeep/state/jsonlist"
	"github.com/pgkeep/pgkeep/state/wal"
)

// The kinds of a backup.
const (
	KindFull        = "full"
	KindIncremental = "incremental"
)

// backupFormat is the number of the form of everything under a backup's prefix.
const backupFormat = 1

// Start is START.json: the intent to write a backup, put before anything else of it. From then on expiry spares every
// backup that Names holds, until the decision.
type Start struct {
	Format      int          `json:"format"`
	ID          string       `json:"id"`
	Kind        string       `json:"kind"` // full | incremental
	Label       string       `json:"label,omitempty"`
	Schedule    string       `json:"schedule,omitempty"`
	Host        string       `json:"host"`
	Machine     string       `json:"machine,omitempty"`        // identity of the host's operating system
	Lock        string       `json:"lock,omitempty"`           // where the writer's lock lies, see LockPlace
	Leased      bool         `json:"leased,omitempty"`         // the writer renews a lease
	Checksums   string       `json:"data_checksums,omitempty"` // of the server: on, off; empty: not known
	Program     string       `json:"program"`                  // "pgkeep 0.1.0"
	Parent      string       `json:"parent,omitempty"`         // the backup whose unchanged pages are referred to
	Names       []string     `json:"names,omitempty"`          // every backup whose volumes may be referred to: the parent and what it refers to
	Version     int          `json:"version"`                  // server_version_num
	Timeline    wal.Timeline `json:"timeline"`
	Start       wal.LSN      `json:"start"`
	Redo        wal.LSN      `json:"redo"`                // WAL is needed from here, on Timeline
	Continues   []string     `json:"continues,omitempty"` // cut backups, in whatever repository, with what is stored of which this one goes on; Names has those of this one
	FromStandby bool         `json:"from_standby,omitempty"`
	CopyOf      string       `json:"copy_of,omitempty"` // the id of the repository that it is copied from; empty: it came from a server
	Began       time.Time    `json:"began"`
}

// decision is COMMIT.json: the one object that says whether a backup exists. Commit and abort compete for its key.
type decision struct {
	Format      int            `json:"format"`
	ID          string         `json:"id"`
	Decision    string         `json:"decision"` // committed | aborted | cut
	Why         string         `json:"why,omitempty"`
	By          string         `json:"by,omitempty"` // host that decided
	Decided     time.Time      `json:"decided"`
	Ended       time.Time      `json:"ended"` // by the server's clock
	Stop        wal.LSN        `json:"stop,omitempty"`
	Timeline    wal.Timeline   `json:"timeline,omitempty"`
	StartSum    string         `json:"start_sha256,omitempty"` // of START.json
	Files       int64          `json:"files,omitempty"`
	DataBytes   int64          `json:"data_bytes,omitempty"`   // as the cluster's files are long
	StoredBytes int64          `json:"stored_bytes,omitempty"` // of the objects that this backup put
	FileShards  int            `json:"file_shards,omitempty"`
	HashShards  int            `json:"hash_shards,omitempty"`
	Manifest    int            `json:"manifest_pieces,omitempty"`
	Sums        []shardSum     `json:"sums,omitempty"`
	Refs        []shardSum     `json:"refs,omitempty"`
	RefersTo    []string       `json:"refers_to,omitempty"` // other backups whose volumes are read
	Chain       *chain         `json:"chain,omitempty"`     // of an incremental
	Damaged     []DamagedPages `json:"damaged,omitempty"`
	Suspects    []DamagedPages `json:"suspects,omitempty"`
	DamageText  string         `json:"damage_text,omitempty"` // what the server said
	Marks       []shardSum     `json:"marks,omitempty"`       // of a cut one: what it has stored, which another backup may refer to
}

// chain is what COMMIT of an incremental says of the backups that it builds on, of which nothing else may be left.
type chain struct {
	Depth    int       `json:"depth"`          // 1: its parent is the full backup
	Full     string    `json:"full"`           // the id of the full backup that it began with
	Began    time.Time `json:"full_began"`     // of that backup
	Referred int64     `json:"referred_bytes"` // of all volumes of others that are read, as stored
	Live     int64     `json:"live_bytes"`     // of these: what this backup reads
	// Summaries: the server told which pages changed, from its WAL summaries. Of files that it sent in part the backup has the
	// hashes of the pages that it stores.
	Summaries bool `json:"summaries,omitempty"`
}

// The three decisions. That of a backup that was cut has a format of its own, so that a pgkeep that does not know it takes the backup for one
// that it cannot read, and removes nothing of it.
const (
	decidedCommitted = "committed"
	decidedAborted   = "aborted"
	decidedCut       = "cut"

	cutFormat = 2
)

// shardSum is the length and SHA-256 of one sums/ or refs/ shard, as stored.
type shardSum struct {
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// Folder is one directory of a backup: the data directory or a tablespace.
type Folder struct {
	OID      uint32 `json:"oid"`                // 0: the data directory
	Location string `json:"location,omitempty"` // of a tablespace, on the server
	Volumes  int    `json:"volumes"`
	Bytes    int64  `json:"bytes"` // of its files
}

// DamagedPages is a file with pages whose checksum failed.
type DamagedPages struct {
	Path   string   `json:"path"`
	Count  int64    `json:"count"`
	Blocks []uint32 `json:"blocks"` // the first few
}

// tombRecord is TOMB.json: the backup is to go. It is never withdrawn.
type tombRecord struct {
	Format int       `json:"format"`
	ID     string    `json:"id"`
	At     time.Time `json:"at"`
	By     string    `json:"by,omitempty"`
}

// holdRecord is HOLD-<n>.json. For each holder the highest number counts, so a release is a put.
type holdRecord struct {
	Format   int       `json:"format"`
	ID       string    `json:"id"`
	Number   int       `json:"number"`
	Holder   string    `json:"holder,omitempty"` // empty: the operator
	Reason   string    `json:"reason,omitempty"`
	At       time.Time `json:"at"`
	Expires  time.Time `json:"expires"` // zero: never
	Released bool      `json:"released,omitempty"`
}

// folderList is backup_manifest/folders.json.
type folderList struct {
	Format  int                 `json:"format"`
	Backup  string              `json:"backup"`
	Folders jsonlist.Of[Folder] `json:"folders"`
}
