package postgres

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// StreamOptions says which WAL to send.
type StreamOptions struct {
	Slot     string // physical; empty: none
	Timeline wal.Timeline
	From     wal.LSN // the first byte wanted; receivers ask for the start of a segment
	// ReportTimeout bounds each SendStatus, which then fails; zero: 30 s.
	ReportTimeout time.Duration
}

// Stream is WAL on its way. One goroutine may call Next while another calls SendStatus.
type Stream struct {
	r       *Replication
	options StreamOptions
	next    wal.LSN // where the next WAL must begin
	ended   error   // what Next gave last
	action  string
}

// Message is a stretch of WAL or a keepalive.
type Message struct {
	Keepalive      bool
	Start          wal.LSN // of Data
	Data           []byte  // valid until the next Next; at most a megabyte, in order and without gaps; may span segments
	ServerEnd      wal.LSN // end of the WAL that the server could send when it wrote this
	ServerTime     time.Time
	ReplyRequested bool // the server waits for a status
}

// ErrIdle is Next's answer when nothing came up to its deadline; the stream goes on.
var ErrIdle = errors.New("no message came up to the deadline")

// ErrServerShutdown is Next's answer to a clean shutdown: the server has sent all its WAL and waits for it to be flushed.
var ErrServerShutdown = errors.New("the server shuts down and has sent all its WAL")

// EndOfTimeline is Next's answer when the timeline ended on the server. The session can stream again: timeline Next, from
// the start of the segment that holds Switch.
type EndOfTimeline struct {
	Next   wal.Timeline
	Switch wal.LSN // where Next begins
}

// Error says where the timeline ended.
func (e *EndOfTimeline) Error() string {
	return fmt.Sprintf("the timeline ends at %s, where timeline %d begins", e.Switch, e.Next)
}

// Stream starts sending WAL. When the timeline has nothing at or after From any more, the first Next says EndOfTimeline.
// Codes to tell apart: CodeGap (the server no longer has this WAL, or From is not in its history), CodeAhead (From is
// past its end), CodeSlotInUse, CodeSlotLost (invalidated), CodeSlotAbsent.
func (r *Replication) Stream(ctx context.Context, o StreamOptions) (*Stream, error) {
	s := &Stream{r: r, options: o, next: o.From, action: fmt.Sprintf("stream timeline %d from %s of %s", o.Timeline, o.From, r.server)}
	command := "START_REPLICATION "
	if o.Slot != "" {
		command += "SLOT " + quoteName(o.Slot) + " "
	}
	command += fmt.Sprintf("PHYSICAL %s TIMELINE %d", o.From, o.Timeline)
	if r.version < 150000 { // these learn their own timeline when they are asked for it
		if _, err := r.IdentifySystem(ctx); err != nil {
			return nil, err
		}
	}
	err := r.command(ctx, s.action, func() error {
		if err := r.wire.sendQuery(ctx, command); err != nil {
			return err
		}
		kind, _, err := r.wire.next()
		switch {
		case err != nil:
			return err
		case kind == 'W':
			r.wire.within = cmp.Or(o.ReportTimeout, writeTimeout)
			return nil
		case kind == 'T':
			s.ended, err = r.timelineResult()
			return err
		}
		return protocolError("%q instead of WAL", kind)
	})
	if err != nil {
		return nil, r.refusedStream(ctx, o, err)
	}
	return s, nil
}

// refusedStream gives the code that belongs to a refused START_REPLICATION, or to a stream that the server ended: some
// refusals come only after it said that it would stream. XX000 has two causes that only the server's position tells
// apart.
func (r *Replication) refusedStream(ctx context.Context, o StreamOptions, err error) error {
	var e *state.Error
	if !errors.As(err, &e) {
		return err
	}
	out := *e
	var pg *pgconn.PgError
	errors.As(err, &pg)
	switch sqlState(err) {
	case "58P01":
		out.Code, out.Hint = state.CodeGap, "the server has removed this WAL: record the gap and take a base backup"
	case "42704":
		out.Code, out.Hint = state.CodeSlotAbsent, fmt.Sprintf("SELECT pg_create_physical_replication_slot('%s', true);", o.Slot)
	case "55000": // of StartReplication itself: a logical slot; of ReplicationSlotAcquire, 18 and later: an invalidated one
		out.Code, out.Hint = state.CodeSlotLost, "drop the slot and create it again, with reserved WAL"
		if pg.Routine == "StartReplication" {
			out.Code, out.Hint = state.CodeSettings, "the slot is a logical one: give ours another name"
		}
	case "42501":
		out.Code, out.Hint = state.CodeRole, fmt.Sprintf("ALTER ROLE %s REPLICATION;", quoteName(r.user))
	case "XX000":
		sys, serr := r.IdentifySystem(ctx)
		if serr != nil {
			return err
		}
		out.Code, out.Hint = state.CodeGap, "read the server's timeline history: this position may lie on a branch that it does not have"
		if o.From > sys.FlushLSN {
			out.Code = state.CodeAhead
		}
	}
	return &out
}

