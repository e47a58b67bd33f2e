package receive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/state/spool"
	"github.com/pgkeep/pgkeep/state/wal"
)

// Options of one receiver. Values that the language gives defaults to have none here, unless said.
type Options struct {
	Server   string   // stored name
	Slot     string   // physical replication slot
	Identity []string // system identifiers that are allowed; empty: the one that spool and repositories know, or any at first

	Connect  func(context.Context) (*postgres.Replication, error)
	Control  func(context.Context) (Control, error) // an SQL session, used for moments only
	Archives []Archive                              // at least one

	Spool       string // directory of all spools
	SpoolLimit  spool.Limit
	OnSpoolFull Full
	// AllowVolatileSpool accepts tmpfs. It is for tests only.
	AllowVolatileSpool bool

	Acknowledge Acknowledge
	Quorum      int           // with Repository: how many archives must hold WAL; 0: all
	PushEvery   time.Duration // of the unfinished segment, when WAL moved; 0: 10 s
	Timeout     time.Duration // a server silent for so long is dead; 0: 30 s
	SwitchEvery time.Duration // an unfinished segment is ended after so long, when the role may; 0: 1 h; negative: never

	Holder spool.Holder // who runs this
	Log    *slog.Logger // nil: nothing is logged
	// Notice is told each change of what the receiver reports about itself, problems above all. It must not block.
	Notice func(state.Receiver)
}

// Acknowledge says where WAL must be durable before the server is told that it is flushed.
type Acknowledge string

// The places of acknowledgement.
const (
	Spool      Acknowledge = "spool"
	Repository Acknowledge = "repository"
)

// Full says which wins when the spool is full: the archive (Wait: the slot keeps the WAL) or the server (Gap: the slot
// lets go, and what is lost is recorded).
type Full string

// The answers to a full spool.
const (
	Wait Full = "wait"
	Gap  Full = "gap"
)

// Control is what a receiver asks of the server by SQL. *postgres.Conn is one.
type Control interface {
	Slot(ctx context.Context, name string) (*state.Slot, error) // nil: absent
	CreateSlot(ctx context.Context, name string) error
	AdvanceSlot(ctx context.Context, name string, to wal.LSN) error
	SwitchWAL(ctx context.Context) (wal.LSN, error)
	TerminateBackend(ctx context.Context, pid int) error
	Close() error
}

// Archive is one repository's WAL of this server, opened when it can be.
type Archive struct {
	Name string // the repository's label
	// Open gives the cluster in the repository, with its facts ensured. It is called again after a failure, with back-off.
	Open func(ctx context.Context, c ClusterIdentity) (Cluster, error)
	// SystemIDs lists the system identifiers that the repository has under the server's name. It is asked before the
	// first byte when neither Identity nor the spool tells; nil: nothing is known there.
	SystemIDs func(ctx context.Context) ([]string, error)
}

// ClusterIdentity is what the stream tells about the cluster that it comes from.
type ClusterIdentity struct {
	Name        string
	SystemID    string
	Major       int // 0: not known yet, because only the spool was asked
	SegmentSize wal.SegmentSize
}

// Cluster is what a receiver does in a repository. *repository.Cluster is one.
type Cluster interface {
	PutSegment(ctx context.Context, seg wal.Segment, sum wal.Summary, plain io.ReaderAt) error
	PutPartial(ctx context.Context, seg wal.Segment, upTo wal.LSN, plain io.ReaderAt) error
	OpenPartial(ctx context.Context, seg wal.Segment) (*repository.WALReader, wal.LSN, error)
	OpenSegment(ctx context.Context, seg wal.Segment) (*repository.WALReader, error)
	PutHistory(ctx context.Context, t wal.Timeline, content []byte) error
	RecordGap(ctx context.Context, g state.Gap) error
	WALRanges(ctx context.Context) ([]state.WALRange, error)
	WriteIndex(ctx context.Context, t wal.Timeline) error
}

// maxPushSegment bounds acknowledge = "repository": the unfinished segment is pushed whole every second.
const maxPushSegment = 64 << 20

func (o *Options) check() error {
	switch {
	case o.Server == "" || o.Slot == "" || o.Spool == "":
		return errors.New("receive: server, slot and spool are needed")
	case o.Connect == nil || o.Control == nil:
		return errors.New("receive: no way to connect")
	case len(o.Archives) == 0:
		return fmt.Errorf("receive WAL of %s: no repository to put it into", o.Server)
	case o.Quorum < 0 || o.Quorum > len(o.Archives):
		return fmt.Errorf("receive WAL of %s: a quorum of %d among %d repositories", o.Server, o.Quorum, len(o.Archives))
	case o.Acknowledge != "" && o.Acknowledge != Spool && o.Acknowledge != Repository:
		return fmt.Errorf("receive WAL of %s: acknowledge %q is neither spool nor repository", o.Server, o.Acknowledge)
	case o.OnSpoolFull != "" && o.OnSpoolFull != Wait && o.OnSpoolFull != Gap:
		return fmt.Errorf("receive WAL of %s: on_spool_full %q is neither wait nor gap", o.Server, o.OnSpoolFull)
	}
	return nil
}

func (o Options) withDefaults() Options {
	setDefault(&o.Acknowledge, Spool)
	setDefault(&o.OnSpoolFull, Wait)
	setDefault(&o.PushEvery, 10*time.Second)
	setDefault(&o.Timeout, 30*time.Second)
	setDefault(&o.SwitchEvery, time.Hour)
	setDefault(&o.Quorum, len(o.Archives))
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Notice == nil {
		o.Notice = func(state.Receiver) {}
	}
	return o
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}
