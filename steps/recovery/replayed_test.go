package recovery

import (
	"testing"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state/wal"
)

// TestWhatWasNotReplayed: the records of a route follow one another to the one that PostgreSQL calls its last, and a recovery that ended at
// any before that has left WAL out.
func TestWhatWasNotReplayed(t *testing.T) {
	w := newWorld(t, 15, nil)
	backup := w.take()
	w.commit(1)
	w.Exec(t, "select pg_switch_wal()")
	w.commit(2)
	w.archive(1)
	target := hclspec.Target{Latest: true}
	o := w.options(w.route(target, w.target(target), backup))
	o.Route.Destination.Port, o.Route.Destination.BinDir = nobodysPort(t), w.Bin
	_, err := Restore(t.Context(), o)
	check(t, err)
	s := &starting{StartOptions: StartOptions{Route: o.Route}, dir: o.Route.Destination.Path}
	route, err := readRoute(RouteFile(s.dir))
	check(t, err)
	var last wal.LSN
	for at, n := route.Path[0].From, 0; at != 0; n++ {
		next, err := route.recordAfter(t.Context(), at, stateDir(s.dir))
		check(t, err)
		why, err := s.unreplayed(t.Context(), at)
		check(t, err)
		if (why == "") != (next == 0) || next != 0 && next <= at || n > 500 {
			t.Fatalf("after %s comes %s: %q", at, next, why)
		}
		last, at = at, next
	}
	check(t, startAndStop(t, o.Route))
	log := logFollower{path: LogFile(s.dir)}
	check(t, log.read())
	if log.log.redo != last {
		t.Errorf("the last record is at %s, and PostgreSQL ended at %s", last, log.log.redo)
	}
	if why, err := s.unreplayed(t.Context(), 0); err != nil || why == "" {
		t.Errorf("it is not known where it ended: %q, %v", why, err)
	}
}
