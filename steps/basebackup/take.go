package basebackup

import (
	"context"
	"errors"
	"time"

	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/repository"
)

// Options say how to take the backup. ID, Now and Random are arguments so that a test decides them.
type Options struct {
	Server       string // stored name, for messages
	Label        string
	Kind         string // full; incrementals come with later work
	Schedule     string
	Checkpoint   string // fast | spread
	MaxRate      int64  // bytes a second; 0: no bound
	Compression  string // of the transfer: "" or none, gzip, lz4, zstd with an optional level
	VerifyPages  bool
	FromStandby  bool
	Host         string        // this machine, as START names it
	Program      string        // "pgkeep 0.1.0"
	LockDir      string        // writer locks live here; every pgkeep of this machine looks in the same place
	Captured     []byte        // settings and hba rules as JSON; nil where the role could not read them
	Relations    []byte        // names of relations by relfilenode as JSON; nil: not known
	StallTimeout time.Duration // a repository that takes nothing for so long is given up; 0: 5 minutes
	Now          func() time.Time
	Random       func() uint32
	Report       func(Progress) // nil: none; called at most four times a second
	Budget       *repository.Budget
}

// Progress is how far the backup is.
type Progress struct {
	Phase   string // waiting for the checkpoint | copying | finishing
	Done    int64  // bytes received
	Total   int64  // as the server estimated; 0: not known
	Stored  int64
	Rate    float64 // bytes a second, of the last seconds
	ETA     time.Duration
	Elapsed time.Duration
}

// Outcome is what became of the backup in one repository.
type Outcome struct {
	Repository string // location
	Committed  bool
	Stored     int64
	Err        error
}

// Result is what became of the backup.
type Result struct {
	ID       string
	Info     postgres.BackupResult
	Bytes    int64
	Files    int64
	Outcomes []Outcome
	Damaged  []repository.DamagedPages
	Suspects []repository.DamagedPages
}

// Take takes one base backup into every destination, in one pass.
func Take(ctx context.Context, conn *postgres.Replication, dst []*repository.Cluster, o Options) (Result, error) {
	return Result{}, errors.New("not built yet")
}
