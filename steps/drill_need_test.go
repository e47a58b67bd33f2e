package steps

import (
	"context"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
)

// crampedDrills have no room in their scratch directory.
type crampedDrills struct{ fakeDrills }

func (crampedDrills) Room(context.Context, plan.Drill) error {
	return &state.Error{Code: state.CodeDiskFull, Text: "it has 1 MiB free now"}
}

// TestDrillLooksAgain re-reads the conditions of a drill: nobody else made it since it was due, and there is room for the copy.
func TestDrillLooksAgain(t *testing.T) {
	due := time.Date(2026, 2, 10, 6, 0, 0, 0, time.UTC)
	action := plan.Drill{Drill: "weekly", Since: due}
	ask := func(d Drills, code string) (verdict, error) {
		return (&drill{drills: d, action: action}).Holds(t.Context(), plan.Condition{Code: code})
	}
	w := &fakeWorld{}
	for began, want := range map[time.Time]verdictKind{due.Add(-time.Hour): satisfied, due: stale, due.Add(time.Hour): stale} {
		w.drilled = []state.Drill{{Drill: "weekly", Began: began}}
		if v, err := ask(fakeDrills{w}, plan.NeedUndrilled); err != nil || v.kind != want {
			t.Errorf("drilled at %s: %v, %v", began, v, err)
		}
	}
	if v, err := ask(fakeDrills{w}, plan.NeedScratch); err != nil || v.kind != satisfied {
		t.Errorf("room enough: %v, %v", v, err)
	}
	if _, err := ask(crampedDrills{fakeDrills{w}}, plan.NeedScratch); state.CodeOf(err) != state.CodeDiskFull {
		t.Errorf("no room: %v", err)
	}
}
