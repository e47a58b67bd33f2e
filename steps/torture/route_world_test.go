package torture

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/observe"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/wal"
)

const routeHCL = `
repository "main" {
  path = "@DIR@/repository"
}

server "orders" {
  conninfo     = "%s"
  repositories = [repository.main]

  slot {
    on_lost = "replace"
  }

  receiver {
    spool      = "@DIR@/spool"
    push_every = "1s"
  }

  backup {
    checkpoint = "fast"
  }
}

retention "standard" {
  servers    = [server.orders]
  redundancy = 20
}
`

const routeSegment = wal.SegmentSize(1 << 20)

// routeWorld is a server that failed over twice and lost WAL once, and what is known of it.
type routeWorld struct {
	*chronicle
	site     *site
	pg       *pgtest.Server // the primary of now
	timeline wal.Timeline
	switches []wal.LSN // where timelines were left
}

// newRouteWorld lives through it: commits before the first backup, two failovers, more backups, a gap, and a backup after it.
func newRouteWorld(t *testing.T, version, much int) *routeWorld {
	t.Helper()
	o := pgtest.Options{Version: version, SegmentMB: 1, Settings: map[string]string{
		"wal_level": "logical", "track_commit_timestamp": "on", "autovacuum": "off", "max_prepared_transactions": "5",
		"max_wal_size": "8MB", "min_wal_size": "2MB",
	}}
	w := &routeWorld{chronicle: &chronicle{}, timeline: 1, pg: pgtest.Start(t, o)}
	first := w.pg
	second := first.Standby(t, o)
	third := second.Standby(t, o)
	w.site = newSite(t, fmt.Sprintf(routeHCL, fmt.Sprintf("host=127.0.0.1,127.0.0.1,127.0.0.1 port=%d,%d,%d user=postgres dbname=postgres sslmode=disable",
		first.Port, second.Port, third.Port)))
	w.pg.Exec(t, chronicleTables)
	listen(t, w.pg)
	w.alone(t, w.pg, 8)
	w.take(t, w.pg, 1, 0)
	w.site.run(t, "apply", "--auto-approve")
	w.live(t, much)
	w.failover(t, second)
	w.live(t, much)
	w.failover(t, third)
	w.live(t, much)
	w.lose(t, much)
	w.alone(t, w.pg, much)
	w.take(t, w.pg, w.timeline, 2)
	w.archived(t)
	return w
}

// live is a while in the life of a server: work of all kinds, with a backup in the middle.
func (w *routeWorld) live(t *testing.T, much int) {
	t.Helper()
	w.alone(t, w.pg, much)
	together(t, w.pg, 10*much)
	w.alone(t, w.pg, 8)
	w.site.run(t, "backup", "orders")
	w.alone(t, w.pg, 8)
	w.pg.Exec(t, "insert into ledger default values") // flushes a restore point before it, which a failover could lose
	w.take(t, w.pg, w.timeline, 1)
}

// failover loses the primary of now.
func (w *routeWorld) failover(t *testing.T, to *pgtest.Server) {
	t.Helper()
	to.AwaitReplay(t, w.pg)
	w.pg.Stop(t, "immediate")
	to.Promote(t)
	w.pg = to
	w.timeline++
	listen(t, w.pg)
	at, err := wal.ParseLSN(w.pg.SQL(t, fmt.Sprintf(`select split_part(line, E'\t', 2)
		from regexp_split_to_table(pg_read_file('pg_wal/%08X.history'), E'\n') line where line like '%d%%'`, w.timeline, w.timeline-1)))
	if err != nil {
		t.Fatal(err)
	}
	w.switches = append(w.switches, at)
}

// lose stops the receiver, lets the server drop WAL that nobody has, and goes on with a backup after the gap.
func (w *routeWorld) lose(t *testing.T, much int) {
	t.Helper()
	w.archived(t)
	w.site.run(t, "receiver", "stop", "orders")
	w.pg.Exec(t, "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_type = 'physical'")
	w.alone(t, w.pg, much)
	w.take(t, w.pg, w.timeline, 0)
	for range 12 { // the segments of before are recycled
		w.pg.Exec(t, "insert into ledger default values")
		w.pg.Exec(t, "select pg_switch_wal()")
		w.take(t, w.pg, w.timeline, 0)
		w.pg.Exec(t, "checkpoint")
	}
	w.site.run(t, "apply", "--auto-approve")
	w.take(t, w.pg, w.timeline, 0)
}

// archived returns when all that the server wrote is in the repository.
func (w *routeWorld) archived(t *testing.T) {
	t.Helper()
	w.pg.Exec(t, "select pg_switch_wal()")
	at := position(t, w.pg)
	eventually(t, "the end of the WAL in the repository", func() bool { r := receiverOf(t, w.site); return r.Archived >= routeSegment.Floor(at) })
}

// look observes the world with recoveries to targets, as `recover --preview` does.
func (w *routeWorld) look(t *testing.T, targets []hclspec.Target) (*hclspec.Spec, state.Observation, []hclspec.Recovery) {
	t.Helper()
	spec, diags := hclspec.Load(os.DirFS(w.site.dir), ".", hclspec.LoadOptions{Version: "0.1.0"})
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	var all []hclspec.Recovery
	for i, x := range targets {
		name := fmt.Sprintf("r%d", i)
		x.Action = "pause"
		all = append(all, hclspec.Recovery{Name: name, Address: "recover", Server: "orders", Target: x, Destination: hclspec.Destination{
			Path: filepath.Join(w.site.dir, "previewed", name), Owner: owner(), BinDir: w.pg.Bin, WAL: "fetch",
		}})
	}
	return spec, observe.World(t.Context(), spec, observe.Options{Recoveries: all, RepositoryTimeout: patience, Timeout: patience}), all
}
