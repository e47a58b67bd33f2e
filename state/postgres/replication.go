package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// Replication is a walsender session. It runs one command at a time and is not safe for concurrent use, but for what
// Stream says. After an error of the connection every call fails; after an error of the server it can go on.
type Replication struct {
	wire    *wire
	server  string
	user    string
	version int
	pid     uint32
	broken  error // why the connection can no longer be used
	closing sync.Once
	closed  error // of closing
}

// ConnectReplication opens a walsender session for physical replication with the first host that fits.
func ConnectReplication(ctx context.Context, c Conninfo, o ConnectOptions) (*Replication, error) {
	s, err := opener{info: c, options: o, replication: true}.open(ctx)
	if err != nil {
		return nil, err
	}
	return s.walsender()
}

func newReplication(conn net.Conn, s *session, pid uint32) *Replication {
	return &Replication{wire: newWire(conn), server: s.server, user: s.user, version: s.version, pid: pid}
}

// Host gives the host and port that answered.
func (r *Replication) Host() string { return r.server }

// Version gives server_version_num, for example 150018.
func (r *Replication) Version() int { return r.version }

// PID gives the walsender's process id on the server.
func (r *Replication) PID() int { return int(r.pid) }

// Received gives how many bytes have come over the connection since it was authenticated, before TLS wrapped them.
func (r *Replication) Received() int64 { return r.wire.got.Load() }

// Close ends the session without waiting for the server. It may be called while another call is running, which then
// fails, and more than once.
func (r *Replication) Close() error {
	r.closing.Do(func() { r.closed = r.wire.close() })
	return r.closed
}

// System is what IDENTIFY_SYSTEM says.
type System struct {
	ID       string       // system identifier, decimal
	Timeline wal.Timeline // the server's current one
	FlushLSN wal.LSN      // end of flushed WAL; on a standby, of received or replayed WAL
}

// IdentifySystem asks who the server is and where its WAL ends.
func (r *Replication) IdentifySystem(ctx context.Context) (System, error) {
	row, err := r.askRow(ctx, "IDENTIFY_SYSTEM", "identify "+r.server, 4)
	if err != nil {
		return System{}, err
	}
	s := System{ID: string(row[0])}
	err = checkSystemID(s.ID)
	if err == nil {
		s.Timeline, err = parseTimeline(string(row[1]))
	}
	if err == nil {
		s.FlushLSN, err = wal.ParseLSN(string(row[2]))
	}
	if err != nil {
		return System{}, classifier{action: "identify " + r.server}.problem(protocolError("%v", err))
	}
	return s, nil
}

// SegmentSize asks for the cluster's WAL segment size.
func (r *Replication) SegmentSize(ctx context.Context) (wal.SegmentSize, error) {
	action := "ask " + r.server + " for wal_segment_size"
	row, err := r.askRow(ctx, "SHOW wal_segment_size", action, 1)
	if err != nil {
		return 0, err
	}
	z, err := parseSegmentSize(string(row[0]))
	if err != nil {
		return 0, classifier{action: action}.problem(protocolError("%v", err))
	}
	return z, nil
}

// SenderTimeout asks after how long without word from its receiver a walsender of this session ends it, wal_sender_timeout;
// zero: never. A change of the setting is followed by walsenders that run.
func (r *Replication) SenderTimeout(ctx context.Context) (time.Duration, error) {
	action := "ask " + r.server + " for wal_sender_timeout"
	row, err := r.askRow(ctx, "SHOW wal_sender_timeout", action, 1)
	if err != nil {
		return 0, err
	}
	d, err := parseSettingTime(string(row[0]))
	if err != nil {
		return 0, classifier{action: action}.problem(protocolError("%v", err))
	}
	return d, nil
}

// TimelineHistory asks for the content of a timeline's history file. Timeline 1 has none. When the server has no such
// file the error is fs.ErrNotExist.
func (r *Replication) TimelineHistory(ctx context.Context, t wal.Timeline) ([]byte, error) {
	action := fmt.Sprintf("fetch the history of timeline %d from %s", t, r.server)
	if t <= 1 {
		return nil, &state.Error{Code: state.CodeAbsent, Text: action, Err: fs.ErrNotExist}
	}
	row, err := r.askRow(ctx, fmt.Sprintf("TIMELINE_HISTORY %d", t), action, 2)
	if sqlState(err) == "58P01" {
		return nil, &state.Error{Code: state.CodeAbsent, Text: action, Err: fs.ErrNotExist}
	}
	if err != nil {
		return nil, err
	}
	if string(row[0]) != t.HistoryName() || len(row[1]) == 0 {
		return nil, classifier{action: action}.problem(protocolError("the file %q", cleanText(string(row[0]))))
	}
	return row[1], nil
}