// Next gives the next message, waiting up to the deadline for its end. Errors: ErrIdle, *EndOfTimeline, ErrServerShutdown,
// else a state.Error with the codes of Stream, which ends the stream. An end of ctx is an error too, but loses nothing:
// Next may be called again.
func (s *Stream) Next(ctx context.Context, deadline time.Time) (Message, error) {
	if s.ended != nil {
		return Message{}, s.ended
	}
	if s.r.broken != nil {
		return Message{}, s.problem(s.r.broken)
	}
	var kind byte
	var body []byte
	read := func() (err error) {
		kind, body, err = s.r.wire.next()
		return err
	}
	if !s.r.wire.ready() {
		if err := ctx.Err(); err != nil { // where a server always has more to send, nothing else asks
			return Message{}, err
		}
		s.r.wire.glance()
	}
	err := error(nil)
	if s.r.wire.ready() {
		err = read()
	} else {
		err = s.r.wire.bounded(ctx, deadline, read)
	}
	if err != nil {
		return Message{}, s.failed(ctx, err)
	}
	m, err := s.message(ctx, kind, body)
	if err != nil {
		s.ended = err
	}
	return m, err
}

// failed sorts the errors of a read: those of time lose nothing.
func (s *Stream) failed(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		return err
	case errors.Is(err, os.ErrDeadlineExceeded):
		return ErrIdle
	}
	s.ended = s.problem(err)
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		s.r.broken = err
		return s.ended
	}
	wait, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	if err := s.r.wire.bounded(wait, time.Time{}, func() error { s.r.settle(pg); return s.r.broken }); err == nil {
		s.ended = s.r.refusedStream(wait, s.options, s.ended)
	}
	return s.ended
}

// settleTimeout bounds the wait for a server that ended a stream to take commands again.
const settleTimeout = 10 * time.Second

func (s *Stream) problem(err error) error {
	return classifier{action: s.action, role: s.r.user, replication: true}.problem(err)
}

func (s *Stream) message(ctx context.Context, kind byte, body []byte) (Message, error) {
	switch kind {
	case 'd':
		m, err := s.copyData(body)
		if err != nil {
			s.r.broken = err
			return Message{}, s.problem(err)
		}
		return m, nil
	case 'c':
		return Message{}, s.endOfTimeline(ctx)
	case 'C': // without CopyDone: the walsender's last word at a shutdown
		s.r.broken = ErrServerShutdown
		return Message{}, ErrServerShutdown
	}
	err := protocolError("%q in a WAL stream", kind)
	s.r.broken = err
	return Message{}, s.problem(err)
}

// copyData reads WAL or a keepalive, and takes only WAL that follows what came before.
func (s *Stream) copyData(body []byte) (Message, error) {
	if len(body) == 0 {
		return Message{}, protocolError("an empty message in a WAL stream")
	}
	switch body[0] {
	case pglogrepl.XLogDataByteID:
		x, err := pglogrepl.ParseXLogData(body[1:])
		if err != nil {
			return Message{}, protocolError("WAL that cannot be read")
		}
		start, n := wal.LSN(x.WALStart), wal.LSN(len(x.WALData))
		if start != s.next || n == 0 || start+n < start {
			return Message{}, protocolError("%d bytes of WAL at %s where %s was next", n, start, s.next)
		}
		s.next += n
		return Message{Start: start, Data: x.WALData, ServerEnd: wal.LSN(x.ServerWALEnd), ServerTime: x.ServerTime}, nil
	case pglogrepl.PrimaryKeepaliveMessageByteID:
		k, err := pglogrepl.ParsePrimaryKeepaliveMessage(body[1:])
		if err != nil {
			return Message{}, protocolError("a keepalive that cannot be read")
		}
		return Message{Keepalive: true, ServerEnd: wal.LSN(k.ServerWALEnd), ServerTime: k.ServerTime, ReplyRequested: k.ReplyRequested}, nil
	}
	return Message{}, protocolError("message %q in a WAL stream", body[0])
}

