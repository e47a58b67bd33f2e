package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// watchedSettings are those that decide something in a plan or that an operator is told about.
func watchedSettings() []string {
	return []string{
		"archive_command", "archive_library", "archive_mode", "autovacuum_worker_slots", "block_size", "cluster_name",
		"config_file", "data_checksums", "data_directory", "full_page_writes", "fsync", "hba_file", "hot_standby",
		"idle_replication_slot_timeout", "idle_session_timeout", "listen_addresses", "max_connections",
		"max_locks_per_transaction", "max_prepared_transactions", "max_replication_slots", "max_slot_wal_keep_size",
		"max_wal_senders", "max_wal_size", "max_worker_processes", "port", "server_encoding", "server_version",
		"shared_preload_libraries", "ssl", "summarize_wal", "synchronized_standby_slots", "synchronous_commit",
		"synchronous_standby_names", "track_commit_timestamp", "wal_keep_size", "wal_level", "wal_segment_size",
		"wal_sender_timeout", "wal_summary_keep_time",
	}
}

// Facts looks at the server once, changing nothing. Settings are in the server's base units, as pg_settings.setting
// prints them (wal_sender_timeout in milliseconds, max_slot_wal_keep_size in megabytes). What the role may not read is
// absent; a role with nothing but LOGIN and REPLICATION sees all that streaming and backups need.
func (c *Conn) Facts(ctx context.Context) (state.Server, error) {
	s := state.Server{Version: c.version, Host: c.server}
	steps := []func(context.Context, *state.Server) error{
		c.identity, c.role, c.settings, c.compressions, c.slotsAndSenders, c.tablespaces, c.patroni,
	}
	for _, step := range steps {
		if err := step(ctx, &s); err != nil {
			return state.Server{}, err
		}
	}
	return s, nil
}

// identity asks for what pg_control says, and for where the WAL is. A standby's timeline is the newest that it knows of:
// of its last checkpoint or of the end of recovery that it must reach.
func (c *Conn) identity(ctx context.Context, s *state.Server) error {
	action := "identify " + c.server
	row, err := c.row(ctx, 10, question{action: action, sql: `
		select s.system_identifier, pg_is_in_recovery(),
			case when pg_is_in_recovery() then greatest(k.timeline_id, r.min_recovery_end_timeline)
				else ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int end,
			` + receivedEnd + `,
			i.bytes_per_wal_segment, i.database_block_size, i.data_page_checksum_version > 0,
			(extract(epoch from clock_timestamp()) * 1000000)::bigint, current_setting('server_version_num')::int,
			case when pg_is_in_recovery() then coalesce(pg_last_wal_replay_lsn(), '0/0') else '0/0' end
		from pg_control_system() s, pg_control_checkpoint() k, pg_control_recovery() r, pg_control_init() i`})
	if err != nil {
		return err
	}
	f := &scan{fields: row}
	s.SystemID, s.InRecovery = f.text(), f.bool()
	s.Timeline, s.FlushLSN = wal.Timeline(f.number()), f.lsn()
	s.SegmentSize, s.PageSize, s.PageChecksums = wal.SegmentSize(f.number()), int(f.number()), f.bool()
	s.Now = time.UnixMicro(f.number()).UTC()
	s.Version = int(f.number())
	s.ReplayLSN = f.lsn()
	for _, err := range []error{f.err, checkSystemID(s.SystemID), s.SegmentSize.Check()} {
		if err != nil {
			return classifier{action: action}.problem(err)
		}
	}
	return nil
}

func (c *Conn) role(ctx context.Context, s *state.Server) error {
	action := "ask " + c.server + " what the role may do"
	row, err := c.row(ctx, 7, question{action: action, sql: `
		select r.rolname, r.rolsuper, r.rolreplication or r.rolsuper,
			has_function_privilege('pg_catalog.pg_switch_wal()', 'execute'),
			has_function_privilege('pg_catalog.pg_create_restore_point(text)', 'execute'),
			pg_has_role('pg_read_all_settings', 'usage'), pg_has_role('pg_read_all_stats', 'usage')
		from pg_roles r where r.rolname = current_user`})
	if err != nil {
		return err
	}
	f := &scan{fields: row}
	s.Role = state.Role{
		Name: f.text(), Superuser: f.bool(), Replication: f.bool(), SwitchWAL: f.bool(), CreateRestore: f.bool(),
		ReadAllSettings: f.bool(), ReadAllStats: f.bool(),
	}
	return nil
}

// settings reads what a session would get that sets nothing itself (reset_val): ours may have set some.
func (c *Conn) settings(ctx context.Context, s *state.Server) error {
	rows, err := c.rows(ctx, question{
		action: "read the settings of " + c.server,
		sql:    "select name, reset_val from pg_settings where name = any($1::text[]) and reset_val is not null",
		args:   []string{arrayLiteral(watchedSettings())},
	})
	if err != nil {
		return err
	}
	s.Settings = make(map[string]string, len(rows))
	for _, row := range rows {
		s.Settings[string(row[0])] = string(row[1])
	}
	return nil
}

