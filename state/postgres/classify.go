package postgres

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgkeep/pgkeep/state"
)

// classifier turns what went wrong into a state.Error: by SQLSTATE, by the server's routine name (which is not
// translated, as messages are) and by error types; never by text.
type classifier struct {
	action      string // "connect to a:5432 as pgkeep"
	role        string
	replication bool
	connecting  bool
	grant       string // the SQL that would permit the action
	at          host   // what is connected to
}

// said is an error of the server, in its words but fit for one line.
type said struct{ pg *pgconn.PgError }

// Error gives message, detail and SQLSTATE.
func (s said) Error() string {
	text := cleanText(s.pg.Message)
	if s.pg.Detail != "" {
		text += " (" + cleanText(s.pg.Detail) + ")"
	}
	return fmt.Sprintf("%s [%s]", text, cleanText(s.pg.Code))
}

// Unwrap gives the message as pgconn read it.
func (s said) Unwrap() error { return s.pg }

// problem never returns nil; err must not be nil.
func (c classifier) problem(err error) *state.Error {
	var done *state.Error
	if errors.As(err, &done) {
		return done
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		code, hint := c.server(pg)
		return &state.Error{Code: code, Text: c.action, Hint: hint, Err: said{pg}}
	}
	code, hint := c.client(err)
	return &state.Error{Code: code, Text: c.action, Hint: hint, Err: cause(err)}
}

// server reads an ErrorResponse.
func (c classifier) server(pg *pgconn.PgError) (state.Code, string) {
	switch pg.Code {
	case "28P01": // invalid_password
		return state.CodePassword, fmt.Sprintf("set the password of role %s, or correct it in the conninfo or password file", c.role)
	case "28000": // invalid_authorization_specification
		if pg.Routine == "ClientAuthentication" {
			return state.CodeHBA, c.hbaLine()
		}
		return state.CodeRole, fmt.Sprintf("CREATE ROLE %s LOGIN REPLICATION;", quoteName(c.role))
	case "42501": // insufficient_privilege
		if c.connecting && c.replication {
			return state.CodeRole, fmt.Sprintf("ALTER ROLE %s REPLICATION;", quoteName(c.role))
		}
		return state.CodePrivilege, c.grant
	case "3D000": // invalid_catalog_name
		return state.CodeConninfo, "name an existing database with dbname="
	case "53300": // too_many_connections
		if c.replication {
			return state.CodeTooMany, "raise max_wal_senders and restart the server, or stop a standby or receiver that is no longer needed"
		}
		switch pg.Routine {
		case "InitializeSessionUserId":
			return state.CodeTooMany, fmt.Sprintf("ALTER ROLE %s CONNECTION LIMIT -1; or end sessions of the role: SELECT pid, application_name, client_addr FROM pg_stat_activity WHERE usename = '%s';", quoteName(c.role), c.role)
		case "CheckMyDatabase":
			return state.CodeTooMany, "raise the database's CONNECTION LIMIT, or name another database with dbname= in the conninfo"
		}
		return state.CodeTooMany, "raise max_connections, or end sessions that are no longer needed"
	case "53400": // configuration_limit_exceeded
		return state.CodeSettings, "ALTER SYSTEM SET max_replication_slots = 20; then restart the server; or drop a slot that is no longer needed"
	case "57P03": // cannot_connect_now
		return state.CodeStarting, "wait until it is up; a standby takes connections when hot_standby is on"
	case "55006": // object_in_use
		return state.CodeSlotInUse, "SELECT pid, application_name, client_addr FROM pg_stat_replication; tells who uses it: stop that client, or give ours another slot name"
	case "53100": // disk_full
		return state.CodeDiskFull, "free space on the server"
	case "58P01": // undefined_file
		return state.CodeGap, ""
	}
	if c.connecting || strings.HasPrefix(pg.Code, "08") || strings.HasPrefix(pg.Code, "57P") {
		return state.CodeUnreachable, ""
	}
	return state.CodeSettings, cleanText(pg.Hint)
}

// hbaLine gives the line that lets this role in from here.
func (c classifier) hbaLine() string {
	database := "all"
	if c.replication {
		database = "replication"
	}
	return fmt.Sprintf("add to pg_hba.conf, with this machine's address, and reload:  host %s %s ADDRESS/32 scram-sha-256  (`all` does not match replication)", database, c.role)
}

