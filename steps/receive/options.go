package receive

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres"
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

	asked <-chan os.Signal // each asks for a push at once; see PushSignal
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
	Identify(ctx context.Context) (state.Server, error)         // who answers: host, system identifier, in recovery, timeline, end of WAL
	Slot(ctx context.Context, name string) (*state.Slot, error) // nil: absent
	CreateSlot(ctx context.Context, name string) error
	AdvanceSlot(ctx context.Context, name string, to wal.LSN) error
	SwitchWAL(ctx context.Context) (wal.LSN, error)
	TerminateBackend(ctx context.Context, pid int) error
	Close() error
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
