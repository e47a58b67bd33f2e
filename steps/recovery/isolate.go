package recovery

import (
	"fmt"
	"slices"
	"strings"
)

// A drill's copy is reached by nobody but who made it: over one socket in a directory of mode 0700, by a pg_hba.conf that
// trusts who gets there. What a promoted copy would do by itself beyond what any copy is kept from (disarmed) is off too.

// isolatedPort names the socket; nothing listens on it.
const isolatedPort = 5432

// isolatedSettings come behind all others.
func (r *restore) isolatedSettings(major int, configured map[string]string) []setting {
	if r.Isolated == "" {
		return nil
	}
	out := []setting{
		{"listen_addresses", ""},
		{"unix_socket_directories", quoteList(r.Isolated)},
		{"unix_socket_permissions", "0700"},
		{"unix_socket_group", ""},
		{"port", fmt.Sprint(isolatedPort)},
		{"ssl", "off"},
		{"autovacuum", "off"},
		{"session_preload_libraries", ""},
		{"local_preload_libraries", ""},
		{"track_activities", "on"},
	}
	if major >= 17 {
		out = append(out, setting{"event_triggers", "off"})
	}
	libraries, left := withoutJobs(configured["shared_preload_libraries"])
	if len(left) > 0 {
		out = append(out, setting{"shared_preload_libraries", libraries})
		r.note("the drill's copy does without " + strings.Join(left, ", ") + ", which would begin to work by itself")
	}
	if strings.Contains(libraries, "timescaledb") {
		out = append(out, setting{"timescaledb.max_background_workers", "0"})
	}
	return out
}

// quoteList writes one element of a setting that holds a list of names.
func quoteList(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

// jobs are libraries whose workers act on the world, or on the data, once a copy is promoted.
func jobs() []string {
	return []string{
		"pg_cron", "pgagent", "pg_partman_bgw", "pg_squeeze", "citus", "pglogical", "pg_net", "pg_task", "pg_statsinfo", "vectorize", "pgautofailover", "pg_failover_slots",
	}
}

// withoutJobs gives the libraries of a list that only answer, and those that were left out.
func withoutJobs(list string) (kept string, left []string) {
	var out []string
	for _, one := range strings.Split(list, ",") {
		one = strings.TrimSpace(one)
		if slices.Contains(jobs(), strings.Trim(one, `"`)) {
			left = append(left, strings.Trim(one, `"`))
			continue
		}
		if one != "" {
			out = append(out, one)
		}
	}
	return strings.Join(out, ", "), left
}

// isolatedHBA lets in who reaches the socket.
const isolatedHBA = "# Written by pgkeep for a drill: the socket lies in a directory that only its owner enters.\nlocal all all trust\n"
