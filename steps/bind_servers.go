package steps

import (
	"context"
	"errors"
	"time"

	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/wal"
)

// connectTimeout is for one attempt to reach one host.
const connectTimeout = 10 * time.Second

type realServers struct{ real }

func (r realServers) Connect(ctx context.Context, server string) (Server, error) {
	conninfo, err := r.conninfo(server)
	if err != nil {
		return nil, err
	}
	conn, err := postgres.Connect(ctx, conninfo, postgres.ConnectOptions{
		ApplicationName: applicationName("pgkeep apply " + r.o.Who), Timeout: connectTimeout,
	})
	if err != nil {
		return nil, err // not the nil pointer: it would be a Server that is not nil
	}
	return conn, nil
}

// applicationName cuts to what PostgreSQL keeps of a name.
func applicationName(s string) string { return s[:min(len(s), 63)] }

func (r realServers) replication(ctx context.Context, server, application string) (*postgres.Replication, error) {
	conninfo, err := r.conninfo(server)
	if err != nil {
		return nil, err
	}
	return postgres.ConnectReplication(ctx, conninfo, postgres.ConnectOptions{
		ApplicationName: applicationName(application), Timeout: connectTimeout,
	})
}

func (r realServers) History(ctx context.Context, server string, t wal.Timeline) (content []byte, err error) {
	conn, err := r.replication(ctx, server, "pgkeep apply "+r.o.Who)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	return conn.TimelineHistory(ctx, t)
}
