package postgres

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// SwitchWAL ends the current WAL segment and gives the position after its last record. Where nothing was written since
// the last switch the server does nothing.
func (c *Conn) SwitchWAL(ctx context.Context) (wal.LSN, error) {
	return c.position(ctx, question{
		action: "switch the WAL segment of " + c.server, sql: "select pg_switch_wal()",
		grant: fmt.Sprintf("GRANT EXECUTE ON FUNCTION pg_catalog.pg_switch_wal() TO %s;", quoteName(c.user)),
	})
}

// CreateRestorePoint writes a named restore point and gives the position after it.
func (c *Conn) CreateRestorePoint(ctx context.Context, name string) (wal.LSN, error) {
	return c.position(ctx, question{
		action: fmt.Sprintf("create restore point %q on %s", cleanText(name), c.server),
		sql:    "select pg_create_restore_point($1::text)", args: []string{name},
		grant: fmt.Sprintf("GRANT EXECUTE ON FUNCTION pg_catalog.pg_create_restore_point(text) TO %s;", quoteName(c.user)),
	})
}

// position asks for one LSN. Both functions that give one refuse on a standby, with 55000.
func (c *Conn) position(ctx context.Context, q question) (wal.LSN, error) {
	row, err := c.row(ctx, 1, q)
	if sqlState(err) == "55000" {
		return 0, &state.Error{Code: state.CodeSettings, Text: q.action + ": it is a standby, or its wal_level is minimal", Err: err}
	}
	if err != nil {
		return 0, err
	}
	f := &scan{fields: row}
	l := f.lsn()
	if f.err != nil {
		return 0, classifier{action: q.action}.problem(f.err)
	}
	return l, nil
}

// backendExit is how long TerminateBackend waits for the process to go.
const backendExit = 5 * time.Second

// TerminateBackend ends another session of the same role, for example the walsender that holds our slot, and waits a few
// seconds for it to go. One that is gone already is fine.
func (c *Conn) TerminateBackend(ctx context.Context, pid int) error {
	action := fmt.Sprintf("end process %d of %s", pid, c.server)
	args := []string{strconv.Itoa(pid)}
	if _, err := c.rows(ctx, question{
		action: action, sql: "select pg_terminate_backend($1::int)", args: args,
		grant: fmt.Sprintf("GRANT pg_signal_backend TO %s;", quoteName(c.user)),
	}); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, backendExit)
	defer cancel()
	for {
		rows, err := c.rows(ctx, question{
			action: action, args: args,
			sql: "select 1 from pg_stat_get_activity($1::int) where pid is not null",
		})
		if err != nil || len(rows) == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return classifier{action: action + ", which does not go"}.problem(ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}
