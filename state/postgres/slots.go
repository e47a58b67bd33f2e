package postgres

import (
	"context"
	"fmt"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// receivedEnd is the end of the WAL that the server has: a standby's is what it received or, without a primary, replayed.
const receivedEnd = `case when pg_is_in_recovery()
	then greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) else pg_current_wal_flush_lsn() end`

// slotSQL asks for slots; the invalidation's reason is told by 17 and later, a conflict of a logical slot by 16.
func slotSQL(version int) string {
	reason := "null"
	switch {
	case version >= 170000:
		reason = "s.invalidation_reason"
	case version >= 160000:
		reason = "case when s.conflicting then 'conflict' end"
	}
	return `select s.slot_name, s.slot_type = 'physical', s.temporary, s.active, s.active_pid, s.restart_lsn, s.wal_status,
	s.safe_wal_size is not null, s.safe_wal_size, greatest(0, pg_wal_lsn_diff(` + receivedEnd + `, s.restart_lsn))::bigint, ` + reason + `
	from pg_replication_slots s`
}

func readSlot(row [][]byte) (state.Slot, error) {
	f := &scan{fields: row}
	s := state.Slot{
		Name: f.text(), Physical: f.bool(), Temporary: f.bool(), Active: f.bool(), ActivePID: int(f.number()),
		RestartLSN: f.lsn(), WALStatus: f.text(),
	}
	limited, safe := f.bool(), f.number()
	if limited {
		s.SafeBytes = &safe
	}
	s.Retained, s.Invalidation = f.number(), f.text()
	return s, f.err
}

// slots gives all slots, by name.
func (c *Conn) slots(ctx context.Context) ([]state.Slot, error) {
	action := "list the slots of " + c.server
	rows, err := c.rows(ctx, question{action: action, sql: slotSQL(c.version) + " order by 1"})
	if err != nil {
		return nil, err
	}
	out := make([]state.Slot, 0, len(rows))
	for _, row := range rows {
		s, err := readSlot(row)
		if err != nil {
			return nil, classifier{action: action}.problem(err)
		}
		out = append(out, s)
	}
	return out, nil
}

// Slot gives the slot of that name; nil when there is none.
func (c *Conn) Slot(ctx context.Context, name string) (*state.Slot, error) {
	action := fmt.Sprintf("look at slot %q of %s", name, c.server)
	rows, err := c.rows(ctx, question{action: action, sql: slotSQL(c.version) + " where s.slot_name = $1::text", args: []string{name}})
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	s, err := readSlot(rows[0])
	if err != nil {
		return nil, classifier{action: action}.problem(err)
	}
	return &s, nil
}

// CreateSlot makes a physical slot that holds WAL back from this moment on. A slot of that name that does so already is
// fine; one that holds nothing (made without reserve, never used) is replaced; a lost one is an error, because what it
// held is gone and somebody must decide.
func (c *Conn) CreateSlot(ctx context.Context, name string) error {
	action := fmt.Sprintf("create slot %q on %s", name, c.server)
	old, err := c.Slot(ctx, name)
	if err != nil {
		return err
	}
	switch {
	case old == nil:
	case !old.Physical || old.Temporary:
		return &state.Error{
			Code: state.CodeSettings, Text: action + ": there is a logical or temporary slot of that name",
			Hint: "give ours another name: slot { name = \"...\" }",
		}
	case old.WALStatus == state.SlotLost || old.Invalidation != "":
		return &state.Error{Code: state.CodeSlotLost, Text: action + ": the slot of that name has lost WAL that it held"}
	case old.RestartLSN != 0 || old.Active:
		return nil
	default:
		if err := c.DropSlot(ctx, name); err != nil {
			return err
		}
	}
	_, err = c.rows(ctx, question{
		action: action, sql: "select pg_create_physical_replication_slot($1::name, true)", args: []string{name},
		grant: fmt.Sprintf("ALTER ROLE %s REPLICATION;", quoteName(c.user)),
	})
	if sqlState(err) == "42710" { // somebody was faster
		if now, lerr := c.Slot(ctx, name); lerr == nil && now != nil && now.Physical && now.RestartLSN != 0 {
			return nil
		}
	}
	return err
}

// DropSlot removes a slot; one that is not there is fine, one in use is CodeSlotInUse.
func (c *Conn) DropSlot(ctx context.Context, name string) error {
	_, err := c.rows(ctx, question{
		action: fmt.Sprintf("drop slot %q of %s", name, c.server),
		sql:    "select pg_drop_replication_slot($1::name)", args: []string{name},
		grant: fmt.Sprintf("ALTER ROLE %s REPLICATION;", quoteName(c.user)),
	})
	if sqlState(err) == "42704" {
		return nil
	}
	return err
}

// AdvanceSlot lets go of the WAL before a position. A slot that is there already or further is fine; the server never
// goes past its own flushed WAL.
func (c *Conn) AdvanceSlot(ctx context.Context, name string, to wal.LSN) error {
	_, err := c.rows(ctx, question{
		action: fmt.Sprintf("advance slot %q of %s to %s", name, c.server, to),
		sql:    "select pg_replication_slot_advance($1::name, $2::pg_lsn)", args: []string{name, to.String()},
		grant: fmt.Sprintf("ALTER ROLE %s REPLICATION;", quoteName(c.user)),
	})
	switch sqlState(err) {
	case "42704":
		return &state.Error{Code: state.CodeSlotAbsent, Text: fmt.Sprintf("advance slot %q of %s", name, c.server), Err: err}
	case "55000":
		if s, lerr := c.Slot(ctx, name); lerr == nil && s != nil && s.RestartLSN >= to {
			return nil
		}
	}
	return err
}
