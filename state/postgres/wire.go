package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

const (
	// maxMessage bounds what a walsender may send in one piece. The largest of a real one are 128 KiB of WAL, a block of a
	// compressed backup, and a timeline's history.
	maxMessage = 1 << 20
	// usualBuffer holds a few of the usual messages.
	usualBuffer = 256 << 10
	// writeTimeout bounds a write that nothing else bounds: a few bytes, which only a dead peer does not take.
	writeTimeout = 30 * time.Second
)

// wire reads and writes messages on a walsender's connection. One goroutine may read while another writes.
type wire struct {
	conn   net.Conn
	raw    syscall.RawConn // of the TCP or Unix socket below; nil: unknown
	bare   *bare           // conn itself, where it is a socket; nil: TLS
	buf    []byte
	r, w   int          // buf[r:w] is received and not yet consumed
	got    atomic.Int64 // bytes received
	writes sync.Mutex
	out    []byte
	within time.Duration // bounds each write
}

func newWire(conn net.Conn) *wire {
	return &wire{conn: conn, raw: rawConn(conn), bare: bareOf(conn), buf: make([]byte, usualBuffer), within: writeTimeout}
}

// rawConn digs for the socket under TLS.
func rawConn(conn net.Conn) syscall.RawConn {
	for {
		switch c := conn.(type) {
		case *startupGate:
			conn = c.Conn
		case interface{ NetConn() net.Conn }:
			conn = c.NetConn()
		case syscall.Conn:
			raw, err := c.SyscallConn()
			if err != nil {
				return nil
			}
			return raw
		default:
			return nil
		}
	}
}

// bounded runs read with a read deadline that also the end of ctx brings about. Zero is no deadline. When it returns,
// nothing touches the deadline any more.
func (w *wire) bounded(ctx context.Context, deadline time.Time, read func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := w.conn.SetReadDeadline(deadline); err != nil {
		return err
	}
	fired := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = w.conn.SetReadDeadline(time.Unix(1, 0))
		close(fired)
	})
	err := read()
	if !stop() {
		<-fired
	}
	return contextual(ctx, err)
}

// length gives the size of the first buffered message, its type byte and length word included; 0: not known yet.
func (w *wire) length() int {
	if w.w-w.r < 5 {
		return 0
	}
	return 1 + int(binary.BigEndian.Uint32(w.buf[w.r+1:]))
}

// ready tells whether next would not have to read from the socket.
func (w *wire) ready() bool {
	n := w.length()
	return n > 0 && w.w-w.r >= n
}

// waiting tells whether a message is buffered here or, as far as can be known, by the kernel.
func (w *wire) waiting() bool {
	if w.ready() {
		return true
	}
	need := w.length() - (w.w - w.r)
	if need <= 0 {
		need = 5
	}
	if w.r == w.w {
		w.r, w.w = 0, 0
	}
	room := w.buf[w.w:min(w.w+need, len(w.buf))]
	return len(room) > 0 && w.peek(room) == len(room)
}

// peek gives how many bytes the kernel holds for us, up to the length of p, which it overwrites.
func (w *wire) peek(p []byte) (n int) {
	if w.raw == nil {
		return 0
	}
	_ = w.raw.Control(func(fd uintptr) {
		if k, _, err := syscall.Recvfrom(int(fd), p, syscall.MSG_PEEK|syscall.MSG_DONTWAIT); err == nil {
			n = k
		}
	})
	return n
}

// fill makes at least n bytes available at r. An error, a deadline's too, loses nothing that was received.
func (w *wire) fill(n int) error {
	if w.w-w.r >= n {
		return nil
	}
	w.makeRoom(n)
	for w.w-w.r < n {
		k, err := w.conn.Read(w.buf[w.w:])
		w.w += k
		w.got.Add(int64(k))
		if err != nil && w.w-w.r < n {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

// makeRoom lets n bytes fit behind r.
func (w *wire) makeRoom(n int) {
	if w.r > 0 && (w.r == w.w || len(w.buf)-w.r < n) {
		w.w = copy(w.buf, w.buf[w.r:w.w])
		w.r = 0
	}
	if len(w.buf) < n {
		grown := make([]byte, n)
		copy(grown, w.buf[:w.w])
		w.buf = grown
	}
}

// next gives the next message. Its body is valid until the following call. Notices and the like are passed over; an
// ErrorResponse becomes the error.
func (w *wire) next() (kind byte, body []byte, err error) {
	for {
		if err := w.fill(5); err != nil {
			return 0, nil, err
		}
		n := w.length()
		if n < 5 || n > maxMessage {
			return 0, nil, protocolError("a message of %d bytes", n)
		}
		if err := w.fill(n); err != nil {
			return 0, nil, err
		}
		kind, body = w.buf[w.r], w.buf[w.r+5:w.r+n:w.r+n]
		w.r += n
		switch kind {
		case 'N', 'S', 'A': // notice, parameter, notification
			continue
		case 'E':
			var m pgproto3.ErrorResponse
			if err := m.Decode(body); err != nil {
				return 0, nil, protocolError("an error that cannot be read")
			}
			return kind, nil, pgconn.ErrorResponseToPgError(&m)
		}
		return kind, body, nil
	}
}

// send writes one message whole. The deadline of ctx bounds it, and within.
func (w *wire) send(ctx context.Context, kind byte, body []byte) error {
	w.writes.Lock()
	defer w.writes.Unlock()
	w.out = append(w.out[:0], kind)
	w.out = binary.BigEndian.AppendUint32(w.out, uint32(len(body)+4))
	w.out = append(w.out, body...)
	rest := w.out
	if w.bare != nil {
		if rest = rest[w.bare.write(rest):]; len(rest) == 0 {
			return nil
		}
	}
	ctx, cancel := context.WithTimeout(ctx, w.within)
	defer cancel()
	deadline, _ := ctx.Deadline()
	if err := w.conn.SetWriteDeadline(deadline); err != nil {
		return err
	}
	_, err := w.conn.Write(rest)
	return err
}

// close says goodbye, when nobody is in the middle of a word, and closes the connection.
func (w *wire) close() error {
	if w.writes.TryLock() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if deadline, ok := ctx.Deadline(); ok && w.conn.SetWriteDeadline(deadline) == nil {
			_, _ = w.conn.Write([]byte{'X', 0, 0, 0, 4})
		}
		w.writes.Unlock()
	}
	return w.conn.Close()
}

func (w *wire) sendQuery(ctx context.Context, q string) error {
	return w.send(ctx, 'Q', append([]byte(q), 0))
}

// errProtocol is under every error about a server that does not speak as PostgreSQL does.
var errProtocol = errors.New("this is not how PostgreSQL answers")

func protocolError(format string, a ...any) error {
	return fmt.Errorf("%w: %s", errProtocol, fmt.Sprintf(format, a...))
}
