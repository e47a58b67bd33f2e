package recovery

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestIsolatedLibraries: what works by itself is left out of the list of libraries, by its whole name; all else stays in its order.
func TestIsolatedLibraries(t *testing.T) {
	for list, want := range map[string]string{
		"":                              "; ",
		"pg_stat_statements":            "pg_stat_statements; ",
		`pg_stat_statements, "pg_cron"`: "pg_stat_statements; pg_cron",
		"pg_net,auto_explain,pglogical": "auto_explain; pg_net pglogical",
		"my_pg_cron, pg_cron_monitor":   "my_pg_cron, pg_cron_monitor; ",
	} {
		kept, left := withoutJobs(list)
		if d := cmp.Diff(want, kept+"; "+strings.Join(left, " ")); d != "" {
			t.Errorf("%s: %s", list, d)
		}
	}
	r := &restore{Options: Options{Isolated: "/srv/scratch/d-1/s"}}
	got := map[string]string{}
	for _, s := range r.isolatedSettings(17, map[string]string{"shared_preload_libraries": "timescaledb,pg_cron"}) {
		got[s.name] = s.value
	}
	for name, want := range map[string]string{
		"shared_preload_libraries": "timescaledb", "timescaledb.max_background_workers": "0", "event_triggers": "off", "listen_addresses": "", "ssl": "off",
		"unix_socket_directories": `"/srv/scratch/d-1/s"`,
	} {
		if got[name] != want {
			t.Errorf("%s is %q and not %q", name, got[name], want)
		}
	}
	if len(r.evidence.Notes) != 1 || !strings.Contains(r.evidence.Notes[0], "pg_cron") {
		t.Errorf("%q", r.evidence.Notes)
	}
}
