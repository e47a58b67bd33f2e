package plan_test

import (
	"encoding/json"
	"os"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// TestDrillsByChance: over many drills every position that can be recovered is as likely as any other, across two backups and around
// a gap; none lies where nothing can be recovered, and each begins with the newest backup before it.
func TestDrillsByChance(t *testing.T) {
	base, err := os.ReadFile("testdata/base.hcl")
	if err != nil {
		t.Fatal(err)
	}
	spec := loadHCL(t, append(base, "drill \"weekly\" {\n  server = server.orders\n  scratch = \"/srv/drill\"\n  owner = \"postgres\"\n  target {\n    random = true\n  }\n}\n"...))
	seen := loadObservation(t, []byte(`{"scratches": {"weekly": {"path": "/srv/drill", "free": {"/srv/drill": 107374182400}, "owner_exists": true, "can_own": true, "bin_version": 15}}}`))
	const mib = 1 << 20
	backup := func(id string, redo, stop wal.LSN, ended time.Time) state.Backup {
		return state.Backup{ID: id, Kind: "full", State: state.BackupCommitted, Timeline: 1, Redo: redo, Stop: stop, Began: ended, Ended: ended, DataBytes: 1000}
	}
	c := &seen.Repositories["main"].Clusters["orders"][0]
	c.Backups = []state.Backup{backup("a", 0x1000028, 0x1800000, baseTime.Add(-9*time.Hour)), backup("b", 0x10000028, 0x10800000, baseTime.Add(-5*time.Hour))}
	c.WAL = []state.WALRange{{Range: wal.Range{Timeline: 1, From: 0x1000000, To: 0x9000000}}, {Range: wal.Range{Timeline: 1, From: 0x10000000, To: 0x20000000}}}
	c.Gaps = nil
	stretches := map[string][2]wal.LSN{"a": {0x1800000, 0x8000000}, "b": {0x10800000, 0x1f000000}}
	const drills = 3000
	count, total := map[string]int{}, 0
	for _, s := range stretches {
		total += int(s[1] - s[0])
	}
	lower := 0
	for i := range drills {
		now := baseTime.Add(time.Duration(i) * time.Minute)
		p, diags := plan.Build(spec, seen, now, plan.Options{Drill: &plan.DrillNow{Name: "weekly"}})
		if diags.HasErrors() || len(p.Steps) != 1 {
			text, _ := json.Marshal(p.NotDone)
			t.Fatal(diags, string(text))
		}
		r := p.Steps[0].Action.(plan.Drill).Route
		s := stretches[r.Backup]
		if r.Target.LSN <= s[0] || r.Target.LSN >= s[1] || r.End <= r.Target.LSN {
			t.Fatalf("%s from %s, WAL up to %s", r.Target.LSN, r.Backup, r.End)
		}
		if r.Target.LSN < (s[0]+s[1])/2 {
			lower++
		}
		count[r.Backup]++
	}
	for id, s := range stretches {
		want := drills * int(s[1]-s[0]) / total
		if d := count[id] - want; d < -drills/20 || d > drills/20 {
			t.Errorf("%d of %d drills are of %s, not about %d", count[id], drills, id, want)
		}
	}
	if d := lower - drills/2; d < -drills/20 || d > drills/20 {
		t.Errorf("%d of %d lie in the lower half of their stretch", lower, drills)
	}
}
