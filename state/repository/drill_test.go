package repository

import (
	cmp2 "cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/store"
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
	again := second
	again.Host = "another"
	if err := c.PutDrill(t.Context(), again); err != nil { // and of the same name
		t.Fatal(err)
	}
	third := put("weekly", 3, false)
	for i := range maxMeasuredRead + 10 {
		if err := c.PutEvidence(t.Context(), archiveEpoch.Add(time.Duration(100+i)*time.Hour), map[string]string{"kind": state.VerificationKind}); err != nil {
			t.Fatal(err)
		}
	}
	older := state.Drill{Kind: state.DrillKind, Drill: "weekly", Server: "orders.eu", Ended: archiveEpoch.Add(-time.Hour)}
	body, err := c.note(older.Ended, older)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.putNote(t.Context(), c.key.evidenceFile(older.Ended)+drillMark, body); err != nil { // as keys were once
		t.Fatal(err)
	}
	all, err := c.Drills(t.Context())
	if d := cmp.Diff([]state.Drill{third, other, again, second, first, older}, inOrder(all)); d != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
	var names []string
	newest, err := c.NewestDrills(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range inOrder(newest) {
		names = append(names, fmt.Sprintf("%s %s %t %d", d.Drill, d.Ended.Format("15"), d.Passed, len(d.Rows)))
	}
	if d := cmp.Diff([]string{"weekly 03 false 0", "other 02 true 0", "weekly 01 true 0"}, names); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	measured, err := c.Measured(t.Context())
	if err != nil || len(measured) != 5 || measured[0].What != "drill" || measured[0].Restore != (state.Work{Bytes: 200, Seconds: 2}) {
		t.Errorf("%v %+v", err, measured)
	}
}

// inOrder puts drills of one moment into the order of their names.
func inOrder(all []state.Drill) []state.Drill {
	slices.SortStableFunc(all, func(x, y state.Drill) int {
		return cmp2.Or(y.Ended.Compare(x.Ended), strings.Compare(x.Drill, y.Drill))
	})
	return all
}

// TestDrillsBehindOtherDrills: however many drills of other names are newer, the newest of each name is found, and the newest that passed, and
// no more is read than that.
func TestDrillsBehindOtherDrills(t *testing.T) {
	reads := 0
	c := newArchive(t, counted{storetest.NewMemory(nil), &reads}, mib)
	put := func(name string, hours int, passed bool) {
		if err := c.PutDrill(t.Context(), state.Drill{Drill: name, Passed: passed, Ended: archiveEpoch.Add(time.Duration(hours) * time.Hour)}); err != nil {
			t.Fatal(err)
		}
	}
	put("monthly", 1, true)
	put("monthly", 2, false)
	for i := range 2 * maxDrills {
		put("hourly", 10+i, true)
	}
	reads = 0
	newest, err := c.NewestDrills(t.Context())
	if err != nil || len(newest) != 3 || newest[0].Drill != "hourly" || newest[1].Drill != "monthly" || newest[1].Passed || !newest[2].Passed {
		t.Errorf("%v %+v", err, newest)
	}
	if reads > 3 {
		t.Errorf("%d objects were read", reads)
	}
	if all, err := c.Drills(t.Context()); err != nil || len(all) != maxDrills+2 {
		t.Errorf("%d drills, %v", len(all), err)
	}
}

// counted counts what is read.
type counted struct {
	store.Store
	reads *int
}

// Get counts.
func (c counted) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	*c.reads++
	return c.Store.Get(ctx, key, off, n)
}
