package render_test

import (
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/plan/render"
	"github.com/pgkeep/pgkeep/state"
)

var update = flag.Bool("update", false, "write the golden files")

// TestMetrics: a drill that failed with an older one that passed, one that was never made, objectives that are met, missed with a figure
// and without, and not known.
func TestMetrics(t *testing.T) {
	at := func(hour int) time.Time { return time.Date(2026, 2, 10, hour, 0, 0, 500_000, time.UTC) }
	phases := []state.DrillPhase{{Name: "look", Seconds: 0.5}, {Name: "files", Seconds: 60, Bytes: 7}, {Name: "wal", Seconds: 4}, {Name: "start", Seconds: 2}, {Name: "replay", Seconds: 30.25}, {Name: "checks", Seconds: 9}}
	failed := &state.Drill{Drill: "weekly", Repository: "main", Began: at(5), Ended: at(6), LastTime: at(4), Failures: []string{"a", "b"}, Phases: phases, RTO: 96.75, Amcheck: state.DrillAmcheck{Indexes: 40, Tables: 2}}
	passed := &state.Drill{Drill: "weekly", Repository: "main", Began: at(1), Ended: at(2), Passed: true}
	p := &plan.Plan{
		Now: at(12), Findings: []plan.Finding{{Severity: plan.Error}, {Severity: plan.Warning}, {Severity: plan.Warning}},
		Objectives: []plan.Objective{
			{Server: "orders.eu", RPO: &plan.Promise{Promised: 10, Known: true, Met: true}, RTO: &plan.Promise{Promised: 1800, Known: true, Now: 2460}},
			{Server: "shop", RPO: &plan.Promise{Promised: 10, Known: true}, RTO: &plan.Promise{Promised: 60}},
		},
		Windows: []plan.Window{
			{Server: "orders.eu", Repository: "main", Intervals: []plan.Interval{{From: at(0), To: at(3)}, {From: at(7), To: at(11)}}},
			{Server: "orders.eu", Repository: "main", SystemID: "7", Intervals: []plan.Interval{{From: at(0), To: at(3)}}},
			{Server: "shop", Repository: "main"},
		},
	}
	drills := []plan.DrillStanding{
		{Server: "orders.eu", Drill: "weekly", Address: "drill.weekly", MaxAge: 8 * 24 * time.Hour, Newest: failed, Passed: passed, Since: at(9), Overdue: true},
		{Server: "shop", Drill: "a \"b\\\n", Address: "drill.x"},
		{Server: "shop", Drill: "by-hand", Newest: passed, Passed: passed},
	}
	var out strings.Builder
	if err := render.Metrics(&out, p, drills); err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/metrics.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(out.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), out.String()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}
