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
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
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