// compressions asks what the server was built with. There is no other question for it that every role may ask; before 15 the
// setting is true or false, and the server compresses nothing that it sends.
func (c *Conn) compressions(ctx context.Context, s *state.Server) error {
	rows, err := c.rows(ctx, question{
		action: "ask " + c.server + " what it can compress with",
		sql:    "select unnest(enumvals) from pg_settings where name = 'wal_compression'",
	})
	if err != nil {
		return err
	}
	for _, row := range rows {
		s.WALCompressions = append(s.WALCompressions, cleanText(string(row[0])))
	}
	return nil
}

func (c *Conn) slotsAndSenders(ctx context.Context, s *state.Server) (err error) {
	if s.Slots, err = c.slots(ctx); err != nil {
		return err
	}
	action := "list the walsenders of " + c.server
	rows, err := c.rows(ctx, question{action: action, sql: `
		select pid, usename, application_name, client_addr, state, sync_state, sent_lsn, write_lsn, flush_lsn
		from pg_stat_replication order by pid`})
	if err != nil {
		return err
	}
	for _, row := range rows {
		f := &scan{fields: row}
		s.Senders = append(s.Senders, state.Sender{
			PID: int(f.number()), User: f.text(), Application: f.text(), Address: f.text(), State: f.text(), SyncState: f.text(),
			Sent: f.lsn(), Written: f.lsn(), Flushed: f.lsn(),
		})
		if f.err != nil {
			return classifier{action: action}.problem(f.err)
		}
	}
	return nil
}

// sizeTimeout bounds the question for sizes, which reads every directory of the server.
const sizeTimeout = "5s"

// tablespaces lists them, and sizes where the role may read them and the server is not too big to be asked each time.
func (c *Conn) tablespaces(ctx context.Context, s *state.Server) error {
	found, err := c.namedTablespaces(ctx)
	if err != nil {
		return err
	}
	s.Tablespaces = found
	if !s.Role.ReadAllStats && !s.Role.Superuser {
		return nil
	}
	return c.sizes(ctx, s)
}

// namedTablespaces lists the tablespaces outside the data directory. Every role may see them.
func (c *Conn) namedTablespaces(ctx context.Context) ([]state.Tablespace, error) {
	action := "list the tablespaces of " + c.server
	rows, err := c.rows(ctx, question{action: action, sql: `
		select oid, spcname, pg_tablespace_location(oid) from pg_tablespace
		where spcname not in ('pg_default', 'pg_global') order by spcname`})
	if err != nil {
		return nil, err
	}
	var out []state.Tablespace
	for _, row := range rows {
		f := &scan{fields: row}
		out = append(out, state.Tablespace{OID: uint32(f.number()), Name: f.text(), Location: f.text()})
		if f.err != nil {
			return nil, classifier{action: action}.problem(f.err)
		}
	}
	return out, nil
}

func (c *Conn) sizes(ctx context.Context, s *state.Server) error {
	action := "ask " + c.server + " for its size"
	if _, err := c.rows(ctx, question{action: action, sql: "set statement_timeout = '" + sizeTimeout + "'"}); err != nil {
		return err
	}
	rows, err := c.rows(ctx, question{action: action, sql: "select oid, coalesce(pg_tablespace_size(oid), 0) from pg_tablespace"})
	tooBig := sqlState(err) == "57014" // query_canceled
	if _, rerr := c.rows(ctx, question{action: action, sql: "reset statement_timeout"}); rerr != nil {
		return rerr
	}
	if tooBig {
		return nil
	}
	if err != nil {
		return err
	}
	size := map[uint32]int64{}
	for _, row := range rows {
		f := &scan{fields: row}
		oid, n := uint32(f.number()), f.number()
		size[oid] = n
		s.SizeBytes += n
	}
	for i := range s.Tablespaces {
		s.Tablespaces[i].Size = size[s.Tablespaces[i].OID]
	}
	return nil
}

// patroni tells whether Patroni manages the server: its own sessions say so, or the settings that it always gives on the
// command line stand there together.
func (c *Conn) patroni(ctx context.Context, s *state.Server) error {
	row, err := c.row(ctx, 1, question{action: "ask " + c.server + " whether Patroni manages it", sql: `
		select exists (select from pg_stat_activity where application_name in ('Patroni heartbeat', 'Patroni restapi', 'Patroni'))
			or 6 = (select count(*) from pg_settings where source = 'command line' and name in
				('cluster_name', 'max_prepared_transactions', 'max_locks_per_transaction', 'track_commit_timestamp', 'wal_level', 'max_worker_processes'))`})
	if err != nil {
		return err
	}
	s.Patroni = string(row[0]) == "t"
	return nil
}

// arrayLiteral writes names that need no quotes as an array.
func arrayLiteral(names []string) string {
	out := "{"
	for i, n := range names {
		if i > 0 {
			out += ","
		}
		out += fmt.Sprintf("%q", n)
	}
	return out + "}"
}
