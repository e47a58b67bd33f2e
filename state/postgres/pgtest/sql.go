package pgtest

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// SQL runs one or more statements as the superuser in database postgres and gives the last one's rows as psql -At would:
// a line a row, fields parted by "|", NULL empty. The test fails when a statement does.
func (s *Server) SQL(tb testing.TB, q string) string {
	tb.Helper()
	out, err := s.Try(q)
	if err != nil {
		tb.Fatalf("%s: %v", q, err)
	}
	return out
}

// Exec is SQL for statements whose rows do not matter.
func (s *Server) Exec(tb testing.TB, q string) {
	tb.Helper()
	_ = s.SQL(tb, q)
}

// Try is SQL that gives the error back.
func (s *Server) Try(q string) (string, error) { return s.TryAs("postgres", "postgres", q) }

// TryAs is Try as another role, in another database.
func (s *Server) TryAs(role, database, q string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	conn, err := s.connect(ctx, role, database)
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	results, err := conn.Exec(ctx, q).ReadAll()
	if err != nil {
		return "", err
	}
	if len(results) == 0 {
		return "", nil
	}
	return text(results[len(results)-1].Rows), nil
}

// Reload makes the server read its configuration files again and waits until it has: pg_reload_conf() only sends signals.
// New sessions, commits (synchronous_standby_names) and checkpoints (max_slot_wal_keep_size) obey from now on; sessions
// that are open follow before their next command.
func (s *Server) Reload(tb testing.TB) {
	tb.Helper()
	before := s.SQL(tb, "select pg_conf_load_time()")
	s.Exec(tb, "select pg_reload_conf()")
	for limit := time.Now().Add(startLimit); s.SQL(tb, "select pg_conf_load_time() > '"+before+"'") != "t"; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			tb.Fatalf("the server did not read its configuration within %s\n%s", startLimit, s.Log())
		}
	}
	s.Exec(tb, "checkpoint") // the checkpointer, which tells commits whether to wait, reads it before it begins one
}

func text(rows [][][]byte) string {
	lines := make([]string, len(rows))
	for i, row := range rows {
		fields := make([]string, len(row))
		for j, f := range row {
			fields[j] = string(f)
		}
		lines[i] = strings.Join(fields, "|")
	}
	return strings.Join(lines, "\n")
}

// connect uses the socket, so that pg_hba lines for host do not stand in the way of a test's own work.
func (s *Server) connect(ctx context.Context, role, database string) (*pgconn.PgConn, error) {
	c, err := pgconn.ParseConfig("host=127.0.0.1 user=postgres dbname=postgres sslmode=disable")
	if err != nil {
		return nil, err
	}
	c.Host, c.Port, c.User, c.Database, c.Password = s.SocketDir, uint16(s.Port), role, database, ""
	c.RuntimeParams = map[string]string{"application_name": "pgtest"}
	c.Fallbacks = nil
	c.LookupFunc = func(context.Context, string) ([]string, error) { return []string{"local"}, nil }
	c.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", fmt.Sprintf("%s/.s.PGSQL.%d", s.SocketDir, s.Port))
	}
	return pgconn.ConnectConfig(ctx, c)
}

// Bench runs pgbench with these arguments on database postgres and gives its output.
func (s *Server) Bench(tb testing.TB, args ...string) string {
	tb.Helper()
	out, err := s.BenchCommand(tb, args...).CombinedOutput()
	if err != nil {
		tb.Fatalf("pgbench %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// BenchCommand gives the command of Bench, for tests that run it beside something else.
func (s *Server) BenchCommand(tb testing.TB, args ...string) *exec.Cmd {
	tb.Helper()
	usual := []string{"-h", s.SocketDir, "-p", strconv.Itoa(s.Port), "-U", "postgres"}
	cmd := exec.Command(Client(tb, "pgbench"), append(append(usual, args...), "postgres")...)
	cmd.Env = cleanEnv()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}
