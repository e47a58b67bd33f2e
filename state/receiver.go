package state

import (
	"time"

	"github.com/pgkeep/pgkeep/state/wal"
)

// Receiver is the process or goroutine that streams one server's WAL, as its machine sees it. From elsewhere it is
// Unknown and its liveness is read from the server's slot.
type Receiver struct {
	Unknown    *Unknown     `json:"unknown,omitempty"`
	Running    bool         `json:"running"` // its lock is held
	PID        int          `json:"pid,omitempty"`
	Agent      bool         `json:"agent,omitempty"` // lives in an agent, not in a process of its own
	Since      time.Time    `json:"since"`
	Streaming  bool         `json:"streaming"` // connected and in COPY
	Timeline   wal.Timeline `json:"timeline,omitempty"`
	Written    wal.LSN      `json:"written,omitempty"`
	Flushed    wal.LSN      `json:"flushed,omitempty"`  // durable in the spool; what was reported to the server
	Archived   wal.LSN      `json:"archived,omitempty"` // durable in every repository, partials included
	ServerEnd  wal.LSN      `json:"server_end,omitempty"`
	CaughtUpAt time.Time    `json:"caught_up_at"` // the last server time at which Flushed reached the server's end
	Reported   time.Time    `json:"reported"`     // when the receiver wrote this
	Problem    *Problem     `json:"problem,omitempty"`
}

// Problem is a failure that goes on: the cause, when it began, what to do.
type Problem struct {
	Code  Code      `json:"code"`
	Text  string    `json:"text"`
	Hint  string    `json:"hint,omitempty"`
	Since time.Time `json:"since"`
}

// Spool is a server's directory of WAL that was received here.
type Spool struct {
	Unknown     *Unknown     `json:"unknown,omitempty"`
	Path        string       `json:"path"`
	FileSystem  string       `json:"file_system,omitempty"` // "ext4", "tmpfs" …
	Free        int64        `json:"free,omitempty"`        // bytes
	Total       int64        `json:"total,omitempty"`       // bytes
	Used        int64        `json:"used,omitempty"`        // bytes of this server's files
	SystemID    string       `json:"system_id,omitempty"`
	Timeline    wal.Timeline `json:"timeline,omitempty"`
	Durable     wal.LSN      `json:"durable,omitempty"` // end of contiguous, fsynced WAL; zero: none
	Pending     []wal.Range  `json:"pending,omitempty"` // complete segments not yet in every repository
	Diverged    []string     `json:"diverged,omitempty"`
	Quarantined []string     `json:"quarantined,omitempty"`
}

// Destination is where a recovery would write.
type Destination struct {
	Unknown     *Unknown         `json:"unknown,omitempty"`
	Path        string           `json:"path"`
	Exists      bool             `json:"exists"`
	Empty       bool             `json:"empty"`
	Running     bool             `json:"running"`        // a postmaster lives in it
	Ours        bool             `json:"ours"`           // a restore of this same plan that was cut short
	Free        map[string]int64 `json:"free,omitempty"` // bytes, by path: data directory and each tablespace target
	OwnerExists bool             `json:"owner_exists"`
	CanOwn      bool             `json:"can_own"`               // may give files to the owner
	BinVersion  int              `json:"bin_version,omitempty"` // major of bindir's postgres; 0: not found
	// Unreadable are the repositories, by label, that the owner of the restored files may not read: wal-get, which runs as
	// that user, would wait for ever.
	Unreadable []string `json:"unreadable,omitempty"`
	// Tablespaces are those of the server's committed backups, by id; a backup that is absent was not looked at.
	Tablespaces map[string][]BackupTablespace `json:"tablespaces,omitempty"`
	// Taken are the targets of tablespaces that are there and not empty, or no directories.
	Taken []string `json:"taken,omitempty"`
	// Holds is the system identifier of the cluster whose data directory it is; empty: of none.
	Holds string `json:"holds,omitempty"`
	// WroteAt is when a server wrote the pg_control of that cluster last, and Timeline where it was then; zero: there is none.
	WroteAt  time.Time    `json:"wrote_at,omitzero"`
	Timeline wal.Timeline `json:"timeline,omitempty"`
	// Restored is the restore that was completed in it; nil: none was, or its data is gone.
	Restored *Restored `json:"restored,omitempty"`
}

// Restored is what a completed restore left beside the data directory: the evidence that it was done.
type Restored struct {
	Backup   string    `json:"backup"`
	SystemID string    `json:"system_id,omitempty"`
	Request  string    `json:"request,omitempty"` // digest of what was asked for; empty: an older pgkeep did not write it
	Began    time.Time `json:"began"`
	Used     bool      `json:"used,omitempty"` // a server was started in it since
}

// BackupTablespace is a tablespace as a backup has it.
type BackupTablespace struct {
	OID      uint32 `json:"oid"`
	Name     string `json:"name,omitempty"`     // empty: the role that took the backup could not see it
	Location string `json:"location,omitempty"` // on the server
	Bytes    int64  `json:"bytes,omitempty"`
	Exists   bool   `json:"exists,omitempty"` // something is at Location on the destination's machine
}

// TargetFact is what the archived WAL proves about a recovery target.
type TargetFact struct {
	Unknown   *Unknown     `json:"unknown,omitempty"`
	Reachable bool         `json:"reachable"`
	Timeline  wal.Timeline `json:"timeline,omitempty"` // on which the target lies
	From      wal.LSN      `json:"from,omitempty"`     // redo position of the backup from which it was proved; of an older one nothing was. Zero: not told
	End       wal.LSN      `json:"end,omitempty"`      // WAL is needed up to here
	Before    *Commit      `json:"before,omitempty"`   // last commit that the recovery contains
	After     *Commit      `json:"after,omitempty"`    // first that it does not
	AtEnd     bool         `json:"at_end,omitempty"`   // after the last commit: recovery goes to the end of WAL
	Why       string       `json:"why,omitempty"`      // of unreachable
	Nearest   []Nearest    `json:"nearest,omitempty"`
	Again     []Nearest    `json:"again,omitempty"` // other restore points of the same name, oldest first; their LSNs are exclusive
}

// Commit is one transaction's end in the WAL.
type Commit struct {
	XID  uint32    `json:"xid"`
	LSN  wal.LSN   `json:"lsn"` // end of the commit record
	Time time.Time `json:"time"`
}

// Nearest is a reachable moment close to an unreachable target.
type Nearest struct {
	Time     time.Time    `json:"time"` // zero: it is reached as a position only
	LSN      wal.LSN      `json:"lsn"`
	Timeline wal.Timeline `json:"timeline,omitempty"` // to be named with it; zero: none
	Note     string       `json:"note,omitempty"`
}
