package hclspec

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/pgkeep/pgkeep/state/wal"
)

// Spec is a whole configuration after evaluation: every for_each expanded, every reference resolved to a name, every
// default filled in. It holds plain values only. Slices are sorted by address, so that equal files give equal Specs.
type Spec struct {
	Repositories []Repository
	Servers      []Server
	Schedules    []Schedule
	Retentions   []Retention
	Verifies     []Verify `json:",omitempty"`
	Recoveries   []Recovery
	Drills       []Drill `json:",omitempty"`
	Removed      []Removed
	Approval     Approval
	Outputs      []Output
	// Files are the parsed sources by name, for drawing diagnostics.
	Files map[string]*hcl.File `json:"-"`
}

// Secret is a string that is never printed: its String, GoString, MarshalJSON and LogValue all give "(sensitive)".
type Secret struct{ value string }

// Where says which line of HCL set a thing: Block for the block's header, Attr for single attributes by name
// ("receiver.spool" for one in a nested block). An attribute that has its default is not in Attr.
type Where struct {
	Block hcl.Range
	Attr  map[string]hcl.Range
}

// Of gives the range of the attribute, or of the block when the attribute has its default.
func (w Where) Of(attr string) hcl.Range {
	if r, ok := w.Attr[attr]; ok {
		return r
	}
	return w.Block
}

// Repository is one `repository` block, or one instance of it.
type Repository struct {
	Address     string // repository.main, repository.main["eu"]
	Name        string // main, main.eu: the stored name
	Path        string // absolute directory; empty when URL is set
	URL         string // s3://, gs://, azblob:// or sftp://, without credentials; empty when Path is set
	Host        string // where Path lives; empty: this machine
	Compression Compression
	ObjectLock  ObjectLock  `json:",omitzero"`
	Encryption  *Encryption `json:",omitempty"` // nil: nothing is encrypted
	Where       Where
}

// Location gives where the repository is: Path or URL.
func (r *Repository) Location() string { return r.Path + r.URL }

// At gives the attribute that says where the repository is.
func (r *Repository) At() hcl.Range {
	if r.URL != "" {
		return r.Where.Of("url")
	}
	return r.Where.Of("path")
}

// ObjectLock keeps what a recovery needs from being deleted, by anybody. The zero value does not.
type ObjectLock struct {
	Mode   string        // governance | compliance; empty: no lock
	Margin time.Duration // how much longer than the recovery window; default 2d
}

// LockTime gives for how long a new object of a server is locked in a repository, from its put on: the longest recovery window that
// is asked for there, and the margin. 0: the repository does not lock. An empty server stands for all that write to it.
func (s *Spec) LockTime(repository, server string) time.Duration {
	for i := range s.Repositories {
		r := &s.Repositories[i]
		if r.Name == repository && r.ObjectLock.Mode != "" {
			return s.longestWindow(repository, server) + r.ObjectLock.Margin
		}
	}
	return 0
}

// LockReach gives how far from now a lock is extended at most, and LockMargin how long before its end: what stays needed beyond its lock
// is locked anew for the longest recovery window and a margin, and never for less than two margins. 0: the repository does not lock.
func (s *Spec) LockReach(repository, server string) time.Duration {
	margin := s.LockMargin(repository)
	if margin == 0 {
		return 0
	}
	return max(s.longestWindow(repository, server), margin) + margin
}

// LockMargin gives the margin of a repository's object lock; 0: it does not lock.
func (s *Spec) LockMargin(repository string) time.Duration {
	for i := range s.Repositories {
		if r := &s.Repositories[i]; r.Name == repository && r.ObjectLock.Mode != "" {
			return r.ObjectLock.Margin
		}
	}
	return 0
}

func (s *Spec) longestWindow(repository, server string) (longest time.Duration) {
	for _, r := range s.Retentions {
		if r.rules(repository, server) {
			longest = max(longest, r.RecoveryWindow, r.WALWindow)
		}
	}
	return longest
}

// rules tells whether a retention is about a server in a repository. An empty server stands for all.
func (r *Retention) rules(repository, server string) bool {
	return (len(r.Repositories) == 0 || slices.Contains(r.Repositories, repository)) && (server == "" || slices.Contains(r.Servers, server))
}

// WALLockTime is LockTime for WAL, of which a shorter window may be asked for than of backups.
func (s *Spec) WALLockTime(repository, server string) time.Duration {
	margin := s.LockMargin(repository)
	if margin == 0 {
		return 0
	}
	var longest time.Duration
	for _, r := range s.Retentions {
		switch {
		case !r.rules(repository, server):
		case r.WALWindow > 0:
			longest = max(longest, r.WALWindow)
		default:
			longest = max(longest, r.RecoveryWindow)
		}
	}
	return longest + margin
}

// Encryption says who can read a repository, whom its readers believe, and where this machine's keys are. It holds no secret: keys and
// passphrases are read from files and commands when they are needed.
type Encryption struct {
	DataRecipients    []string // age1…, or "passphrase": who reads backups, WAL and metadata; at least one
	MetaRecipients    []string // who reads metadata only
	TrustedWriters    []string // ed25519:…: whose objects are believed; at least one
	SigningKey        string   // path of a writer key; empty: nothing can be written
	IdentityFiles     []string // paths
	IdentityCommand   []string // a program and its arguments; empty: none
	PassphraseFile    string   // path
	PassphraseCommand []string
}

// Compression is how objects are compressed.
type Compression struct {
	Algorithm string // zstd | gzip | lz4
	Level     int
}

