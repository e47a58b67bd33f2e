package state

import "testing"

// TestDrillSeconds: the recovery is every phase but what is asked and what is put away, whenever it is summed up.
func TestDrillSeconds(t *testing.T) {
	d := Drill{Phases: []DrillPhase{{Name: "files", Seconds: 4}, {Name: "start", Seconds: 2}, {Name: "replay", Seconds: 1}, {Name: "checks", Seconds: 90}, {Name: "remove", Seconds: 7}}}
	if got := d.Recovery(); got != 7 {
		t.Errorf("the recovery took %g s", got)
	}
	if got := d.Seconds("start", "replay", "none"); got != 3 {
		t.Errorf("start and replay took %g s", got)
	}
}
