package plan_test

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pgkeep/pgkeep/plan"
)

// TestChecked looks at the base world, and at worlds in which one thing is wrong: its line goes, and what only a check says
// comes, with its code.
func TestChecked(t *testing.T) {
	hcl, err := os.ReadFile("testdata/base.hcl")
	if err != nil {
		t.Fatal(err)
	}
	verdicts := func(hcl, patch string) string {
		spec := loadHCL(t, []byte(hcl))
		seen := loadObservation(t, []byte(patch))
		p, diags := plan.Build(spec, seen, baseTime, plan.Options{})
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		var out []string
		for _, f := range p.Checked(spec, seen) {
			if f.Subject == "" || (f.Code == "") != (f.Severity == plan.OK) || (f.Hint == "") != (f.Severity == plan.OK) {
				t.Errorf("%+v", f)
			}
			kind, _, _ := strings.Cut(f.Text, ":")
			if f.Severity != plan.OK {
				kind = string(f.Severity) + "=" + string(f.Code)
			}
			out = append(out, strings.ReplaceAll(kind, " ", "-"))
		}
		return strings.Join(out, " ")
	}
	const archived = " backups age size room WAL retention"
	backups := func(list string) string {
		return `{"repositories": {"main": {"clusters": {"orders": [{"name": "orders", "system_id": "7335180256203400928", "major": 15, "segment_size": 16777216,
			"wal": [{"timeline": 1, "from": "0/2000000", "to": "0/5000000", "bytes": 12000000, "partial": "0/5000060"}], "backups": [` + list + `]}]}}}}`
	}
	one := func(id, ended, more string) string {
		return `{"id": "` + id + `", "kind": "full", "timeline": 1, "redo": "0/2000028", "stop": "0/2000100", "began": "` + ended + `", "ended": "` + ended + `"` + more + `}`
	}
	const good = `, "state": "committed", "data_bytes": 1000, "stored_bytes": 300`
	const auto = "auto"
	on17 := func(value string) string {
		return `{"servers": {"orders": {"version": 170010, "settings": {"summarize_wal": "` + value + `"}}},
			"repositories": {"main": {"clusters": {"orders": [{"name": "orders", "system_id": "7335180256203400928", "major": 17, "segment_size": 16777216,
			"wal": [{"timeline": 1, "from": "0/2000000", "to": "0/5000000", "bytes": 12000000, "partial": "0/5000060"}],
			"backups": [` + one("20260210T000000Z-F-0010", "2026-02-10T00:10:00Z", good+`, "version": 170010`) + `]}]}}}}`
	}
	const onServer = "repository connection role identity settings slot receiver spool"
	for _, c := range []struct{ name, hcl, patch, want string }{
		{"all is well", "", "", onServer + archived},
		{"no WAL summaries before 17", auto, `{"servers": {"orders": {"settings": {"summarize_wal": "on"}}}}`, onServer + archived},
		{"no WAL summaries", auto, on17("off"), strings.Replace(onServer, "settings", "settings incremental-backups", 1) + archived},
		{"WAL summaries", auto, on17("on"), strings.Replace(onServer, "settings", "settings incremental-backups", 1) + archived},
		{"nobody asks for summaries", "", on17("off"), onServer + archived},
		{"no answer", "", `{"servers": {"orders": {"unknown": {"code": "E-UNREACHABLE", "because": "nothing listens"}}}}`, "repository receiver spool" + archived},
		{"another cluster", "", `{"servers": {"orders": {"system_id": "8"}}}`, "repository connection role settings slot receiver spool"},
		{"wal_level", "", `{"servers": {"orders": {"settings": {"wal_level": "minimal"}}}}`, "repository connection role identity slot receiver spool" + archived},
		{"no role", "", `{"servers": {"orders": {"role": {"replication": false}}}}`, "repository connection identity settings slot receiver spool" + archived},
		{"slot lost", "", `{"servers": {"orders": {"slots": [{"name": "pgkeep_orders", "physical": true, "wal_status": "lost"}]}}}`, "repository connection role identity settings receiver spool" + archived},
		{"no slot", "", `{"servers": {"orders": {"slots": []}}}`, "repository connection role identity settings error=E-SLOT-ABSENT receiver spool" + archived},
		{"no receiver", "", `{"receivers": {"orders": {"running": false}}}`, "repository connection role identity settings slot error=E-RECEIVER spool" + archived},
		{"no stream", "", `{"receivers": {"orders": {"streaming": false}}}`, "repository connection role identity settings slot error=E-RECEIVER spool" + archived},
		{"spool full", "", `{"spools": {"orders": {"free": 1}}}`, "repository connection role identity settings slot receiver" + archived},
		{"repository unmounted", "", `{"repositories": {"main": {"unknown": {"code": "E-NOT-MOUNTED", "because": "not mounted"}}}}`, strings.TrimPrefix(onServer, "repository ")},
		{"a walsender", "", `{"servers": {"orders": {"walsender": {"system_id": "7335180256203400928"}}}}`, "repository connection replication-connection role identity settings slot receiver spool" + archived},
		{
			"no walsender", "", `{"servers": {"orders": {"walsender": {"unknown": {"code": "E-TOO-MANY-CONNECTIONS", "because": "none is free", "hint": "raise max_wal_senders"}}}}}`,
			"repository connection error=E-TOO-MANY-CONNECTIONS role identity settings slot receiver spool" + archived,
		},
		{"another walsender", "", `{"servers": {"orders": {"walsender": {"system_id": "8"}}}}`, "repository connection error=E-IDENTITY role identity settings slot receiver spool" + archived},
		{"no room", "", `{"repositories": {"main": {"free": 300000000, "total": 300000000}}}`, onServer + " backups age size WAL retention"},
		{"overdue", "", backups(one("20260209T000000Z-F-0009", "2026-02-09T00:10:00Z", good)), onServer + " backups error=E-OVERDUE size room WAL retention"},
		{"skipped", `if_missed = "skip"`, backups(one("20260209T000000Z-F-0009", "2026-02-09T00:10:00Z", good)), onServer + " backups warning=E-OVERDUE size room WAL retention"},
		{
			"failed", "", backups(one("20260210T000000Z-F-0010", "2026-02-10T00:10:00Z", good) + "," + one("20260210T010000Z-F-0011", "2026-02-10T01:10:00Z", `, "state": "aborted", "failure": "no space"`)),
			onServer + " backups warning=E-OVERDUE age size room WAL retention",
		},
		{
			"shrunk", "", backups(one("20260209T000000Z-F-0009", "2026-02-09T00:10:00Z", strings.Replace(good, "1000", "9000", 1)) + "," + one("20260210T000000Z-F-0010", "2026-02-10T00:10:00Z", good)),
			onServer + " backups age warning=E-SIZE room WAL retention",
		},
	} {
		configuration := string(hcl)
		switch c.hcl {
		case "":
		case auto:
			configuration = strings.Replace(configuration, `"full"`, `"auto"`, 1)
		default:
			configuration = strings.Replace(configuration, `backup   = "full"`, `backup = "full"`+"\n  "+c.hcl, 1)
		}
		if diff := cmp.Diff(c.want, verdicts(configuration, c.patch)); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
	bare := string(hcl)[:strings.Index(string(hcl), "schedule ")]
	if got := verdicts(bare, backups(one("20260120T000000Z-F-0001", "2026-01-20T00:10:00Z", good))); got != onServer+" backups warning=E-OVERDUE size room WAL warning=E-OVERDUE" {
		t.Errorf("an old backup, no schedule, and no look at it for three weeks: %s", got)
	}
}

// TestNextBackupThatDoesNotFit: a repository with less room than the next backup needs, at the measured compression, is
// among the findings of every plan.
func TestNextBackupThatDoesNotFit(t *testing.T) {
	hcl, err := os.ReadFile("testdata/base.hcl")
	if err != nil {
		t.Fatal(err)
	}
	spec := loadHCL(t, hcl)
	for _, c := range []struct {
		patch string
		want  string
	}{
		{`{"repositories": {"main": {"free": 314572799}}}`, "it needs about 300.0 MiB (1.0 GiB at the compression of 20260210T000000Z-F-0010, 3.4 to 1), and repository.main has 300.0 MiB free"},
		{`{"repositories": {"main": {"free": 314572800}}}`, ""},
		{`{"repositories": {"main": {"free": 314572799}}, "servers": {"orders": {"size_bytes": 0}}}`, "(as much as 20260210T000000Z-F-0010)"},
		{`{"repositories": {"main": {"free": 314572799}}, "servers": {"orders": {"size_bytes": 104857600}}}`, ""},
		{`{"repositories": {"main": {"free": -1}}}`, ""},
	} {
		p, diags := plan.Build(spec, loadObservation(t, []byte(c.patch)), baseTime, plan.Options{})
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		got := ""
		for _, f := range p.Findings {
			if f.Code == "E-DISK-FULL" && f.Severity == plan.Warning && strings.Contains(f.Text, "will not fit") {
				got = f.Text
			}
		}
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", c.patch, got, c.want)
		}
	}
}
