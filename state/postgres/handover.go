package postgres

import (
	"errors"
	"net"
	"os"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// walsender makes a walsender's session of a connection that pgconn opened.
func (s *session) walsender() (*Replication, error) {
	conn, pid, err := s.takeOver()
	if err != nil {
		return nil, classifier{action: "take over the connection to " + s.server}.problem(err)
	}
	return newReplication(conn, s, pid), nil
}

// takeOver ends pgconn's part in a session that has just opened, and gives the bare connection and the server process.
//
// pgconn starts to read in the background whenever a write takes longer than 15 ms, as on a machine that is busy, and such
// a read may outlast the handshake: it would take the beginning of what the server answers to our first command. pgconn's
// own remedy, SyncConn, sends a query, which a walsender refuses. Here a deadline that has passed ends that read, and lets
// none follow, until pgconn has nothing left and reads no more.
func (s *session) takeOver() (net.Conn, uint32, error) {
	h, err := s.pg.Hijack()
	if err != nil {
		return nil, 0, err
	}
	err = h.Conn.SetReadDeadline(time.Unix(1, 0))
	if err == nil {
		err = drain(h.Frontend)
	}
	if err == nil {
		err = h.Conn.SetDeadline(time.Time{})
	}
	if err != nil {
		_ = h.Conn.Close()
		return nil, 0, err
	}
	if g, ok := h.Conn.(*startupGate); ok {
		return g.Conn, h.PID, nil
	}
	return h.Conn, h.PID, nil
}

// drain reads what pgconn has of a connection whose read deadline has passed, after its background read has ended. The
// server has nothing to say then that was not asked for, but notices and parameters, which may come at any time.
func drain(f *pgproto3.Frontend) error {
	for {
		m, err := f.Receive()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded) && f.ReadBufferLen() == 0:
			return nil
		case err != nil:
			return protocolError("it speaks unasked, and breaks off")
		}
		switch m.(type) {
		case *pgproto3.NoticeResponse, *pgproto3.ParameterStatus:
		default:
			return protocolError("it speaks unasked")
		}
	}
}
