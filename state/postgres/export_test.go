package postgres

import (
	"context"
	"net"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// Passwords gives what each host of a conninfo would be sent.
func Passwords(c Conninfo) []string {
	var out []string
	for _, h := range c.hosts {
		out = append(out, h.password)
	}
	return out
}

// OnConn makes a walsender session of a connection that is past authentication.
func OnConn(conn net.Conn, version int) *Replication {
	return newReplication(conn, &session{server: "fake:1", user: "pgkeep", version: version}, 1)
}

// OverConn opens a walsender session over a connection that was made already.
func OverConn(ctx context.Context, conn net.Conn) (*Replication, error) {
	c, err := neutralConfig()
	if err != nil {
		return nil, err
	}
	c.LookupFunc = func(context.Context, string) ([]string, error) { return []string{"as.written"}, nil }
	c.DialFunc = func(context.Context, string, string) (net.Conn, error) { return conn, nil }
	pg, err := pgconn.ConnectConfig(ctx, c)
	if err != nil {
		return nil, err
	}
	return (&session{pg: pg, server: "fake:1", user: "pgkeep", version: 150018}).walsender()
}

// BufferSize gives how much a session has set aside for what it reads.
func (r *Replication) BufferSize() int { return len(r.wire.buf) }

// NeutralHost gives what is left of the environment in a configuration for pgconn.
func NeutralHost() (host string, parameters int, err error) {
	c, err := neutralConfig()
	if err != nil {
		return "", 0, err
	}
	o := opener{}
	c.RuntimeParams = o.parameters()
	return c.Host, len(c.RuntimeParams), nil
}

// Ask runs SQL and gives the first field.
func (c *Conn) Ask(ctx context.Context, sql string) (string, error) {
	row, err := c.row(ctx, 1, question{action: "ask", sql: sql})
	if err != nil {
		return "", err
	}
	return string(row[0]), nil
}

// Functions that tests of the decoders call.
var (
	LaneSeed           = laneSeed
	ParseSegmentSize   = parseSegmentSize
	ParseSettingTime   = parseSettingTime
	ParseServerVersion = parseServerVersion
	PostgresEpoch      = time.Unix(postgresEpoch, 0)
)
