package repository

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/store/storetest"
)

// TestDrillsAreFoundBehindOtherEvidence: any number of verifications hides no drill, nor what it measured.
func TestDrillsAreFoundBehindOtherEvidence(t *testing.T) {
	c := newArchive(t, storetest.NewMemory(nil), mib)
	put := func(name string, hours int, passed bool) state.Drill {
		d := state.Drill{
			Kind: state.DrillKind, Drill: name, Server: "orders.eu", Passed: passed, Ended: archiveEpoch.Add(time.Duration(hours) * time.Hour),
			Phases: []state.DrillPhase{{Name: "files", Seconds: 2, Bytes: 200}, {Name: "checks", Seconds: 9}}, Rows: []state.DrillRows{{Database: "shop", Table: "public.orders", Rows: 7}},
		}
		for range 2 { // the second time is a retry
			if err := c.PutDrill(t.Context(), d); err != nil {
				t.Fatal(err)
			}
		}
		return d
	}
	first, second := put("weekly", 1, true), put("weekly", 2, false)
	other := put("other", 2, true) // at the very same moment
	third := put("weekly", 3, false)
	for i := range maxMeasuredRead + 10 {
		if err := c.PutEvidence(t.Context(), archiveEpoch.Add(time.Duration(100+i)*time.Hour), map[string]string{"kind": state.VerificationKind}); err != nil {
			t.Fatal(err)
		}
	}
	all, err := c.Drills(t.Context())
	if d := cmp.Diff([]state.Drill{third, other, second, first}, all); d != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
	var names []string
	for _, d := range newestDrills(all) {
		names = append(names, fmt.Sprintf("%s %s %t %d", d.Drill, d.Ended.Format("15"), d.Passed, len(d.Rows)))
	}
	if d := cmp.Diff([]string{"weekly 03 false 0", "other 02 true 0", "weekly 01 true 0"}, names); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	measured, err := c.Measured(t.Context())
	if err != nil || len(measured) != 4 || measured[0].What != "drill" || measured[0].Restore != (state.Work{Bytes: 200, Seconds: 2}) {
		t.Errorf("%v %+v", err, measured)
	}
}
