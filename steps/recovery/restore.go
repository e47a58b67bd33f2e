package recovery

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/state/wal"
)

// Backup is what a restore reads; *repository.BackupReader is one.
type Backup interface {
	Info() state.Backup
	Folders() []repository.Folder
	Files(ctx context.Context) iter.Seq2[repository.File, error]
	BackupLabel(ctx context.Context) ([]byte, error)
	Captured(ctx context.Context) ([]byte, error)
	Pieces(ctx context.Context, o repository.PieceOptions, write func(repository.Piece) error) error
}

// Place is where a repository is.
type Place struct {
	Label string `json:"label"`
	Path  string `json:"path,omitempty"`
	URL   string `json:"url,omitempty"`
}

// Options say what to restore and with what.
type Options struct {
	Route    plan.Route
	Backup   Backup
	Places   []Place      // repositories that wal-get may ask, the route's own first
	Program  string       // absolute path of the pgkeep that restore_command runs
	Settings wal.Settings // the largest that the route's WAL asks for; zero: pg_control alone decides
	Workers  int          // 0: one for each CPU
	Now      func() time.Time
	Report   func(done, total int64) // bytes; nil: nobody listens
}

// Evidence is what a restore did, kept in the repository.
type Evidence struct {
	Recovery string    `json:"recovery,omitempty"`
	Server   string    `json:"server"`
	Backup   string    `json:"backup"`
	Path     string    `json:"path"`
	Began    time.Time `json:"began"`
	Phases   []Phase   `json:"phases"`
	Notes    []string  `json:"notes,omitempty"` // what an operator should know of the copy
}

// Phase is one part of a restore and how long it took.
type Phase struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
	Bytes   int64   `json:"bytes,omitempty"`
}

var errNotBuilt = errors.New("not built yet")

// Restore writes the backup of the route into its destination and prepares it so that PostgreSQL recovers to the target.
func Restore(ctx context.Context, o Options) (Evidence, error) { return Evidence{}, errNotBuilt }

// Restored tells whether the route's destination holds this very recovery, complete.
func Restored(r plan.Route) (bool, error) { return false, errNotBuilt }

// The exit codes of wal-get.
const (
	ExitGot    = 0
	ExitAbsent = 10
	ExitFailed = 255
)

// WALGetOptions are the arguments of wal-get.
type WALGetOptions struct {
	Route string // the route file
	Name  string // %f
	Into  string // %p
}

// WALGet hands PostgreSQL one file of its WAL archive and gives the exit code. It never panics.
func WALGet(ctx context.Context, o WALGetOptions) (exit int, err error) {
	return ExitFailed, errNotBuilt
}