// endOfTimeline answers the server's CopyDone and reads where it goes on.
func (s *Stream) endOfTimeline(ctx context.Context) error {
	var end error
	err := s.r.command(ctx, s.action, func() (err error) {
		if err := s.r.wire.send(ctx, 'c', nil); err != nil {
			return err
		}
		end, err = s.r.timelineAfterCopy()
		return err
	})
	if err != nil {
		return err
	}
	return end
}

// timelineAfterCopy reads the end of a COPY: a result with the next timeline, or a bare end when there is none.
func (r *Replication) timelineAfterCopy() (error, error) {
	kind, _, err := r.wire.next()
	for n := 0; err == nil && kind == 'd' && n < maxRows; n++ { // keepalives that answer what we asked before we knew
		kind, _, err = r.wire.next()
	}
	switch {
	case err != nil:
		return nil, err
	case kind == 'T':
		return r.timelineResult()
	case kind == 'C':
		return ErrServerShutdown, r.readyForQuery()
	}
	return nil, protocolError("%q at the end of a timeline", kind)
}

// timelineResult reads the row (next timeline, its start), whose description was read, and the command's end.
func (r *Replication) timelineResult() (*EndOfTimeline, error) {
	rows, err := r.rowsAfterDescription()
	if err != nil {
		return nil, err
	}
	if err := r.readyForQuery(); err != nil {
		return nil, err
	}
	if len(rows) != 1 || len(rows[0]) != 2 {
		return nil, protocolError("%d rows at the end of a timeline", len(rows))
	}
	next, err := parseTimeline(string(rows[0][0]))
	if err != nil {
		return nil, protocolError("%v", err)
	}
	at, err := wal.ParseLSN(string(rows[0][1]))
	if err != nil {
		return nil, protocolError("%v", err)
	}
	return &EndOfTimeline{Next: next, Switch: at}, nil
}

// Buffered tells whether another message is here already, in this process or in the kernel: a receiver fsyncs and
// reports when none is. With TLS the kernel's part is an estimate. It belongs to the goroutine of Next.
func (s *Stream) Buffered() bool { return s.ended == nil && s.r.wire.waiting() }

// Status is what a receiver reports.
type Status struct {
	Written      wal.LSN // end of what was received and written
	Flushed      wal.LSN // end of what is durable: the server may release commits and remove WAL up to here
	Now          time.Time
	RequestReply bool // ask the server for a keepalive at once
}

// statusLength is the body of a standby status update: 'r', three positions, a time, a flag.
const statusLength = 34

// postgresEpoch is the first second of the year 2000, from which PostgreSQL counts, in Unix seconds.
const postgresEpoch = 946684800

// SendStatus reports a position, within the deadline of ctx and StreamOptions.ReportTimeout. The applied position is
// always zero: nothing is applied here, so that a server with synchronous_commit = remote_apply never counts on us.
func (s *Stream) SendStatus(ctx context.Context, status Status) error {
	b := make([]byte, 0, statusLength)
	b = append(b, 'r')
	b = binary.BigEndian.AppendUint64(b, uint64(status.Written))
	b = binary.BigEndian.AppendUint64(b, uint64(status.Flushed))
	b = binary.BigEndian.AppendUint64(b, 0)
	b = binary.BigEndian.AppendUint64(b, uint64(status.Now.UnixMicro()-postgresEpoch*1_000_000))
	if status.RequestReply {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	if err := s.r.wire.send(ctx, 'd', b); err != nil {
		return classifier{action: "report to " + s.r.server}.problem(err)
	}
	return nil
}

// Close ends the session, and so frees the slot, without waiting for the server. It may be called while Next waits.
func (s *Stream) Close() error { return s.r.Close() }
