package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgkeep/pgkeep/state/wal"
)

// maxSQLMessage bounds one message of an SQL session, and maxAnswer all rows of one answer: far above what any question
// asked here can bring from a real server.
const (
	maxSQLMessage = 16 << 20
	maxAnswer     = 64 << 20
)

// Conn is an SQL session. It is not safe for concurrent use.
type Conn struct {
	*session
}

// Connect opens an SQL session with the first host of the conninfo that fits.
func Connect(ctx context.Context, c Conninfo, o ConnectOptions) (*Conn, error) {
	s, err := opener{info: c, options: o}.open(ctx)
	if err != nil {
		return nil, err
	}
	return &Conn{session: s}, nil
}

// Host gives the host and port that answered.
func (c *Conn) Host() string { return c.server }

// Version gives server_version_num, for example 150018.
func (c *Conn) Version() int { return c.version }

// Ping asks the server for a sign of life.
func (c *Conn) Ping(ctx context.Context) error {
	_, err := c.rows(ctx, question{action: "ask " + c.server + " for a sign of life", sql: "select 1"})
	return err
}

// Close ends the session; locks that it holds are free then.
func (c *Conn) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return c.pg.Close(ctx)
}

// question is one SQL statement and what to say when it fails.
type question struct {
	action string // "create slot \"a\" on db1:5432"
	sql    string
	args   []string
	grant  string // the SQL that would permit it
}

// rows asks and gives all rows; a nil field is NULL.
func (c *Conn) rows(ctx context.Context, q question) ([][][]byte, error) {
	args := make([][]byte, len(q.args))
	for i, a := range q.args {
		args[i] = []byte(a)
	}
	reader := c.pg.ExecParams(ctx, q.sql, args, nil, nil, nil)
	var out [][][]byte
	size := 0
	for reader.NextRow() {
		row := make([][]byte, 0, len(reader.Values()))
		for _, v := range reader.Values() {
			size += len(v) + 16
			if v != nil {
				v = append([]byte{}, v...)
			}
			row = append(row, v)
		}
		if size > maxAnswer {
			_ = c.pg.Conn().Close()
			break
		}
		out = append(out, row)
	}
	_, err := reader.Close()
	if size > maxAnswer {
		err = errors.New("the server's answer has no end")
	}
	if err != nil {
		return nil, classifier{action: q.action, role: c.user, grant: q.grant}.problem(contextual(ctx, err))
	}
	return out, nil
}

// row asks for exactly one row of n fields.
func (c *Conn) row(ctx context.Context, n int, q question) ([][]byte, error) {
	rows, err := c.rows(ctx, q)
	if err != nil {
		return nil, err
	}
	if len(rows) != 1 || len(rows[0]) != n {
		return nil, classifier{action: q.action}.problem(fmt.Errorf("the answer has %d rows", len(rows)))
	}
	return rows[0], nil
}

// contextual gives the context's error when that is why a call ended.
func contextual(ctx context.Context, err error) error {
	var pg *pgconn.PgError
	if err != nil && ctx.Err() != nil && !errors.As(err, &pg) {
		return ctx.Err()
	}
	return err
}

// scan reads fields of a row one after another and keeps the first error.
type scan struct {
	fields [][]byte
	err    error
}

func (s *scan) next() (string, bool) {
	if len(s.fields) == 0 {
		s.fail(errors.New("the row is too short"))
		return "", false
	}
	f := s.fields[0]
	s.fields = s.fields[1:]
	return string(f), f != nil
}

func (s *scan) fail(err error) {
	if s.err == nil {
		s.err = err
	}
}

// text gives a field; NULL is empty.
func (s *scan) text() string {
	v, _ := s.next()
	return v
}

func (s *scan) bool() bool { return s.text() == "t" }

// number gives a field; NULL is 0.
func (s *scan) number() int64 {
	v, ok := s.next()
	if !ok {
		return 0
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		s.fail(fmt.Errorf("%q is not a number", cleanText(v)))
	}
	return n
}

// lsn gives a field; NULL is 0.
func (s *scan) lsn() wal.LSN {
	v, ok := s.next()
	if !ok {
		return 0
	}
	l, err := wal.ParseLSN(v)
	if err != nil {
		s.fail(err)
	}
	return l
}