// sqlState gives the SQLSTATE under an error; empty: none.
func sqlState(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}

// askRow runs a command that answers with one row of at least n fields, none of them NULL among the first three.
func (r *Replication) askRow(ctx context.Context, command, action string, n int) ([][]byte, error) {
	var rows [][][]byte
	err := r.command(ctx, action, func() error {
		if err := r.wire.sendQuery(ctx, command); err != nil {
			return err
		}
		var err error
		if rows, err = r.resultSet(); err != nil {
			return err
		}
		return r.readyForQuery()
	})
	if err != nil {
		return nil, err
	}
	if len(rows) != 1 || len(rows[0]) != n {
		return nil, classifier{action: action}.problem(protocolError("%d rows", len(rows)))
	}
	return rows[0], nil
}

// command runs one exchange with the server and makes a state.Error of what goes wrong. An error of the server leaves
// the session usable; any other breaks it.
func (r *Replication) command(ctx context.Context, action string, exchange func() error) error {
	c := classifier{action: action, role: r.user, replication: true}
	if r.broken != nil {
		return c.problem(r.broken)
	}
	err := r.wire.bounded(ctx, time.Time{}, func() error {
		err := exchange()
		var pg *pgconn.PgError
		if errors.As(err, &pg) {
			r.settle(pg)
		} else if err != nil {
			r.broken = err
		}
		return err
	})
	var own sinkError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &own):
		return own
	}
	return c.problem(err)
}

// settle reads what follows an error, up to the point where the server takes the next command.
func (r *Replication) settle(pg *pgconn.PgError) {
	if pg.Severity == "FATAL" || pg.Severity == "PANIC" || pg.SeverityUnlocalized == "FATAL" || pg.SeverityUnlocalized == "PANIC" {
		r.broken = pg
		return
	}
	for range maxRows {
		kind, _, err := r.wire.next()
		if err != nil && kind != 'E' {
			r.broken = err
			return
		}
		if kind == 'Z' {
			return
		}
	}
	r.broken = protocolError("no end after an error")
}

// The bounds of one answer to a replication command.
const (
	maxRows       = 100_000
	maxAnswerWire = 16 << 20
)

// resultSet reads RowDescription, rows and CommandComplete.
func (r *Replication) resultSet() ([][][]byte, error) {
	kind, _, err := r.wire.next()
	if err != nil {
		return nil, err
	}
	if kind != 'T' {
		return nil, protocolError("%q instead of a result", kind)
	}
	return r.rowsAfterDescription()
}

func (r *Replication) rowsAfterDescription() (rows [][][]byte, err error) {
	size := 0
	for {
		kind, body, err := r.wire.next()
		switch {
		case err != nil:
			return nil, err
		case kind == 'C':
			return rows, nil
		case kind != 'D':
			return nil, protocolError("%q in a result", kind)
		}
		row, err := dataRow(body)
		if err != nil {
			return nil, err
		}
		size += len(body)
		if rows = append(rows, row); len(rows) > maxRows || size > maxAnswerWire {
			return nil, protocolError("a result without end")
		}
	}
}

func dataRow(body []byte) ([][]byte, error) {
	var m pgproto3.DataRow
	if err := m.Decode(body); err != nil {
		return nil, protocolError("a row that cannot be read")
	}
	out := make([][]byte, len(m.Values))
	for i, v := range m.Values {
		if v != nil {
			out[i] = append([]byte{}, v...)
		}
	}
	return out, nil
}

// readyForQuery reads up to the point where the server takes the next command.
func (r *Replication) readyForQuery() error {
	for range maxRows {
		kind, _, err := r.wire.next()
		switch {
		case err != nil:
			return err
		case kind == 'Z':
			return nil
		case kind != 'C':
			return protocolError("%q at the end of a command", kind)
		}
	}
	return protocolError("a command without end")
}
