package recovery

import (
	"context"
	"iter"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
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
	EveryPageHash(ctx context.Context, visit func(origin string, p repository.PageHashes) error, passed func(backup string, err error)) error
}

// Holder keeps a backup and its WAL from being deleted while they are read; *repository.Cluster is one.
type Holder interface {
	Hold(ctx context.Context, id string, h state.Hold, now time.Time) error
}

// Place is where a repository is.
type Place struct {
	Label string `json:"label"`
	Path  string `json:"path,omitempty"`
	URL   string `json:"url,omitempty"`
	// Encryption says where its keys are, of which it holds none; nil: it is not encrypted.
	Encryption *hclspec.Encryption `json:"encryption,omitempty"`
	// ID of the repository. Restore fills it in; another repository found at the same place is then refused.
	ID string `json:"id,omitempty"`
}

// Options say what to restore and with what.
type Options struct {
	Route    plan.Route
	Backup   Backup
	Holder   Holder       // nil: nothing is held; expiry leaves 24 hours all the same
	Places   []Place      // repositories that wal-get may ask, the route's own first
	Spool    string       // directory of the receiver's spool on this machine, for WAL that no repository has yet; empty: none
	Program  string       // absolute path of the pgkeep that restore_command runs
	Settings wal.Settings // the largest that the route's WAL asks for; zero: pg_control alone decides
	// Isolated is the directory of the socket over which alone the copy is reached, for a drill; empty: an ordinary copy.
	Isolated string
	Workers  int // 0: one for each CPU
	Now      func() time.Time
	Report   func(done, total int64) // bytes; nil: nobody listens
}

// Evidence is what a restore did, kept in the repository. Measured rates are taken from it.
type Evidence struct {
	Recovery string    `json:"recovery,omitempty"`
	Server   string    `json:"server"`
	SystemID string    `json:"system_id"`
	Backup   string    `json:"backup"`
	Path     string    `json:"path"`
	Target   string    `json:"target"`
	Resumed  bool      `json:"resumed,omitempty"`
	Began    time.Time `json:"began"`
	Ended    time.Time `json:"ended"`
	Phases   []Phase   `json:"phases"`
	Notes    []string  `json:"notes,omitempty"`   // what an operator should know of the copy
	Reached  *Reached  `json:"reached,omitempty"` // where the recovery ended, when it was watched
	// Fetched is how many bytes were read from volumes of the repository, as stored.
	Fetched int64 `json:"fetched,omitempty"`
	// Over says that it was restored over a data directory of the same cluster, of which Removed files and directories went.
	Over    bool  `json:"over,omitempty"`
	Removed int64 `json:"removed,omitempty"`
}

// Phase is one part of a restore and how long it took.
type Phase struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
	Bytes   int64   `json:"bytes,omitempty"`
}

// holdFor is how long the backup and its WAL are kept from expiry, from the start of a restore: the recovery that follows
// reads WAL too, and nobody tells when it ends.
const holdFor = 48 * time.Hour

// Restore writes the backup of the route into its destination and prepares it so that PostgreSQL, once started there,
// recovers to the target. It refuses a destination that is not empty, in which a server runs, that is a symbolic link, or
// that cannot be given to its owner. A restore of the same backup that was cut short is completed. With Destination.Overwrite a
// stopped data directory of the same cluster is restored over: only pages that differ are fetched, and what the backup does not
// have is removed. When it returns nil everything is durable.
func Restore(ctx context.Context, o Options) (Evidence, error) {
	r := &restore{Options: o, evidence: Evidence{
		Server: o.Route.Server, SystemID: o.Route.SystemID, Backup: o.Route.Backup, Path: o.Route.Destination.Path,
		Target: targetText(o.Route), Began: o.Now().UTC(),
	}}
	defer r.close()
	phases := []struct {
		name string
		run  func(context.Context) error
	}{
		{"look", r.look},
		{"claim", r.claim},
		{"files", r.files},
		{"wal", r.copyWAL},
		{"configure", r.configure},
		{"sync", r.sync},
		{"finish", r.finish},
	}
	for _, p := range phases {
		began, before := o.Now(), r.written.Load()
		err := p.run(ctx)
		r.evidence.Phases = append(r.evidence.Phases, Phase{
			Name: p.name, Seconds: o.Now().Sub(began).Seconds(), Bytes: r.written.Load() - before,
		})
		r.evidence.Fetched, r.evidence.Removed = r.fetched.Load(), r.removed
		if err != nil {
			return r.evidence, err
		}
	}
	r.evidence.Ended = o.Now().UTC()
	return r.evidence, nil
}

// Restored tells whether the route's destination holds this very recovery, complete. What lies beside the data directory
// outlives it: without pg_control, which is written last, nothing is restored there any more. Where Destination.Overwrite
// asks for it, what a server has written to since, and is no recovery on its way, is to be restored over.
func Restored(route plan.Route) (bool, error) {
	m, err := readMarker(stateDir(route.Destination.Path))
	if err != nil || m == nil || !m.Complete || m.Route != routeDigest(route) {
		return false, err
	}
	now, err := controlDigest(route.Destination.Path)
	if err != nil || now == "" {
		return false, err
	}
	if !route.Destination.Overwrite || now == m.Control {
		return true, nil
	}
	return stillWanted(route)
}

func (r *restore) note(text string) { r.evidence.Notes = append(r.evidence.Notes, text) }