// client reads an error that was met on this side.
func (c classifier) client(err error) (state.Code, string) {
	switch {
	case errors.Is(err, errProtocol):
		return state.CodeProtocol, "is there a PostgreSQL at this address, and nothing between that changes its answers?"
	case isTLS(err):
		return state.CodeTLS, c.trust(err)
	}
	return state.CodeUnreachable, c.unreachable(err)
}

// trust says what to look at when no encryption came about.
func (c classifier) trust(err error) string {
	var (
		authority x509.UnknownAuthorityError
		hostname  x509.HostnameError
		invalid   x509.CertificateInvalidError
	)
	switch {
	case errors.Is(err, errNoTLS):
		return "on the server: ALTER SYSTEM SET ssl = on; with ssl_cert_file and ssl_key_file, then SELECT pg_reload_conf();"
	case errors.As(err, &hostname):
		return "write a name that the certificate has as host in the conninfo, and the address as hostaddr: " + c.certificate()
	case errors.As(err, &authority):
		return "name the file of the authority that signed the server's certificate with sslrootcert in the conninfo: " + c.certificate()
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "renew the server's certificate, or set this machine's clock, then SELECT pg_reload_conf(); on the server: " + c.certificate()
	}
	return "check the server's ssl settings, its certificate's name and dates, and sslrootcert: " + c.certificate()
}

// certificate is the command that shows what the server presents.
func (c classifier) certificate() string {
	if strings.HasPrefix(c.at.name, "/") || c.at.name == "" {
		return "SHOW ssl_cert_file;"
	}
	return "openssl s_client -starttls postgres -connect " + c.at.String()
}

// untrusted is a certificate's refusal without Go's guesses at the reason.
func untrusted(err error) error {
	var (
		authority x509.UnknownAuthorityError
		ours      tlsError
	)
	if !errors.As(err, &authority) || authority.Cert == nil || !errors.As(err, &ours) {
		return nil
	}
	return fmt.Errorf("TLS: the server's certificate is signed by %q, which is no authority that is trusted here", cleanText(authority.Cert.Issuer.String()))
}

// unreachable says what to look at when no session came about.
func (c classifier) unreachable(err error) string {
	var lookup *net.DNSError
	switch {
	case !c.connecting:
		return ""
	case errors.As(err, &lookup):
		return "the name is not known here: getent hosts " + c.at.name + "; then correct host in the conninfo, or the name service"
	case strings.HasPrefix(c.at.name, "/"):
		return fmt.Sprintf("is PostgreSQL running on this machine, with unix_socket_directories = %s and port = %d? %s", c.at.name, c.at.port, c.ready())
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nothing listens there, or a firewall rejects: is PostgreSQL running, on this port, and does listen_addresses name this address? " + c.ready()
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "no answer: a firewall that drops packets, a wrong address, or a machine that is down: " + c.ready()
	}
	return ""
}

// ready is the command that asks the same question without pgkeep.
func (c classifier) ready() string {
	name := c.at.address
	if name == "" {
		name = c.at.name
	}
	return fmt.Sprintf("pg_isready -h %s -p %d", name, c.at.port)
}

func isTLS(err error) bool {
	var (
		ours      tlsError
		alert     tls.AlertError
		record    tls.RecordHeaderError
		verify    *tls.CertificateVerificationError
		authority x509.UnknownAuthorityError
		hostname  x509.HostnameError
	)
	return errors.As(err, &ours) || errors.As(err, &alert) || errors.As(err, &record) || errors.As(err, &verify) ||
		errors.As(err, &authority) || errors.As(err, &hostname)
}

// cause gives the part of an error that says what happened: pgconn wraps it in the address, which the action names.
func cause(err error) error {
	var (
		ours    tlsError
		strange strangeGreeting
		op      *net.OpError
	)
	if short := untrusted(err); short != nil {
		return short
	}
	switch {
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded):
		return context.DeadlineExceeded // a socket's deadline may strike before the context's that it was made from
	case errors.As(err, &strange):
		return strange
	case errors.Is(err, errProtocol):
		return err
	case errors.As(err, &ours):
		return ours
	case errors.As(err, &op):
		return op
	case errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF):
		return errEnded
	}
	return err
}

var errEnded = errors.New("the server closed the connection")
