package plan_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
)

const drillOfDays = `
drill "weekly" {
  server  = server.orders
  max_age = "8d"
  timeout = "2h"
}
`

// TestCheckedDue: a drill or a verification that is due is nothing yet; one that nobody made for so long that it could have been is an error,
// and no line calls in order what is older than it may be. What no block asks for is a warning at most.
func TestCheckedDue(t *testing.T) {
	base, err := os.ReadFile("testdata/base.hcl")
	if err != nil {
		t.Fatal(err)
	}
	drill := func(name string, passed bool, ago time.Duration) state.Drill {
		return state.Drill{Kind: state.DrillKind, Drill: name, Server: "orders", Repository: "main", Backup: "20260210T000000Z-F-0010", Passed: passed, Began: baseTime.Add(-ago), Ended: baseTime.Add(time.Minute - ago)}
	}
	looked := func(quick, full time.Duration) *state.Verification {
		return &state.Verification{Quick: state.Look{Began: baseTime.Add(-quick)}, Full: state.Look{Began: baseTime.Add(-full)}}
	}
	const day = 24 * time.Hour
	for _, c := range []struct {
		name, hcl string
		drills    []state.Drill
		looked    *state.Verification
		unseen    bool
		want      []string // of E-OVERDUE, and of drills
	}{
		{"young", drillOfDays, []state.Drill{drill("weekly", true, 7*day)}, nil, false, []string{"ok drill weekly"}},
		{"due", drillOfDays, []state.Drill{drill("weekly", true, 8*day+time.Hour)}, nil, false, []string{"ok drill weekly"}},
		{"overdue", drillOfDays, []state.Drill{drill("weekly", true, 8*day+3*time.Hour)}, nil, false, []string{"error drill.weekly of orders is overdue since"}},
		{"overdue, and failed", drillOfDays, []state.Drill{drill("weekly", false, 9*day)}, nil, false, []string{"error drill.weekly of orders is overdue since"}},
		{"failed", drillOfDays, []state.Drill{drill("weekly", false, day), drill("weekly", true, 2*day)}, nil, false, nil},
		{"another passed", drillOfDays, []state.Drill{drill("by-hand", true, day), drill("weekly", true, 2*day)}, nil, false, []string{"ok drill weekly", "ok drill by-hand"}},
		{"never", strings.Replace(drillOfDays, "8d", "1h", 1), nil, nil, false, []string{"error drill.weekly of orders is overdue since"}},
		{"never, no backup for so long", drillOfDays, nil, nil, false, nil},
		{"a repository was not seen", drillOfDays, []state.Drill{drill("weekly", true, 9*day)}, nil, true, []string{"ok drill weekly"}},
		{"by cron", strings.Replace(drillOfDays, `max_age = "8d"`, `cron = "0 6 * * *"`, 1), []state.Drill{drill("weekly", true, day)}, nil, false, []string{"error drill.weekly of orders is overdue since 2026-02-10 06:00:00 UTC"}},
		{"verified", "", nil, looked(time.Hour, 36*day-time.Hour), false, nil},
		{"no quick look", "", nil, looked(3*day, 3*day), false, []string{"warning the quick verification of orders in repository.main is overdue"}},
		{"no full look", "", nil, looked(time.Hour, 37*day), false, []string{"warning the full verification of orders in repository.main is overdue"}},
		{"asked for", "verify \"v\" {\n  servers = [server.orders]\n  level = \"full\"\n  max_age = \"2d\"\n}\n", nil, looked(time.Hour, 4*day), false, []string{"error the full verification of orders in repository.main is overdue"}},
	} {
		hcl := string(base) + c.hcl
		if c.unseen {
			hcl = strings.Replace(hcl, "[repository.main]", "[repository.main, repository.far]", 1) + "repository \"far\" {\n  url = \"s3://far/x\"\n}\n"
		}
		spec, seen := loadHCL(t, []byte(hcl)), loadObservation(t, nil)
		cluster := &seen.Repositories["main"].Clusters["orders"][0]
		cluster.Drills, cluster.Verified = c.drills, c.looked
		p, diags := plan.Build(spec, seen, baseTime, plan.Options{})
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		var got []string
		for _, f := range p.Checked(spec, seen) {
			if f.Code == state.CodeOverdue || strings.HasPrefix(f.Text, "drill") {
				got = append(got, fmt.Sprintf("%s %s", f.Severity, f.Text))
			}
		}
		got = shorten(got, c.want)
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
}

// shorten cuts what was said where what is wanted ends, so that it says how it begins.
func shorten(got, want []string) []string {
	for i := range got {
		if i < len(want) && strings.HasPrefix(got[i], want[i]) {
			got[i] = want[i]
		}
	}
	return got
}

// TestFailedByHand: that a drill without a block failed is told as long as its backup is there, and no longer.
func TestFailedByHand(t *testing.T) {
	base, err := os.ReadFile("testdata/base.hcl")
	if err != nil {
		t.Fatal(err)
	}
	spec, seen := loadHCL(t, base), loadObservation(t, nil)
	cluster := &seen.Repositories["main"].Clusters["orders"][0]
	for backup, want := range map[string]bool{cluster.Backups[0].ID: true, "20250101T000000Z-F-gone": false} {
		cluster.Drills = []state.Drill{{Kind: state.DrillKind, Drill: "by-hand", Server: "orders", Repository: "main", Backup: backup, Failures: []string{"x"}, Began: baseTime, Ended: baseTime}}
		p, diags := plan.Build(spec, seen, baseTime, plan.Options{})
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		got := slices.ContainsFunc(p.Findings, func(f plan.Finding) bool { return f.Code == state.CodeDrill })
		if got != want {
			t.Errorf("of backup %s it is told: %t", backup, got)
		}
	}
}
