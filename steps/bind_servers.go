package steps

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/pgkeep/pgkeep/state"
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
		ApplicationName: applyName(r.o.Who, os.Getpid()), Timeout: connectTimeout,
	})
	if err != nil {
		return nil, err // not the nil pointer: it would be a Server that is not nil
	}
	return conn, nil
}

// applyName is what a server shows of a session of ours, and what somebody who meets our lock reads: whose apply it is,
// on which machine, as which process. A long name of the machine gives way to the process.
func applyName(who string, pid int) string {
	end := fmt.Sprintf(" pid %d", pid)
	name := "pgkeep apply " + who
	return name[:min(len(name), nameMax-len(end))] + end
}

// nameMax is what PostgreSQL keeps of an application_name, in bytes.
const nameMax = 63

// applicationName cuts to what PostgreSQL keeps of a name.
func applicationName(s string) string { return s[:min(len(s), nameMax)] }

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
	conn, err := r.replication(ctx, server, applyName(r.o.Who, os.Getpid()))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	return conn.TimelineHistory(ctx, t)
}

// servesPatience is how long a server may take to send the first byte of WAL that it has.
const servesPatience = 5 * time.Second

// Serves streams without a slot, so that nobody's position moves, until the first message.
func (r realServers) Serves(ctx context.Context, server string, t wal.Timeline, from wal.LSN) (serves bool, err error) {
	conn, err := r.replication(ctx, server, applyName(r.o.Who, os.Getpid()))
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	size, err := conn.SegmentSize(ctx)
	if err != nil {
		return false, err
	}
	stream, err := conn.Stream(ctx, postgres.StreamOptions{Timeline: t, From: size.Floor(from)})
	if err == nil {
		_, err = stream.Next(ctx, time.Now().Add(servesPatience))
		_ = stream.Close() // the connection ends with it, and its answer is known
	}
	var ended *postgres.EndOfTimeline
	switch {
	case err == nil, errors.Is(err, postgres.ErrIdle), errors.As(err, &ended):
		return true, nil
	case state.CodeOf(err) == state.CodeGap:
		return false, nil
	}
	return false, err
}
