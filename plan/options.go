package plan

import (
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
)

// Options are the requests that one command adds to the configuration. The zero value asks only that the world match it.
type Options struct {
	// Recover names a recovery block to plan.
	Recover string `json:"recover,omitempty"`
	// RecoverTo is a recovery put together from flags. Its Name is the key of what was observed for it.
	RecoverTo *hclspec.Recovery `json:"recover_to,omitempty"`
	// Backup is the id of the backup to recover from; empty: the best one is chosen.
	Backup string `json:"backup,omitempty"`
	// Start has the recovered server started, and waited for until it has reached the target.
	Start bool `json:"start,omitempty"`
	// AcceptLoss lets `latest` mean the end of the archived WAL when the receiver's machine could not be asked.
	AcceptLoss bool `json:"accept_loss,omitempty"`
	// BackupNow plans base backups by hand, and nothing else.
	BackupNow *BackupNow `json:"backup_now,omitempty"`
	// Switch plans a WAL segment switch on these servers, and nothing else.
	Switch []string `json:"switch,omitempty"`
	// Delete plans the deletion of backups by id, and nothing else.
	Delete *DeleteBackups `json:"delete,omitempty"`
	// Repair plans to heal what verification found damaged, and nothing else.
	Repair *RepairDamage `json:"repair,omitempty"`
	// Drill plans one drill, and nothing else.
	Drill *DrillNow `json:"drill,omitempty"`
	// IgnoreDue leaves out what only the clock asks for, so that drift can be told from schedules.
	IgnoreDue bool `json:"ignore_due,omitempty"`
	// Targets are the addresses or step ids to which the plan is limited, with the steps that they need; none: no limit.
	Targets []string `json:"targets,omitempty"`
	// Exclude are the addresses or step ids that are left out, with the steps that need them.
	Exclude []string `json:"exclude,omitempty"`
	// Replace are parts of servers that are made anew though nothing is wrong with them: "server.orders/slot" is dropped
	// and created, "server.orders/backup" is taken.
	Replace []string `json:"replace,omitempty"`
	// RefreshOnly plans no step, and says instead what changed since the newest entry of the journal, without pgkeep.
	RefreshOnly bool `json:"refresh_only,omitempty"`
	// Recorded says that the observation was recorded earlier and read from a file. Such a plan is never applied.
	Recorded bool `json:"recorded,omitempty"`
	// Suppose says that now is a supposition (plan --now) and no clock: the clocks of servers and stores are taken to
	// have moved with it. Such a plan answers a question and is never applied.
	Suppose bool `json:"suppose,omitempty"`
}

// BackupNow asks for base backups outside of any schedule.
type BackupNow struct {
	Servers []string // stored names
	Kind    string   // auto | full | incremental, which is full where there is nothing to build on; empty: full
	Fast    bool     // ask for an immediate checkpoint
	Label   string
}

// DeleteBackups asks for backups to be deleted by hand.
type DeleteBackups struct {
	Server     string
	Repository string // empty: every repository of the server
	Backups    []string
}

// DrillNow asks for a drill outside of its schedule.
type DrillNow struct {
	Name string // of the drill block
}

// alone tells whether the options ask for one act only, so that the rest of the configuration is left as it is.
func (o Options) alone() bool {
	return o.Recover != "" || o.RecoverTo != nil || o.BackupNow != nil || len(o.Switch) > 0 || o.Delete != nil || o.Repair != nil || o.Drill != nil
}

// dayAfterTomb is how long a deleted backup still counts as live, for its volumes and for WAL.
const dayAfterTomb = 24 * time.Hour

// Hypothetical tells whether the plan answers a question about a moment or a world that is not this one. Such a plan
// must not be applied.
func (o Options) Hypothetical() bool { return o.Suppose || o.Recorded || o.RefreshOnly }
