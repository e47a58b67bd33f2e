package postgres

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgkeep/pgkeep/state"
)

// ConnectOptions says how a session shows itself and how long it may take to open.
type ConnectOptions struct {
	ApplicationName string        // wins over the conninfo's; empty: the conninfo's, else "pgkeep"
	Timeout         time.Duration // for each host, when the conninfo has no connect_timeout; zero: 10 s
	// As calls what opens the socket, and may be another user of the machine meanwhile, whom the server's peer authentication then
	// sees; nil: it is this process's.
	As func(open func() error) error
}

const usualConnectTimeout = 10 * time.Second

// The majors that pgkeep speaks to.
const (
	oldestMajor = 13
	newestMajor = 18
)

// session is an authenticated connection and what was learned while it opened.
type session struct {
	pg      *pgconn.PgConn
	server  string // the host that answered
	user    string
	version int // server_version_num
}

// opener tries the hosts of a conninfo.
type opener struct {
	info        Conninfo
	options     ConnectOptions
	replication bool
}

// open gives a session with the first host that is what target_session_attrs asks for.
func (o opener) open(ctx context.Context) (*session, error) {
	if len(o.info.hosts) == 0 {
		return nil, &state.Error{Code: state.CodeConninfo, Text: "connect: the conninfo names no host"}
	}
	var failures []*state.Error
	target := o.info.target
	if target == "prefer-standby" {
		target = "standby"
	}
	for _, h := range o.info.hosts {
		s, err := o.openHost(ctx, h, target)
		if err == nil {
			return s, nil
		}
		failures = append(failures, err)
		if ctx.Err() != nil {
			break
		}
	}
	if o.info.target == "prefer-standby" && ctx.Err() == nil {
		again := o
		again.info.target = "any"
		return again.open(ctx)
	}
	return nil, joinFailures(failures, o.info.target)
}

// joinFailures makes one error of those of all hosts: the first that a server gave, because it says most.
func joinFailures(failures []*state.Error, target string) *state.Error {
	if len(failures) == 1 {
		return failures[0]
	}
	first := failures[0]
	texts := make([]string, len(failures))
	for i, f := range failures {
		texts[i] = f.Error()
		if first.Code == state.CodeUnreachable && f.Code != state.CodeUnreachable {
			first = f
		}
	}
	text := fmt.Sprintf("no host of the list could be used as %q: %s", target, strings.Join(texts, "; "))
	return &state.Error{Code: first.Code, Text: text, Hint: first.Hint}
}

// openHost tries a host with each way of encryption that sslmode allows.
func (o opener) openHost(ctx context.Context, h host, target string) (*session, *state.Error) {
	var failure *state.Error
	for _, config := range o.info.tlsConfigs(h) {
		s, err := o.dial(ctx, h, config)
		if err == nil {
			return o.fit(ctx, s, target)
		}
		f := o.classify(h, err)
		if failure == nil || failure.Code == state.CodeTLS {
			failure = f
		}
		if f.Code == state.CodePassword || f.Code == state.CodeUnreachable || ctx.Err() != nil {
			break
		}
	}
	return nil, failure
}

func (o opener) classify(h host, err error) *state.Error {
	c := classifier{action: fmt.Sprintf("connect to %s as %s", h, o.info.user), role: o.info.user, replication: o.replication, connecting: true, at: h}
	return c.problem(err)
}

// fit checks what answered: the version, and whether it is the kind of server that is wanted.
func (o opener) fit(ctx context.Context, s *session, target string) (*session, *state.Error) {
	if major := s.version / 10000; major < oldestMajor || major > newestMajor {
		_ = s.pg.Close(ctx)
		return nil, &state.Error{
			Code: state.CodeVersion,
			Text: fmt.Sprintf("%s is PostgreSQL %d; pgkeep speaks %d to %d", s.server, major, oldestMajor, newestMajor),
		}
	}
	ok, err := s.is(ctx, target)
	switch {
	case err != nil:
		_ = s.pg.Close(ctx)
		c := classifier{action: "ask " + s.server + " whether it is a primary", role: s.user}
		return nil, c.problem(err)
	case !ok:
		_ = s.pg.Close(ctx)
		return nil, &state.Error{Code: state.CodeUnreachable, Text: fmt.Sprintf("%s is not %q", s.server, target)}
	}
	return s, nil
}

