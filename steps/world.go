package steps

import (
	"context"
	"time"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// World is everything that steps can touch. Bind gives the real one.
type World struct {
	Servers       Servers
	Repositories  Repositories
	Receivers     Receivers
	Backups       Backups
	Recoveries    Recoveries
	Spools        Spools
	Verifications Verifications
	Copies        Copies
	Drills        Drills
	Locks         Locks
	Journal       Journal
}

// Servers connects to PostgreSQL by stored name, the names of `removed` blocks included.
type Servers interface {
	Connect(ctx context.Context, server string) (Server, error)
	// History fetches the history file of a timeline.
	History(ctx context.Context, server string, t wal.Timeline) ([]byte, error)
	// Serves asks the server for WAL from a position on, and tells whether it still has it.
	Serves(ctx context.Context, server string, t wal.Timeline, from wal.LSN) (bool, error)
}

// Server is one SQL session.
type Server interface {
	Slots
	// Facts looks at the server.
	Facts(ctx context.Context) (state.Server, error)
	// SwitchWAL finishes the current segment and gives the position at which it ended.
	SwitchWAL(ctx context.Context) (wal.LSN, error)
	// TryLock takes an advisory lock for as long as the session lives; state.CodeLocked names its holder.
	TryLock(ctx context.Context, name string) (unlock func(), err error)
	Close() error
}

// Slots are a server's physical replication slots.
type Slots interface {
	// Slot gives nil when there is none of that name.
	Slot(ctx context.Context, name string) (*state.Slot, error)
	// CreateSlot creates a slot that reserves WAL at once; one that exists already is success.
	CreateSlot(ctx context.Context, name string) error
	DropSlot(ctx context.Context, name string) error
}

// Repositories opens repositories by label.
type Repositories interface {
	// Identify gives the repository's id; state.CodeAbsent where one could be created.
	Identify(ctx context.Context, repository string) (id string, err error)
	// Create makes a repository in an absent or empty directory, and completes one that was cut short.
	Create(ctx context.Context, repository string) error
	// Of gives the labels of a server's repositories.
	Of(server string) []string
	// Cluster gives what a repository holds of one cluster.
	Cluster(ctx context.Context, repository, server, systemID string) (Cluster, error)
}

// Cluster is what one repository holds of one PostgreSQL cluster.
type Cluster interface {
	// RepositoryID gives the id of the repository that was opened.
	RepositoryID() string
	Catalogue
	Archive
	Vault
}

// Vault is the object locks of a cluster.
type Vault interface {
	// WALLockedUntil tells until when a stretch is locked, by its first and last segment; store.ErrNotExist: the first is not archived.
	WALLockedUntil(ctx context.Context, r wal.Range) (time.Time, error)
	// OpeningLockedUntil tells it of what opening the cluster takes.
	OpeningLockedUntil(ctx context.Context) (time.Time, error)
	// ExtendLock locks what is needed until that moment at least, and gives how many objects that were.
	ExtendLock(ctx context.Context, n plan.LockNeed) (objects int, err error)
}

// Catalogue is the backups of a cluster and how they go.
type Catalogue interface {
	// Backups lists them, oldest first; one whose writer is dead is `abandoned`.
	Backups(ctx context.Context) ([]state.Backup, error)
	// AbortBackup decides `aborted` unless a decision stands already, and gives what stands.
	AbortBackup(ctx context.Context, id, why string, now time.Time) (state.BackupState, error)
	// RemoveAborted removes what an aborted backup left, and gives the bytes freed. A *repository.LockedError tells that some
	// is locked still, here, of Sweep and of DeleteWAL.
	RemoveAborted(ctx context.Context, id string) (int64, error)
	// RemoveCut removes of a cut backup what nothing reads, and gives the bytes freed; a *repository.LockedError as above.
	RemoveCut(ctx context.Context, id string, now time.Time) (int64, error)
	// Tomb makes a backup invisible; its volumes go when nothing live refers to them.
	Tomb(ctx context.Context, id string, now time.Time) error
	// LockedUntil tells until when nobody can delete the backup; zero: it is not locked.
	LockedUntil(ctx context.Context, id string) (time.Time, error)
	// Sweep removes what is free to go of all tombed and aborted backups, and gives the bytes freed.
	Sweep(ctx context.Context, now time.Time) (int64, error)
}

// Archive is the WAL of a cluster.
type Archive interface {
	WALRanges(ctx context.Context) ([]state.WALRange, error)
	// DeleteWAL deletes the whole segments inside the ranges and gives the bytes freed.
	DeleteWAL(ctx context.Context, ranges []wal.Range) (int64, error)
	Gaps(ctx context.Context) ([]state.Gap, error)
	RecordGap(ctx context.Context, g state.Gap) error
	Histories(ctx context.Context) ([]wal.History, error)
	// PutHistory archives a history file; the same bytes again are success, others state.CodeFork.
	PutHistory(ctx context.Context, t wal.Timeline, content []byte) error
}

// Receivers are the processes or goroutines that stream WAL on this machine.
type Receivers interface {
	// Names gives the slot and the application_name of the server's receiver.
	Names(server string) (slot, application string)
	// Look tells whether the server's receiver runs here.
	Look(ctx context.Context, server string) (state.Receiver, error)
	// Start starts it, detached or in the agent; one that runs is success.
	Start(ctx context.Context, server string) error
	// Stop ends it tidily and returns when it has ended; none running is success.
	Stop(ctx context.Context, server string) error
	// Push has a receiver that runs here bring WAL up to a position into every repository at once, and returns when they
	// hold it, or with an error when ctx ends first. It gives how far they hold it.
	Push(ctx context.Context, server string, upTo wal.LSN) (held wal.LSN, err error)
}

// Backups takes base backups.
type Backups interface {
	// Take takes one backup into every repository of the order.
	Take(ctx context.Context, order plan.TakeBackup, report func(done, total int64)) (Taken, error)
}

// Recoveries restores.
type Recoveries interface {
	// Restored tells whether the destination already holds this very recovery, complete.
	Restored(ctx context.Context, recovery string, r plan.Route) (bool, error)
	// Restore restores. note says what was read from another repository than the route's; empty: nothing.
	Restore(ctx context.Context, a plan.RecoverTo, report func(done, total int64)) (note string, err error)
	// Destination looks at where the recovery would write.
	Destination(ctx context.Context, r plan.Route) (state.Destination, error)
	// Started tells whether the restored server was started and reached its target, and says where that was.
	Started(ctx context.Context, r plan.Route) (reached bool, text string, err error)
	// Ours tells whether the server that runs in the destination is one that Start started for this very recovery.
	Ours(ctx context.Context, r plan.Route) (bool, error)
	// Startable refuses what would keep PostgreSQL of this major version from starting in the destination.
	Startable(ctx context.Context, r plan.Route, major int) error
	// Start starts the restored server and returns when it has reached its target; report is told bytes of WAL, and
	// what else is known of the replay.
	Start(ctx context.Context, recovery string, a plan.RecoverTo, report func(done, total int64, r Replay)) error
}

// Spools are the WAL that was received on this machine.
type Spools interface {
	// Look looks at a server's spool; state.CodeOtherHost where it is on another machine.
	Look(ctx context.Context, server string) (state.Spool, error)
}

// Locks are locks of this machine, for steps that change a repository.
type Locks interface {
	// TryLock takes a lock until unlock; state.CodeLocked names its holder.
	TryLock(ctx context.Context, name string) (unlock func(), err error)
}

// Journal keeps what was applied, in the repositories.
type Journal interface {
	// Write puts the entry into every repository that the entry concerns and that answers.
	Write(ctx context.Context, e JournalEntry) error
}

// JournalEntry is one apply, as it is kept. It holds no secret.
type JournalEntry struct {
	Began        time.Time     `json:"began"`
	Ended        time.Time     `json:"ended"`
	Who          string        `json:"who"` // user@host
	Version      string        `json:"version,omitempty"`
	Digest       string        `json:"digest,omitempty"` // of the plan: every step with its action
	Exit         int           `json:"exit,omitempty"`   // the exit code of the whole
	Servers      []string      `json:"servers,omitempty"`
	Repositories []string      `json:"repositories,omitempty"`
	Steps        []JournalStep `json:"steps"`
	// Facts is how the apply left each of Servers, as far as it could be seen.
	Facts map[string]state.Facts `json:"facts,omitempty"`
}

// JournalStep is one step of a JournalEntry.
type JournalStep struct {
	ID      string  `json:"id"`
	Action  string  `json:"action"`
	Outcome Outcome `json:"outcome"`
	Note    string  `json:"note,omitempty"`
	Code    string  `json:"code,omitempty"`  // of the failure
	Error   string  `json:"error,omitempty"` // its sentence
	Seconds float64 `json:"seconds"`
}
