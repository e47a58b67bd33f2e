package receive

import (
	"context"
	"time"

	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/wal"
)

// connection is what the receiver asks of a walsender session.
type connection interface {
	IdentifySystem(context.Context) (postgres.System, error)
	Version() int // server_version_num
	PID() int     // of the walsender
	SegmentSize(context.Context) (wal.SegmentSize, error)
	SenderTimeout(context.Context) (time.Duration, error)
	TimelineHistory(context.Context, wal.Timeline) ([]byte, error)
	Stream(context.Context, postgres.StreamOptions) (stream, error)
	Close() error
}

// stream is a running WAL stream. *postgres.Stream is one.
type stream interface {
	Next(ctx context.Context, deadline time.Time) (postgres.Message, error)
	Buffered() bool
	SendStatus(context.Context, postgres.Status) error
	Close() error
}

// walsender makes *postgres.Replication a connection.
type walsender struct{ *postgres.Replication }

func (w walsender) Stream(ctx context.Context, o postgres.StreamOptions) (stream, error) {
	s, err := w.Replication.Stream(ctx, o)
	if err != nil {
		return nil, err
	}
	return s, nil
}

func connect(ctx context.Context, o *Options) (connection, error) {
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	r, err := o.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return walsender{r}, nil
}