// is tells whether the server is what target_session_attrs names. The keyword SHOW is in upper case because a walsender
// takes anything else for SQL; that is why pgconn's own check cannot be used.
func (s *session) is(ctx context.Context, target string) (bool, error) {
	if target == "any" {
		return true, nil
	}
	standby := s.pg.ParameterStatus("in_hot_standby") // 14 and later report it unasked
	readOnly := ""
	if standby == "" || target == "read-write" || target == "read-only" {
		rows, err := s.pg.Exec(ctx, "SHOW transaction_read_only").ReadAll()
		if err != nil {
			return false, err
		}
		if len(rows) != 1 || len(rows[0].Rows) != 1 || len(rows[0].Rows[0]) != 1 {
			return false, errors.New("SHOW transaction_read_only gave no row")
		}
		readOnly = string(rows[0].Rows[0][0])
	}
	if standby == "" {
		standby = readOnly // 13: nearest to it
	}
	switch target {
	case "read-write":
		return readOnly == "off", nil
	case "read-only":
		return readOnly == "on", nil
	case "primary":
		return standby == "off", nil
	}
	return standby == "on", nil
}

// dial opens one connection and authenticates. config nil means no TLS.
func (o opener) dial(ctx context.Context, h host, config *tls.Config) (*session, error) {
	timeout := o.info.timeout
	if timeout == 0 {
		timeout = o.options.Timeout
	}
	if timeout == 0 {
		timeout = usualConnectTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	c, err := neutralConfig()
	if err != nil {
		return nil, err
	}
	gate := &startupGate{left: startupBytes, plain: config == nil}
	c.Host, c.Port, c.User, c.Database, c.Password = h.name, h.port, o.info.user, o.info.database, h.password
	c.ConnectTimeout, c.Fallbacks, c.TLSConfig, c.SSLCertMode = timeout, nil, nil, "allow"
	c.ChannelBinding, c.RequireAuth = o.info.binding, o.info.auth
	c.MaxProtocolMessageBodyLen = maxSQLMessage
	c.RuntimeParams = o.parameters()
	c.LookupFunc = func(context.Context, string) ([]string, error) { return []string{"as.written"}, nil }
	c.DialFunc = func(ctx context.Context, _, _ string) (conn net.Conn, err error) {
		if o.options.As == nil {
			return o.info.dial.open(ctx, h)
		}
		err = o.options.As(func() (failed error) {
			conn, failed = o.info.dial.open(ctx, h)
			return failed
		})
		return conn, err
	}
	c.AfterNetConnect = func(ctx context.Context, _ *pgconn.Config, conn net.Conn) (net.Conn, error) {
		gate.Conn = conn
		return startTLS(ctx, gate, config, o.info.tls.direct)
	}
	pg, err := pgconn.ConnectConfig(ctx, c)
	if err != nil {
		return nil, err
	}
	gate.open.Store(true)
	version, err := parseServerVersion(pg.ParameterStatus("server_version"))
	if err != nil {
		_ = pg.Close(ctx)
		return nil, err
	}
	return &session{pg: pg, server: h.String(), user: o.info.user, version: version}, nil
}

// parameters are sent with the startup message.
func (o opener) parameters() map[string]string {
	p := map[string]string{"application_name": "pgkeep", "client_encoding": "UTF8", "DateStyle": "ISO"}
	if o.info.application != "" {
		p["application_name"] = o.info.application
	}
	if o.options.ApplicationName != "" {
		p["application_name"] = o.options.ApplicationName
	}
	if o.info.options != "" {
		p["options"] = o.info.options
	}
	if o.replication {
		p["replication"] = "true"
	} else {
		p["search_path"] = "pg_catalog"
	}
	return p
}

// neutralConfig gives a pgconn configuration in which nothing of the process's environment is left. pgconn cannot be
// told not to read PG* variables, but what the string names wins over them, and the caller sets the rest. PGSERVICE is
// the exception: pgconn then insists on a service file, so it is given an empty service in a pipe.
func neutralConfig() (*pgconn.Config, error) {
	pin := "host=localhost port=5432 user=pgkeep dbname=postgres password=none passfile='' connect_timeout=10 sslmode=disable " +
		"sslcert='' sslkey='' sslrootcert='' sslcertmode=allow sslnegotiation=postgres sslsni=1 target_session_attrs=any " +
		"min_protocol_version=3.0 max_protocol_version=3.0 channel_binding=prefer require_auth=''"
	if os.Getenv("PGSERVICE") == "" {
		return pgconn.ParseConfig(pin)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("shut out PGSERVICE: %w", err)
	}
	defer r.Close()
	_, err = w.WriteString("[pgkeep]\n")
	if cerr := w.Close(); err != nil || cerr != nil {
		return nil, fmt.Errorf("shut out PGSERVICE: %w", errors.Join(err, cerr))
	}
	return pgconn.ParseConfig(fmt.Sprintf("%s service=pgkeep servicefile=/proc/self/fd/%d", pin, r.Fd()))
}

// tcpUserTimeout is Linux's TCP_USER_TIMEOUT, which package syscall lacks.
const tcpUserTimeout = 18

// open dials a host, looking its name up when the conninfo gives no address.
func (d dialSettings) open(ctx context.Context, h host) (net.Conn, error) {
	dialer := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{
		Enable: !d.keepalivesOff, Idle: d.idle, Interval: d.interval, Count: d.count,
	}}
	if d.userTimeout > 0 {
		dialer.Control = func(_, _ string, c syscall.RawConn) (err error) {
			cerr := c.Control(func(fd uintptr) {
				err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(d.userTimeout.Milliseconds()))
			})
			return errors.Join(cerr, err)
		}
	}
	if strings.HasPrefix(h.name, "/") && h.address == "" {
		return dialer.DialContext(ctx, "unix", h.String())
	}
	at := h
	if h.address != "" {
		at.name = h.address
	}
	return dialer.DialContext(ctx, "tcp", at.String())
}

