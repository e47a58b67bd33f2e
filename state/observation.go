package state

import "time"

// ObservationVersion is the number of the JSON form of an Observation.
const ObservationVersion = 1

// Observation is the world as it was seen in one look. Maps are keyed by stored name ("orders.eu") for servers,
// receivers and spools, by label for repositories and recoveries. A nil map means nothing of that kind was looked for.
type Observation struct {
	Version      int                    `json:"version"`
	At           time.Time              `json:"at"`   // this machine's clock when the look began, UTC
	Host         string                 `json:"host"` // this machine's name, as `host` in the HCL means it
	Servers      map[string]Server      `json:"servers,omitempty"`
	Standbys     map[string]Server      `json:"standbys,omitempty"` // from which backups are taken, where a server block names one
	Repositories map[string]Repository  `json:"repositories,omitempty"`
	Receivers    map[string]Receiver    `json:"receivers,omitempty"`
	Spools       map[string]Spool       `json:"spools,omitempty"`
	Recoveries   map[string]Destination `json:"recoveries,omitempty"` // only of recoveries that were asked for
	Scratches    map[string]Destination `json:"scratches,omitempty"`  // by drill: where its copy would be
	Targets      map[string]TargetFact  `json:"targets,omitempty"`    // by recovery label, likewise
	Remembered   map[string]Remembered  `json:"remembered,omitempty"` // from the journal, by stored name; only when asked for
}

// Unknown says why a part of the world could not be seen. A nil *Unknown means that it was seen.
type Unknown struct {
	Code    Code   `json:"code"`
	Because string `json:"because"`        // one sentence: what was tried and what came back, without secrets
	Hint    string `json:"hint,omitempty"` // the SQL, pg_hba line or command that would change it
}

// Code is a stable name of a cause, printed with errors and findings and used by scripts. Codes are never reused.
type Code string

// The codes of things that keep pgkeep from seeing or doing. Each is explained in docs/errors.md.
const (
	CodeUnreachable        Code = "E-UNREACHABLE"          // no TCP or socket connection
	CodePassword           Code = "E-PASSWORD"             // 28P01
	CodeHBA                Code = "E-HBA"                  // 28000, no pg_hba.conf entry
	CodeRole               Code = "E-ROLE"                 // the role lacks REPLICATION or LOGIN
	CodeTLS                Code = "E-TLS"                  // certificate or negotiation
	CodeTooMany            Code = "E-TOO-MANY-CONNECTIONS" // 53300
	CodeStarting           Code = "E-STARTING"             // 57P03: starting up, shutting down, in recovery without hot_standby
	CodeConninfo           Code = "E-CONNINFO"             // the connection string cannot be used
	CodeVersion            Code = "E-VERSION"              // a PostgreSQL version pgkeep does not speak
	CodeProtocol           Code = "E-PROTOCOL"             // the server does not answer as PostgreSQL does
	CodeIdentity           Code = "E-IDENTITY"             // another system identifier than expected
	CodeFork               Code = "E-FORK"                 // other bytes for a segment or history that is archived already
	CodeGap                Code = "E-GAP"                  // WAL that can no longer be had
	CodeSlotLost           Code = "E-SLOT-LOST"            // wal_status lost
	CodeSlotInUse          Code = "E-SLOT-IN-USE"          // 55006
	CodeSlotAbsent         Code = "E-SLOT-ABSENT"          // 42704, no slot of that name
	CodeStandby            Code = "E-STANDBY"              // a standby without a slot of ours: perhaps about to be promoted
	CodeAhead              Code = "E-AHEAD"                // our position is past the end of this server's WAL
	CodeSettings           Code = "E-SETTINGS"             // a setting of the server stands in the way
	CodeNoRetention        Code = "E-NO-RETENTION"         // no rule says when backups may go: nothing is ever deleted
	CodeReceiver           Code = "E-RECEIVER"             // no receiver runs, or it does not stream
	CodeOverdue            Code = "E-OVERDUE"              // the newest backup, drill or verification is older than it should be, or its try failed
	CodeSize               Code = "E-SIZE"                 // a backup is much smaller than the one before
	CodeSchedule           Code = "E-SCHEDULE"             // a cron expression or time zone that cannot be read
	CodePrivilege          Code = "E-PRIVILEGE"            // 42501
	CodeNotMounted         Code = "E-NOT-MOUNTED"          // the path is absent although an earlier repository points to it
	CodeNotRepository      Code = "E-NOT-REPOSITORY"       // a directory with content and no REPOSITORY.json
	CodeAbsent             Code = "E-ABSENT"               // an empty or absent directory: a repository can be created here
	CodeNewerFormat        Code = "E-NEWER-FORMAT"         // written by a newer pgkeep
	CodeOtherHost          Code = "E-OTHER-HOST"           // lives on another machine
	CodePermission         Code = "E-PERMISSION"           // the operating system refuses
	CodeDiskFull           Code = "E-DISK-FULL"            // ENOSPC, EDQUOT or the configured limit
	CodeIO                 Code = "E-IO"                   // any other failure of a disk or store
	CodeCorrupt            Code = "E-CORRUPT"              // stored bytes are not what was written
	CodeNoKey              Code = "E-NO-KEY"               // encrypted, and no key here opens or signs it
	CodeLocked             Code = "E-LOCKED"               // another pgkeep is doing this
	CodeTarget             Code = "E-TARGET"               // a recovery target that cannot be reached
	CodeMissed             Code = "E-MISSED"               // a recovery that was started ended elsewhere than its target
	CodeCheck              Code = "E-CHECK"                // a recovered server answers a declared check otherwise than it must
	CodeDrill              Code = "E-DRILL"                // a drill has shown that a recovery does not bring back what it should
	CodeObjective          Code = "E-OBJECTIVE"            // more would be lost, or recovery takes longer, than is promised
	CodeDestination        Code = "E-DESTINATION"          // the directory to restore into cannot be used
	CodeStale              Code = "E-STALE"                // the world changed since the plan was made
	CodePlan               Code = "E-PLAN"                 // a saved plan that cannot be read
	CodeNoObjectLock       Code = "E-NO-OBJECT-LOCK"       // objects that were to be retained are not
	CodeUnconditionalStore Code = "E-UNCONDITIONAL-STORE"  // no put-if-absent
)
