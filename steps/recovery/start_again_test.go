package recovery

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/host"
	"github.com/pgkeep/pgkeep/state/wal"
)

// restoredAs makes a directory look as a complete restore of the route, whose server was started and noted.
func restoredAs(t *testing.T, route plan.Route, reached *Reached) {
	t.Helper()
	dir := route.Destination.Path
	check(t, os.MkdirAll(filepath.Join(dir, "global"), 0o700))
	check(t, os.WriteFile(filepath.Join(dir, controlPath), nil, 0o600))
	check(t, os.WriteFile(filepath.Join(dir, "recovery.signal"), nil, 0o600))
	check(t, os.MkdirAll(stateDir(dir), 0o700))
	beside, err := os.OpenRoot(stateDir(dir))
	check(t, err)
	defer beside.Close()
	owner, err := host.LookupOwner("")
	check(t, err)
	r := &restore{Options: Options{Route: route}, beside: beside, owner: owner}
	check(t, r.writeMarker(true))
	s := &starting{StartOptions: StartOptions{Route: route}, dir: dir, owner: owner}
	s.record = started{Version: 1, Route: routeDigest(route), PID: 1 << 30, Plan: route, Reached: reached}
	check(t, s.write())
}

func latestRoute(t *testing.T) plan.Route {
	moment := time.Date(2026, 2, 10, 22, 16, 17, 1000, time.FixedZone("", 3600))
	return plan.Route{
		Server: name, SystemID: "7", Repository: "main", SegmentSize: 1 << 20, Backup: "b1", End: 0x3000000, TargetTimeline: 1, AtEnd: true,
		Target: hclspec.Target{Latest: true, Inclusive: true, Action: "promote"}, Path: []wal.Range{{Timeline: 1, From: 0x1000000, To: 0x3000000}},
		Destination: hclspec.Destination{Path: filepath.Join(t.TempDir(), "data"), Port: 5499, Tablespaces: map[string]string{"fast": "/x"}},
		Before:      &state.Commit{XID: 7, LSN: 0x2fffff0, Time: moment}, WALWait: time.Minute,
	}
}

// TestAnUnfinishedStartGoesOnAsItWasPlanned: the latest moment moves on, and a newer backup may be chosen, while a server
// is on its way to what was the latest.
func TestAnUnfinishedStartGoesOnAsItWasPlanned(t *testing.T) {
	route := latestRoute(t)
	restoredAs(t, route, nil)
	later := route
	later.End, later.Backup, later.Path = 0x5000000, "b2", []wal.Range{{Timeline: 1, From: 0x4000000, To: 0x5000000}}
	later.Destination.WAL = "copy"
	old, err := Unfinished(later)
	check(t, err)
	if old == nil || old.End != route.End || old.Backup != "b1" || routeDigest(*old) != routeDigest(route) {
		t.Fatalf("it goes on with %+v", old)
	}
	if done, err := Restored(*old); err != nil || !done {
		t.Errorf("the route that was kept is not the one that was restored: %v", err)
	}
	for what, change := range map[string]func(*plan.Route){
		"target": func(r *plan.Route) { r.Target = hclspec.Target{XID: 7} },
		"action": func(r *plan.Route) { r.Target.Action = "pause" },
		"port":   func(r *plan.Route) { r.Destination.Port++ },
		"server": func(r *plan.Route) { r.Server = "others" },
		"system": func(r *plan.Route) { r.SystemID = "8" },
	} {
		other := later
		change(&other)
		if old, err := Unfinished(other); err != nil || old != nil {
			t.Errorf("a recovery with another %s goes on with it: %v", what, err)
		}
	}
	check(t, os.Remove(filepath.Join(route.Destination.Path, controlPath)))
	if old, err := Unfinished(later); err != nil || old != nil {
		t.Errorf("it goes on with data that is gone: %v", err)
	}
}

func TestAFinishedStartDoesNotGoOn(t *testing.T) {
	route := latestRoute(t)
	restoredAs(t, route, &Reached{Outcome: AtPromote})
	if old, err := Unfinished(route); err != nil || old != nil {
		t.Errorf("it goes on: %v", err)
	}
	other := route
	other.Target.Action = "pause"
	for route, want := range map[*plan.Route]bool{&route: true, &other: false} {
		if reached, err := Started(*route); err != nil || (reached != nil) != want {
			t.Errorf("to %s: %+v, %v", route.Target.Action, reached, err)
		}
	}
}

// TestARestoreForgetsTheStartBefore: what was reached in data that somebody removed is not what the next restore reached.
func TestARestoreForgetsTheStartBefore(t *testing.T) {
	w := newWorld(t, 15, nil)
	backup := w.take()
	target := hclspec.Target{Latest: true}
	o := w.options(w.route(target, w.target(target), backup))
	_, err := Restore(t.Context(), o)
	check(t, err)
	owner, err := host.LookupOwner(serverUser())
	check(t, err)
	s := &starting{StartOptions: StartOptions{Route: o.Route}, dir: o.Route.Destination.Path, owner: owner}
	s.record = started{Version: 1, Route: routeDigest(o.Route), Reached: &Reached{Outcome: AtPromote}}
	check(t, s.write())
	if reached, err := Started(o.Route); err != nil || reached == nil {
		t.Fatalf("the note does not count: %v", err)
	}
	check(t, os.RemoveAll(o.Route.Destination.Path))
	check(t, os.RemoveAll(o.Route.Destination.Tablespaces["fast"]))
	_, err = Restore(t.Context(), o)
	check(t, err)
	if reached, err := Started(o.Route); err != nil || reached != nil {
		t.Errorf("the target counts as reached, and no server was started: %+v %v", reached, err)
	}
	check(t, os.Remove(filepath.Join(o.Route.Destination.Path, "recovery.signal"))) // somebody started it and let it end
	_, _, err = Start(t.Context(), StartOptions{Route: o.Route, Major: 15, Now: time.Now})
	if state.CodeOf(err) != state.CodeDestination {
		t.Errorf("a server that does not recover is waited for: %v", err)
	}
}
