package plan

import (
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// Plan is what must be done for the world to match the configuration, in an order that is safe, with reasons.
type Plan struct {
	Now      time.Time `json:"now"`
	Host     string    `json:"host,omitempty"`
	Options  Options   `json:"options"`            // what was asked for beyond the configuration
	Steps    []Step    `json:"steps"`              // in an order that respects After
	NotDone  []NotDone `json:"not_done"`           // what would be planned if something else were so
	Already  []Already `json:"already,omitempty"`  // what was asked for and is done
	LeftOut  []LeftOut `json:"left_out,omitempty"` // what Options.Targets and Options.Exclude keep out
	Drift    *Drift    `json:"drift,omitempty"`    // only of Options.RefreshOnly
	Findings []Finding `json:"findings"`           // warnings and verdicts: never steps
	Windows  []Window  `json:"windows"`            // what can be recovered now, by server and repository
	// Objectives are what is promised of servers, with what was measured.
	Objectives []Objective `json:"objectives,omitempty"`
	NextDue    []Due       `json:"next_due"` // when something happens by the clock, soonest first
	Auto       []Impact    `json:"auto"`     // what the configuration lets run without a name; nil: safe and declared
}

// Change says what a step does, for the summary line.
type Change string

// The changes.
const (
	Add      Change = "add"
	Modify   Change = "change"
	Destroy  Change = "destroy"
	NoChange Change = "none"
)

// Impact says how much a step can hurt, and so who must agree.
type Impact string

// The impacts, mildest first.
const (
	Safe        Impact = "safe"
	Declared    Impact = "declared"
	Destructive Impact = "destructive"
	Disruptive  Impact = "disruptive"
)

// Step is one idempotent act.
type Step struct {
	ID      string // stable: "server.orders.eu/slot"; two plans can be compared
	Action  Action
	Change  Change
	Impact  Impact
	Host    string // the machine it must run on; empty: any
	Because []Reason
	Effect  string  // what it does to the recovery window, bytes, time
	Proof   []Proof // what a recovery rests on, each with its evidence; nil: it is no recovery
	Loses   *Loss   // what can no longer be recovered afterwards; nil: nothing
	// Keeps are usable backups that stay, newest first, and KeepsMore is how many more there are. Only a prune by rules with a
	// keep block tells of them.
	Keeps     []Kept
	KeepsMore int
	After     []string
	Requires  []Condition
}

// Reason is one link of the argument for a step.
type Reason struct {
	Code  string     // stable, lower case with dashes: "no-slot"
	Text  string     // a sentence
	Range *hcl.Range // the line of HCL that asks for it; nil: none
}

// Condition is re-read just before acting; a step whose condition no longer holds does not run.
type Condition struct {
	Code  string `json:"code"` // one of the Need constants
	Text  string `json:"text"`
	Value string `json:"value,omitempty"` // what is expected, for the codes that say so
}

// The conditions that steps can re-read. A code that a step does not know keeps it from running.
const (
	NeedNoRepository  = "repository-absent" // create-repository: absent or empty, and nothing to mount there
	NeedSystem        = "identity"          // steps on a server: Value is its system identifier
	NeedSlotAbsent    = "slot-absent"
	NeedSlotLost      = "slot-lost"          // or gone
	NeedSlotPresent   = "slot-present"       // start-receiver: there, and not lost
	NeedSlotInactive  = "slot-inactive"      // nobody streams from it
	NeedNoReceiver    = "receiver-absent"    // start-receiver: none runs, or the one that runs is ours
	NeedReceiver      = "receiver-present"   // stop-receiver
	NeedDescent       = "descends"           // follow-timeline: the new history comes from what is archived; Value is "TIMELINE@SWITCH" where it was seen
	NeedLoss          = "wal-gone"           // record-gap: no repository or spool got it meanwhile, and the server does not serve it
	NeedNoBackupSince = "no-backup-since"    // take-backup: none began at or after the tick, or none that the plan did not know
	NeedUndecided     = "undecided"          // remove-incomplete: its writer is dead and did not commit
	NeedStillNeedless = "still-needless"     // prune, prune-wal: what is held or needed now is spared
	NeedTombed        = "tombed"             // prune by sweep: each has its TOMB for a day and no unexpired hold
	NeedUsableLeft    = "usable-left"        // prune: Value is how many usable backups stay at least
	NeedUnverified    = "not-verified-since" // verify: nobody else looked as closely since it became due
	NeedUndrilled     = "not-drilled-since"  // drill: nobody else made it since it became due
	NeedScratch       = "scratch-free"       // drill: the scratch directory has room, and no other drill works there
	NeedDamage        = "damaged"            // repair: the newest verification still says so
	NeedDestination   = "destination-free"   // recover-to: empty or this recovery's own, and no server runs in it
	NeedBackup        = "backup-committed"   // recover-to: the backup is still there, or held; copy-backup: the original is, and sound; extend-lock: what is gone is passed over
	NeedWAL           = "wal-present"        // recover-to: every segment of the route; copy-wal: of the ranges, where it is copied from
	NeedStartable     = "startable"          // recover-to with Start: an owner, programs and a port that PostgreSQL can start with
)

// Action is a closed set of plain structs, all in this file.
type Action interface{ action() string }

// The actions. Names of servers are stored names, of repositories labels.
type (
	// CreateRepository writes REPOSITORY.json and README.txt into an absent or empty directory.
	CreateRepository struct {
		Repository string `json:"repository"`
	}
	// CreateSlot creates a physical slot that reserves WAL at once.
	CreateSlot struct {
		Server string `json:"server"`
		Slot   string `json:"slot"`
	}
	// ReplaceSlot drops a slot, a lost one unless it says otherwise, and creates it anew, reserved.
	ReplaceSlot struct {
		Server string `json:"server"`
		Slot   string `json:"slot"`
		// Healthy says that the slot goes though it holds WAL: the operator asked for it by name.
		Healthy bool `json:"healthy,omitempty"`
	}
	// DropSlot drops a slot that the configuration gives up.
	DropSlot struct {
		Server string `json:"server"`
		Slot   string `json:"slot"`
	}
	// StartReceiver starts the receiver: in the agent, or detached by a one-shot apply.
	StartReceiver struct {
		Server string `json:"server"`
	}
	// StopReceiver stops it tidily.
	StopReceiver struct {
		Server string `json:"server"`
	}
	// RecordGap writes a gap object into every repository of the server.
	RecordGap struct {
		Server   string    `json:"server"`
		SystemID string    `json:"system_id"`
		Range    wal.Range `json:"range"`
		Reason   string    `json:"reason"`
		// RepositoryIDs are the ids in REPOSITORY.json of the repositories that were seen, by label: another one behind the same
		// label is not meant. Those that were not seen are absent.
		RepositoryIDs map[string]string `json:"repository_ids,omitempty"`
	}
	// FollowTimeline archives the history of a new timeline and lets the receiver go on there.
	FollowTimeline struct {
		Server        string            `json:"server"`
		Timeline      wal.Timeline      `json:"timeline"`
		RepositoryIDs map[string]string `json:"repository_ids,omitempty"` // as RecordGap's
	}
	// TakeBackup takes one base backup into every repository named.
	TakeBackup struct {
		Server       string   `json:"server"`
		Repositories []string `json:"repositories"`
		Kind         string   `json:"kind"`             // full | incremental
		Parent       string   `json:"parent,omitempty"` // of an incremental: the backup that it builds on
		// Continues are cut backups with what is stored of which a full one goes on, the best first: then it becomes incremental.
		Continues []string  `json:"continues,omitempty"`
		Schedule  string    `json:"schedule,omitempty"` // empty: first backup, broken chain or by hand
		Due       time.Time `json:"due,omitzero"`       // the tick of the schedule; zero without one
		Fast      bool      `json:"fast,omitempty"`
		Label     string    `json:"label,omitempty"`
		Standby   bool      `json:"standby,omitempty"` // it is taken from the standby of backup.conninfo
		// Needed says that it is asked for because no usable backup was seen, or because the WAL after the newest one is
		// broken. Known are the backups that were seen then: another one that was taken since is as good as this.
		Needed bool     `json:"needed,omitempty"`
		Known  []string `json:"known,omitempty"`
		// RepositoryIDs is as RecordGap's, of Repositories.
		RepositoryIDs map[string]string `json:"repository_ids,omitempty"`
	}
	// RemoveIncomplete decides `aborted` for backups whose writer is dead, and removes what they left.
	RemoveIncomplete struct {
		Server     string   `json:"server"`
		SystemID   string   `json:"system_id"`
		Repository string   `json:"repository"`
		Backups    []string `json:"backups"`
		// RepositoryID is the id in its REPOSITORY.json, so that another one under the same label is not meant. Empty: not known.
		RepositoryID string `json:"repository_id,omitempty"`
	}
	// Prune deletes the backups named, no others.
	Prune struct {
		Server     string   `json:"server"`
		SystemID   string   `json:"system_id"`
		Repository string   `json:"repository"`
		Backups    []string `json:"backups"`
		// Sweep says that the backups have their TOMB for a day already: only what they left is removed.
		Sweep bool `json:"sweep,omitempty"`
		// Clock is DeletionClock's when the plan was made: the step never takes the time to be later. Zero: nothing that
		// waits for a time goes.
		Clock        time.Time `json:"clock,omitzero"`
		RepositoryID string    `json:"repository_id,omitempty"` // as RemoveIncomplete's
	}
	// PruneWAL deletes the archived WAL of these ranges, both ends of which are segment borders, and the pushed parts of
	// segments that are archived whole. StaleParts says that such parts alone are a reason.
	PruneWAL struct {
		Server       string      `json:"server"`
		SystemID     string      `json:"system_id"`
		Repository   string      `json:"repository"`
		Ranges       []wal.Range `json:"ranges,omitempty"`
		StaleParts   bool        `json:"stale_parts,omitempty"`
		Clock        time.Time   `json:"clock,omitzero"`          // as Prune's
		RepositoryID string      `json:"repository_id,omitempty"` // as RemoveIncomplete's
	}
	// RecoverTo restores a backup and prepares PostgreSQL to recover to the target.
	RecoverTo struct {
		Recovery string `json:"recovery"`
		Route    Route  `json:"route"`
		// Start says that PostgreSQL is then started there, and waited for until it has reached the target.
		Start bool `json:"start,omitempty"`
		// Major is the version of the cluster, and so of the programs that start it; 0: not known.
		Major int `json:"major,omitempty"`
		// Checks are asked of the started server when it is at the target.
		Checks []hclspec.Check `json:"checks,omitempty"`
		// RepositoryIDs is as RecordGap's, of the route's repository and of the server's others, which are read when it fails.
		RepositoryIDs map[string]string `json:"repository_ids,omitempty"`
	}
	// Verify proves what one repository holds of one cluster, and keeps what it found as evidence.
	Verify struct {
		Server     string `json:"server"`
		SystemID   string `json:"system_id"`
		Repository string `json:"repository"`
		Level      string `json:"level"`              // quick | full
		Sample     int    `json:"sample,omitempty"`   // percent of volumes and segments; 0: all
		MaxRate    int64  `json:"max_rate,omitempty"` // bytes a second; 0: as fast as it goes
		// Since is when it became due: a look that began then or later is the one.
		Since        time.Time `json:"since,omitzero"`
		RepositoryID string    `json:"repository_id,omitempty"` // as RemoveIncomplete's
	}
	// Drill recovers a server for real into a scratch directory, the path of the route's destination, starts PostgreSQL there,
	// asks it, removes it all, and keeps what it has shown as evidence.
	Drill struct {
		Drill        string          `json:"drill"` // name of the block
		Route        Route           `json:"route"`
		Major        int             `json:"major"`
		RepositoryID string          `json:"repository_id,omitempty"` // as RemoveIncomplete's
		Amcheck      string          `json:"amcheck"`                 // full | index | off
		Canaries     int             `json:"canaries,omitempty"`      // tables of each database whose rows are counted
		MaxShrink    int             `json:"max_shrink,omitempty"`    // percent
		Timeout      string          `json:"timeout"`                 // a duration, as "12h0m0s"
		Checks       []hclspec.Check `json:"checks,omitempty"`
		// Since is when it became due: a drill that began then or later is the one.
		Since time.Time `json:"since,omitzero"`
	}
	// CopyBackup copies one backup from one repository of the server into another, under the same id.
	CopyBackup struct {
		Server       string `json:"server"`
		SystemID     string `json:"system_id"`
		From         string `json:"from"`
		FromID       string `json:"from_id,omitempty"` // as RemoveIncomplete's RepositoryID, of From
		Repository   string `json:"repository"`        // that gets it
		RepositoryID string `json:"repository_id,omitempty"`
		Backup       string `json:"backup"`
	}
	// CopyWAL copies archived WAL from one repository of the server into another. Both ends of each range are segment borders.
	CopyWAL struct {
		Server       string         `json:"server"`
		SystemID     string         `json:"system_id"`
		From         string         `json:"from"`
		FromID       string         `json:"from_id,omitempty"`
		Repository   string         `json:"repository"` // that gets it
		RepositoryID string         `json:"repository_id,omitempty"`
		Ranges       []wal.Range    `json:"ranges,omitempty"`
		Histories    []wal.Timeline `json:"histories,omitempty"` // whose history files come first
	}
	// Repair heals damaged and missing objects from other repositories of the server, and verifies again.
	Repair struct {
		Server       string   `json:"server"`
		SystemID     string   `json:"system_id"`
		Repository   string   `json:"repository"`
		RepositoryID string   `json:"repository_id,omitempty"` // as RemoveIncomplete's
		From         []string `json:"from"`                    // in the order in which they are asked
		Objects      []string `json:"objects"`                 // keys: what was found, at most the first hundred
	}
	// ExtendLock locks anew what stays needed for longer than it is locked.
	ExtendLock struct {
		Server       string     `json:"server"`
		SystemID     string     `json:"system_id"`
		Repository   string     `json:"repository"`
		Locks        []LockNeed `json:"locks"`                   // by moment
		RepositoryID string     `json:"repository_id,omitempty"` // as RemoveIncomplete's
	}
	// SwitchWAL asks the server to finish its current segment.
	SwitchWAL struct {
		Server string `json:"server"`
	}
)

// LockNeed is what an ExtendLock keeps locked until one moment at least.
type LockNeed struct {
	Until   time.Time   `json:"until"`
	Backups []string    `json:"backups,omitempty"` // with what they read of others
	WAL     []wal.Range `json:"wal,omitempty"`     // each is told by its first segment, which is extended last, and its last
	Opening bool        `json:"opening,omitempty"` // what opening the cluster takes: REPOSITORY.json, keys, facts, histories
}

// Route is how a recovery gets from a backup to its target.
type Route struct {
	Server, SystemID, Repository string
	SegmentSize                  wal.SegmentSize
	Backup                       string
	Target                       hclspec.Target
	Destination                  hclspec.Destination
	WALWait                      time.Duration
	Path                         []wal.Range  // one for each timeline walked, oldest first: WAL that must exist
	TargetTimeline               wal.Timeline // always a number
	End                          wal.LSN
	Before                       *state.Commit
	After                        *state.Commit
	AtEnd                        bool // the target is after the last commit: recover to the end of WAL
	DataBytes                    int64
	WALBytes                     int64
}

// NotDone is something that was asked for and is not planned, and why.
type NotDone struct {
	What string `json:"what"`
	Why  Reason `json:"why"`
	Hint string `json:"hint,omitempty"`
	Host string `json:"host,omitempty"` // set when only another machine can see or do it
	// Owner is the beginning of the step ids that it stands for: "server.orders.eu"; empty: the whole plan.
	Owner string `json:"owner,omitempty"`
}

// Severity of a Finding.
type Severity string

// The severities: an Error makes `check` exit 8.
const (
	Warning Severity = "warning"
	Error   Severity = "error"
)

// Finding is something true that an operator should know.
type Finding struct {
	Severity Severity
	Code     state.Code
	Subject  string // address or stored name
	Text     string
	Hint     string
	Range    *hcl.Range
}

// Window says what can be recovered of a server from one repository.
type Window struct {
	Server     string     `json:"server"`
	Repository string     `json:"repository"`
	SystemID   string     `json:"system_id,omitempty"` // of a former cluster of this name; empty: the server's own
	Unknown    string     `json:"unknown,omitempty"`   // why nothing is known; empty: known
	Intervals  []Interval `json:"intervals,omitempty"` // oldest first
	Waits      string     `json:"waits,omitempty"`     // what the first backup still waits for, as a sentence; empty: nothing
	Loss       string     `json:"loss,omitempty"`      // "now you would lose 3 s" as a sentence
}

// Interval is a stretch of time in which every moment can be recovered.
type Interval struct {
	From     time.Time    `json:"from"`
	To       time.Time    `json:"to"`
	FromLSN  wal.LSN      `json:"from_lsn"`
	ToLSN    wal.LSN      `json:"to_lsn"`
	Timeline wal.Timeline `json:"timeline"` // at its end
	Backup   string       `json:"backup"`   // the first backup
}

// Due is something that the clock will bring.
type Due struct {
	At      time.Time `json:"at"`
	What    string    `json:"what"`
	Subject string    `json:"subject"`
}

func (CreateRepository) action() string { return "create-repository" }
func (CreateSlot) action() string       { return "create-slot" }
func (ReplaceSlot) action() string      { return "replace-slot" }
func (DropSlot) action() string         { return "drop-slot" }
func (StartReceiver) action() string    { return "start-receiver" }
func (StopReceiver) action() string     { return "stop-receiver" }
func (RecordGap) action() string        { return "record-gap" }
func (FollowTimeline) action() string   { return "follow-timeline" }
func (TakeBackup) action() string       { return "take-backup" }
func (RemoveIncomplete) action() string { return "remove-incomplete" }
func (Prune) action() string            { return "prune" }
func (PruneWAL) action() string         { return "prune-wal" }
func (RecoverTo) action() string        { return "recover-to" }
func (SwitchWAL) action() string        { return "switch-wal" }
func (Verify) action() string           { return "verify" }
func (CopyBackup) action() string       { return "copy-backup" }
func (CopyWAL) action() string          { return "copy-wal" }
func (Repair) action() string           { return "repair" }
func (ExtendLock) action() string       { return "extend-lock" }
func (Drill) action() string            { return "drill" }

// Verb gives the action's name as it is printed: "create-slot".
func Verb(a Action) string { return a.action() }
