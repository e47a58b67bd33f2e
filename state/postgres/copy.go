package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgkeep/pgkeep/state/wal"
)

// A restored copy is asked as its superuser, over a socket that only its owner reaches. What is asked here would be too much
// for the server that is protected: every page of it is read.

// copyOptions override what the origin has set for single roles and databases: libraries that are loaded into each session, another
// role, an end to statements.
const copyOptions = "-c session_preload_libraries= -c local_preload_libraries= -c role=none -c statement_timeout=0 -c lock_timeout=0"

// ConnectCopy opens a session with a restored copy by the directory of its socket, which trusts who can reach it. No trigger
// of the copy fires in it, names are looked up in pg_catalog alone, and only ctx bounds how long a statement takes.
func ConnectCopy(ctx context.Context, socketDir string, port int, user, database string) (*Conn, error) {
	info, err := ParseConninfo(fmt.Sprintf("host=%s port=%d user=%s dbname=%s sslmode=disable options=%s", quoteValue(socketDir), port, quoteValue(user), quoteValue(database), quoteValue(copyOptions)), nil, nil)
	if err != nil {
		return nil, err
	}
	c, err := Connect(ctx, info, ConnectOptions{ApplicationName: "pgkeep drill", Timeout: time.Minute})
	if err != nil {
		return nil, err
	}
	for _, s := range []string{
		"set session_replication_role = replica", "set search_path = pg_catalog", "set default_transaction_read_only = off",
		"set idle_session_timeout = 0",
	} {
		if c.version < 140000 && strings.Contains(s, "idle_session_timeout") {
			continue
		}
		if _, err := c.rows(ctx, question{action: "prepare the session with the copy", sql: s}); err != nil {
			return nil, closing(c, err)
		}
	}
	return c, nil
}

// Copy says where a restored copy listens, and as whom it is asked.
type Copy struct {
	Socket string // directory
	Port   int
	Major  int // version of the cluster
	User   string
	// Database is empty where any will do: then it is the user's.
	Database string
	As       func(open func() error) error // as ConnectOptions.As
}

// ConnectRecovered opens a session with a copy that replays WAL or is at its target, for Replayed and Answer alone. No event
// trigger of the copy fires in it: from 17 on, which has them for logins, only a role that may turn them off is let in.
func ConnectRecovered(ctx context.Context, at Copy) (*Conn, error) {
	text := fmt.Sprintf("host=%s port=%d user=%s sslmode=disable", quoteValue(at.Socket), at.Port, quoteValue(at.User))
	if at.Database != "" {
		text += " dbname=" + quoteValue(at.Database)
	}
	if at.Major >= 17 {
		text += " options='-c event_triggers=off'"
	}
	info, err := ParseConninfo(text, nil, nil)
	if err != nil {
		return nil, err
	}
	return Connect(ctx, info, ConnectOptions{ApplicationName: "pgkeep recover", Timeout: 10 * time.Second, As: at.As})
}

// Replayed gives up to where a copy in recovery has replayed WAL, and when the last transaction in it ended; zero: it has
// replayed none.
func (c *Conn) Replayed(ctx context.Context) (wal.LSN, time.Time, error) {
	q := question{
		action: "ask the copy how far it is",
		sql:    "select pg_catalog.pg_last_wal_replay_lsn(), (extract(epoch from pg_catalog.pg_last_xact_replay_timestamp()) * 1000000)::bigint",
	}
	row, err := c.row(ctx, 2, q)
	if err != nil {
		return 0, time.Time{}, err
	}
	s := scan{fields: row}
	lsn, micros := s.lsn(), s.number()
	if micros == 0 {
		return lsn, time.Time{}, s.err
	}
	return lsn, time.UnixMicro(micros).UTC(), s.err
}

func closing(c *Conn, err error) error {
	_ = c.Close() // the error says more
	return err
}

// quoteValue writes a value of a connection string.
func quoteValue(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}

// Alive tells whether the session can still be asked; false: the server ended it.
func (c *Conn) Alive() bool { return !c.pg.IsClosed() }

// Said gives what a server said when it refused, without what was asked of it.
func Said(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return cleanText(fmt.Sprintf("%s [%s]", pg.Message, pg.Code))
	}
	return err.Error()
}