// errNoTLS is a server's answer "N" to the request for encryption.
var errNoTLS = errors.New("the server does not offer TLS")

// tlsError is a failure of the TLS handshake.
type tlsError struct{ err error }

// Error says that it was the handshake.
func (e tlsError) Error() string { return "TLS: " + e.err.Error() }

// Unwrap gives the cause.
func (e tlsError) Unwrap() error { return e.err }

// startTLS asks for encryption and shakes hands, within the context's deadline.
func startTLS(ctx context.Context, conn net.Conn, config *tls.Config, direct bool) (net.Conn, error) {
	if config == nil {
		return conn, nil
	}
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return conn, err
		}
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if !direct {
		if _, err := conn.Write([]byte{0, 0, 0, 8, 4, 210, 22, 47}); err != nil { // SSLRequest, 80877103
			return conn, err
		}
		var answer [1]byte
		if _, err := io.ReadFull(conn, answer[:]); err != nil {
			return conn, err
		}
		switch answer[0] {
		case 'S':
		case 'N', 'E': // an ErrorResponse is how what knows no such request answers
			return conn, tlsError{errNoTLS}
		default:
			return conn, strangeGreeting(answer[:])
		}
	}
	secure := tls.Client(conn, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		return conn, tlsError{err}
	}
	return secure, conn.SetDeadline(time.Time{})
}

// startupBytes bounds what a server may send before it is ready: a real one sends a few kilobytes.
const startupBytes = 1 << 20

// startupGate is a connection that ends when a server talks too much before it is ready.
type startupGate struct {
	net.Conn
	left  int
	plain bool        // without TLS, and nothing was read yet: the next byte is the type of the server's first message
	open  atomic.Bool // pgconn may still be reading in the background
}

// Read gives what the server sent, up to the bound while the gate is shut. What is no PostgreSQL is told by its first byte.
func (g *startupGate) Read(p []byte) (int, error) {
	if g.open.Load() {
		return g.Conn.Read(p)
	}
	if g.left <= 0 {
		return 0, errors.New("the server sent a megabyte before it was ready")
	}
	n, err := g.Conn.Read(p[:min(len(p), g.left)])
	g.left -= n
	if g.plain && n > 0 {
		g.plain = false
		if !strings.ContainsRune("RENv", rune(p[0])) { // authentication, error, notice, protocol negotiation
			return 0, strangeGreeting(p[:n])
		}
	}
	return n, err
}

// strangeGreeting is what answers a startup message in another protocol: its first bytes tell an operator what listens.
type strangeGreeting []byte

// Error quotes the first line.
func (g strangeGreeting) Error() string {
	line, _, _ := strings.Cut(string(g[:min(len(g), 60)]), "\n")
	return fmt.Sprintf("%v: its answer begins with %q", errProtocol, strings.TrimSpace(line))
}

// Is tells that it is errProtocol.
func (g strangeGreeting) Is(target error) bool { return target == errProtocol }