// Server is one `server` block, or one instance of its for_each.
type Server struct {
	Address      string // server.orders["eu"]
	Block        string // orders: the label
	Name         string // orders.eu: the stored name
	Conninfo     Secret
	Repositories []string // stored names; at least one
	Identity     []string // system identifiers; empty: the first one seen is kept
	Slot         Slot
	Receiver     Receiver
	Backup       Backup
	Objective    Objective `json:",omitzero"`
	Where        Where
}

// Objective is what is promised of a server: how much may be lost, and how fast it must be back. Zero: nothing.
type Objective struct {
	RPO time.Duration
	RTO time.Duration
}

// Slot is the replication slot of a server.
type Slot struct {
	Name   string // default pgkeep_<stored name with - and . as _>
	OnLost string // replace | fail
}

// Receiver says how WAL is received.
type Receiver struct {
	Host            string
	Synchronous     bool
	Acknowledge     string // spool | repository
	Quorum          int    // how many repositories must hold WAL before "repository" acknowledges; 0: all
	Spool           string // directory; default /var/lib/pgkeep/spool
	SpoolLimit      Limit
	OnSpoolFull     string        // wait | gap
	PushEvery       time.Duration // of the unfinished segment; default 10s
	ApplicationName string        // default the slot's name
	Timeout         time.Duration // a server silent for so long is dead; default 30s
}

// Limit is a size in bytes or a share of a file system; the zero value is the default of 10 % kept free.
type Limit struct {
	Bytes   int64
	Percent int // of the file system that may be used
}

// Backup says how base backups are taken.
type Backup struct {
	FullEvery           time.Duration // default 7d
	MaxRate             int64         // bytes a second; 0: as fast as it goes
	CheckPageChecksums  bool          // default true
	Checkpoint          string        // spread | fast
	From                string        // primary | standby | any
	Conninfo            Secret        // of the standby that backups are taken from; empty: the server's own
	TransferCompression string        // none | zstd | lz4 | gzip: what the server compresses with for the way here
}

// Schedule is one `schedule` block.
type Schedule struct {
	Address     string
	Name        string
	Servers     []string // stored names, sorted
	Backup      string   // auto | full | incremental
	Cron        string
	Timezone    string // IANA name; default UTC
	IfMissed    string // run_once | skip
	StartWithin time.Duration
	Where       Where
}

// Retention is one `retention` block.
type Retention struct {
	Address           string
	Name              string
	Servers           []string // stored names, sorted
	Repositories      []string // stored names; empty in the HCL: all of the server's
	RecoveryWindow    time.Duration
	WALWindow         time.Duration `json:",omitzero"` // every moment of so long only, whatever backups stay; 0: as the backups say
	Redundancy        int
	MinimumRedundancy int    // default 1
	MaxDelete         int    // 0: no limit set; default 5
	Enforce           string // auto | approve
	Keep              Keep
	Where             Where
}

// Keep says how many of the newest days, weeks, months and years that have a backup keep their newest one, each with the
// WAL that makes it consistent and no more. 0: none for that reason.
type Keep struct {
	Daily, Weekly, Monthly, Yearly int
	Timezone                       string // IANA name, in which days begin; default UTC; empty without a keep block
}

// Any tells whether anything is kept by it.
func (k Keep) Any() bool { return k.Daily > 0 || k.Weekly > 0 || k.Monthly > 0 || k.Yearly > 0 }

// Recovery is one `recovery` block: inert until it is asked for by name.
type Recovery struct {
	Address     string
	Name        string
	Server      string // stored name
	Target      Target
	Destination Destination
	WALWait     time.Duration // default 10m
	Checks      []Check       // of the copy when it is started; sorted by name
	Where       Where
}

// Target is where a recovery stops: exactly one of Time, LSN, XID, Restore, Immediate, Latest is set.
type Target struct {
	Time      time.Time
	LSN       wal.LSN
	XID       uint32
	Restore   string // the name of a restore point
	Immediate bool
	Latest    bool
	Inclusive bool         // default true
	Timeline  wal.Timeline // 0: latest
	Action    string       // pause | promote | shutdown
}

// Destination is the directory that a recovery writes.
type Destination struct {
	Host        string
	Path        string
	Owner       string            // empty: the user who runs pgkeep
	BinDir      string            // empty: found on the machine
	Port        int               // 0: 5432
	Tablespaces map[string]string // tablespace name to directory
	WAL         string            // fetch | copy
	// Overwrite lets a stopped data directory of the same cluster be restored over, fetching only what differs.
	Overwrite bool `json:",omitempty"`
	// PrimaryConninfo makes it a standby that follows that server; it holds no password. Empty: it is no standby.
	PrimaryConninfo string `json:",omitempty"`
	PrimarySlot     string `json:",omitempty"` // that it holds on that server; empty: none
	// Databases are those that are restored beside postgres, template0 and template1, sorted, each once; empty: all.
	Databases []string `json:",omitempty"`
}

// Removed is one `removed` block: a server that is no longer in the configuration.
type Removed struct {
	From     string // address as written
	Name     string // stored name
	Conninfo Secret // empty: its slot cannot be dropped
	Slot     string // drop | keep
	SlotName string
	Spool    string // directory that its spool was in; empty: one that another server uses, or the standard one
	Backups  string // keep
	Where    Where
}

// Approval says which impacts run without being named.
type Approval struct {
	Auto  []string // impacts, default safe and declared
	Where Where
}

// Output is one `output` block: a value for people and scripts.
type Output struct {
	Name      string
	JSON      json.RawMessage // the value; nil when sensitive
	Sensitive bool
	Where     Where
}