// Superuser gives a role that may do anything and log in.
func (c *Conn) Superuser(ctx context.Context) (string, error) {
	q := question{action: "ask the copy for a superuser", sql: "select rolname from pg_catalog.pg_roles where rolsuper and rolcanlogin order by rolconnlimit = 0, oid limit 1"}
	row, err := c.row(ctx, 1, q)
	if err != nil {
		return "", err
	}
	return string(row[0]), nil
}

// CopyDatabases names the databases of a copy: those that take connections, and those that do not but template0.
func (c *Conn) CopyDatabases(ctx context.Context) (open, closed []string, err error) {
	rows, err := c.rows(ctx, question{action: "ask the copy for its databases", sql: "select datname, datallowconn and datconnlimit <> -2 from pg_catalog.pg_database order by datname"})
	if err != nil {
		return nil, nil, err
	}
	for _, r := range rows {
		switch name := string(r[0]); {
		case string(r[1]) == "t":
			open = append(open, name)
		case name != "template0":
			closed = append(closed, name)
		}
	}
	return open, closed, nil
}

// Answer asks one statement in a transaction that only reads, and gives the one field of the one row that must come of it; NULL is "NULL".
func (c *Conn) Answer(ctx context.Context, sql string) (string, error) {
	if _, err := c.rows(ctx, question{action: "begin to read", sql: "begin read only"}); err != nil {
		return "", err
	}
	for _, s := range []string{`set local search_path = "$user", public`, "set local statement_timeout = 0"} {
		if _, err := c.rows(ctx, question{action: "begin to read", sql: s}); err != nil {
			return "", err
		}
	}
	row, err := c.row(ctx, 1, question{action: "ask the copy", sql: sql})
	_, _ = c.rows(ctx, question{action: "end reading", sql: "rollback"}) // a session that is gone says so next time
	if err != nil {
		return "", err
	}
	if row[0] == nil {
		return "NULL", nil
	}
	return string(row[0]), nil
}

// CountedTable is a table of users whose rows can be counted: a partitioned one is one table, whatever partitions come and go.
type CountedTable struct {
	Name  string   // schema and name, quoted where SQL needs that
	Parts []string // the tables that hold its rows: itself, or its partitions
}

// counted are the tables of users, the largest first, and those that hold their rows. Partitions that lie on other servers are not
// among them.
const counted = `select format('%I.%I', n.nspname, r.relname), t.part, sum(t.relpages) over (partition by r.oid) as pages
from (select coalesce(pg_partition_root(c.oid), c.oid) as root, format('%I.%I', n.nspname, c.relname) as part, c.relpages
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where c.relkind = 'r' and c.relpersistence = 'p' and n.nspname <> 'information_schema' and n.nspname !~ '^pg_') t
join pg_class r on r.oid = t.root join pg_namespace n on n.oid = r.relnamespace
order by pages desc, 1, 2`

// CountedTables gives the n largest tables of users in this database, the largest first, and of those that are named in also the
// ones that are there: names as it gives them itself.
func (c *Conn) CountedTables(ctx context.Context, n int, also []string) ([]CountedTable, error) {
	rows, err := c.rows(ctx, question{action: "ask for the largest tables", sql: counted})
	if err != nil {
		return nil, err
	}
	var all []CountedTable
	for _, r := range rows {
		name, part := string(r[0]), string(r[1])
		if len(all) == 0 || all[len(all)-1].Name != name {
			all = append(all, CountedTable{Name: name})
		}
		last := &all[len(all)-1]
		last.Parts = append(last.Parts, part)
	}
	var out []CountedTable
	for i, t := range all {
		if i < n || slices.Contains(also, t.Name) {
			out = append(out, t)
		}
	}
	return out, nil
}

// CountRows counts the rows of a table.
func (c *Conn) CountRows(ctx context.Context, table CountedTable) (int64, error) {
	var sum int64
	for _, part := range table.Parts {
		row, err := c.row(ctx, 1, question{action: "count the rows of " + cleanText(part), sql: "select count(*) from only " + part})
		if err != nil {
			return 0, err
		}
		s := scan{fields: row}
		sum += s.number()
		if s.err != nil {
			return 0, s.err
		}
	}
	return sum, nil
}
