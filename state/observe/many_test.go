package observe_test

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/observe"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
)

// TestManyServers looks at 200 server blocks, each with a slot of its own, over one real cluster: all are seen, and at no
// time are there more connections than asked for.
func TestManyServers(t *testing.T) {
	const servers, bound = 200, 8
	s := pgtest.Start(t, pgtest.Options{Settings: map[string]string{"max_replication_slots": "220", "max_connections": "40"}})
	s.Exec(t, fmt.Sprintf("select pg_create_physical_replication_slot('pgkeep_s' || n, true) from generate_series(1, %d) n", servers))
	spec := &hclspec.Spec{}
	for n := range servers {
		name := "s" + strconv.Itoa(n+1)
		spec.Servers = append(spec.Servers, hclspec.Server{
			Address: "server." + name, Name: name, Conninfo: hclspec.NewSecret(s.Conninfo()), Slot: hclspec.Slot{Name: "pgkeep_" + name},
		})
	}
	var most atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for ctx.Err() == nil {
			out, err := s.Try("select count(*) from pg_stat_activity where application_name like 'pgkeep observe%'")
			if n, bad := strconv.ParseInt(out, 10, 64); err == nil && bad == nil && n > most.Load() {
				most.Store(n)
			}
		}
	}()
	began := time.Now()
	seen := observe.World(t.Context(), spec, observe.Options{Parallel: bound, Timeout: 10 * time.Minute, Only: func(k observe.Kind) bool { return k == observe.Servers }})
	took := time.Since(began)
	stop()
	<-watched
	for _, server := range spec.Servers {
		got := seen.Servers[server.Name]
		if got.Unknown != nil {
			t.Fatalf("%s: %s", server.Name, got.Unknown.Because)
		}
		found := false
		for _, slot := range got.Slots {
			found = found || slot.Name == server.Slot.Name && slot.WALStatus == state.SlotReserved
		}
		if !found {
			t.Errorf("%s: its slot was not seen", server.Name)
		}
	}
	// A server process outlives its connection by a moment, so that there may be one more for each.
	if n := most.Load(); n == 0 || n > 2*bound {
		t.Errorf("%d server processes at once, want 1 to %d", n, 2*bound)
	}
	t.Logf("%d servers in %s, at most %d connections at once", servers, took, most.Load())
}
