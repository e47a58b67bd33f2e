package recovery

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state/wal"
)

// disarmed are settings that would let a copy act on the world as if it were the origin: archive into the origin's
// archive, follow the origin's primary, wait for its standbys, consume its logical slots, or answer its clients.
func disarmed(major int) []setting {
	out := []setting{
		{"archive_mode", "off"},
		{"archive_command", ""},
		{"archive_cleanup_command", ""},
		{"recovery_end_command", ""},
		{"recovery_min_apply_delay", "0"},
		{"synchronous_standby_names", ""},
		{"cluster_name", ""},
		{"max_logical_replication_workers", "0"},
		{"listen_addresses", "localhost"},
		{"hot_standby", "on"},
	}
	if major <= 15 {
		out = append(out, setting{"promote_trigger_file", ""})
	}
	if major >= 15 {
		out = append(out, setting{"archive_library", ""})
	}
	if major >= 17 {
		out = append(out, setting{"synchronized_standby_slots", ""}, setting{"sync_replication_slots", "off"})
	}
	return out
}

// targetSettings are the settings that make PostgreSQL stop at the target. All of them are written, so that none of the
// origin's own survives, nor whom it followed; the one that is set stands behind those that are cleared, because PostgreSQL 13 to 18 take a
// cleared one behind a set one as "multiple recovery targets specified".
func targetSettings(r plan.Route) []setting {
	t := r.Target
	inclusive, action, timeline := "on", "promote", strconv.FormatUint(uint64(r.TargetTimeline), 10)
	var stop setting
	switch {
	case r.Destination.PrimaryConninfo != "":
		timeline = "latest"
	case r.AtEnd || t.Latest: // to the end of the route's WAL, where PostgreSQL knows no action but to promote
	case t.Immediate:
		stop = setting{"recovery_target", "immediate"}
	case !t.Time.IsZero():
		stop = setting{"recovery_target_time", t.Time.UTC().Format("2006-01-02 15:04:05.999999+00")}
	case t.XID != 0:
		stop = setting{"recovery_target_xid", strconv.FormatUint(uint64(t.XID), 10)}
	case t.LSN != 0:
		stop = setting{"recovery_target_lsn", t.LSN.String()}
	case t.Restore != "":
		stop = setting{"recovery_target_name", t.Restore}
	}
	if stop.name != "" && t.Action != "" {
		action = t.Action
	}
	if stop.name != "" && !t.Inclusive {
		inclusive = "off" // of no meaning to immediate and to names
	}
	var out []setting
	for _, name := range []string{"recovery_target", "recovery_target_time", "recovery_target_xid", "recovery_target_lsn", "recovery_target_name"} {
		if name != stop.name {
			out = append(out, setting{name, ""})
		}
	}
	if stop.name != "" {
		out = append(out, stop)
	}
	return append(out,
		setting{"recovery_target_inclusive", inclusive},
		setting{"recovery_target_action", action},
		setting{"recovery_target_timeline", timeline},
		setting{"primary_conninfo", r.Destination.PrimaryConninfo},
		setting{"primary_slot_name", r.Destination.PrimarySlot},
	)
}

// targetText names the target for people and evidence.
func targetText(r plan.Route) string {
	t := r.Target
	switch {
	case t.Latest:
		return "latest"
	case t.Immediate:
		return "immediate"
	case !t.Time.IsZero():
		return "time " + t.Time.UTC().Format(time.RFC3339Nano)
	case t.XID != 0:
		return fmt.Sprintf("transaction %d", t.XID)
	case t.LSN != 0:
		return "position " + t.LSN.String()
	}
	return fmt.Sprintf("restore point %q", t.Restore)
}

// restoreCommand is the shell line that PostgreSQL runs for each file. What was fetched ahead is moved by the shell, in a fraction of the time
// that a program of pgkeep's size takes to start. wal-get is asked for everything else. The line turns 10 into "there is no such
// file" and every other failure into 255: PostgreSQL takes any code up to 125 as the former and would end recovery early. Success without
// a file is a failure too: sh takes an empty program, as an upgrade on a full disk leaves it, for a script that succeeds,
// and PostgreSQL would end recovery there.
func restoreCommand(program, route, ahead string) string {
	percent := func(s string) string { return strings.ReplaceAll(quoteShell(s), "%", "%%") }
	return "[ -f " + percent(ahead) + "/%f ] && mv -f " + percent(ahead) + "/%f %p && exit 0; " +
		percent(program) + " wal-get --route " + percent(route) + " %f %p; s=$?; [ $s -eq 0 ] && [ -f %p ] && exit 0; [ $s -eq 10 ] && exit 1; exit 255"
}

// raised are the settings that recovery demands to be at least the origin's.
func raised(need wal.Settings, configured map[string]string) []setting {
	var out []setting
	for _, x := range []struct {
		name string
		need int
	}{
		{"max_connections", need.MaxConnections},
		{"max_worker_processes", need.MaxWorkers},
		{"max_wal_senders", need.MaxSenders},
		{"max_prepared_transactions", need.MaxPrepared},
		{"max_locks_per_transaction", need.MaxLocks},
	} {
		n := x.need
		if c, err := strconv.Atoi(configured[x.name]); err == nil {
			n = max(n, c)
		}
		out = append(out, setting{x.name, strconv.Itoa(n)})
	}
	return out
}

// paths resets settings that name places outside the data directory: they are the origin's, or not there at all.
func (r *restore) paths(major int, configured map[string]string) []setting {
	data := r.places[0]
	out := []setting{
		{"hba_file", filepath.Join(data, "pg_hba.conf")},
		{"ident_file", filepath.Join(data, "pg_ident.conf")},
	}
	if configured["external_pid_file"] != "" {
		out = append(out, setting{"external_pid_file", ""})
	}
	if filepath.IsAbs(configured["log_directory"]) {
		out = append(out, setting{"log_directory", "log"})
	}
	if major <= 14 && filepath.IsAbs(configured["stats_temp_directory"]) {
		out = append(out, setting{"stats_temp_directory", "pg_stat_tmp"})
	}
	if isOn(configured["ssl"]) && r.tlsOutside(configured) {
		out = append(out, setting{"ssl", "off"})
		r.note("ssl is off in the copy: its certificate or key is not in the data directory")
	}
	if isOn(configured["huge_pages"]) {
		out = append(out, setting{"huge_pages", "try"})
	}
	if dirs := configured["unix_socket_directories"]; dirs != "" && !allExist(dirs) {
		out = append(out, setting{"unix_socket_directories", "/tmp"})
		r.note("unix_socket_directories is /tmp in the copy: " + dirs + " is not there")
	}
	if r.Route.Destination.Port != 0 {
		out = append(out, setting{"port", strconv.Itoa(r.Route.Destination.Port)})
	}
	return out
}

func isOn(value string) bool {
	switch strings.ToLower(value) {
	case "on", "true", "yes", "1", "t", "y":
		return true
	}
	return false
}

// tlsOutside tells whether a file of the server's TLS lies outside the data directory or is not there.
func (r *restore) tlsOutside(configured map[string]string) bool {
	for name, standard := range map[string]string{"ssl_cert_file": "server.crt", "ssl_key_file": "server.key", "ssl_ca_file": "", "ssl_crl_file": ""} {
		file := standard
		if v, ok := configured[name]; ok {
			file = v
		}
		if file == "" {
			continue
		}
		if filepath.IsAbs(file) {
			return true
		}
		if _, err := r.roots[0].Stat(file); err != nil {
			return true
		}
	}
	return false
}
