package steps

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/observe"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/spool"
	"github.com/pgkeep/pgkeep/state/wal"
	"github.com/pgkeep/pgkeep/steps/receive"
)

// site is a real server, a repository and a spool in directories of the test.
type site struct {
	t    *testing.T
	pg   *pgtest.Server
	spec *hclspec.Spec
	bind BindOptions
	recv *goroutines
}

const siteHCL = `
repository "main" {
  path = %q
}

server "orders" {
  conninfo     = %q
  repositories = [repository.main]

  receiver {
    spool = %q
  }

  backup {
    checkpoint = "fast"
  }
}

retention "standard" {
  servers    = [server.orders]
  redundancy = 1
}
`

// newSite makes a site of its own for a server; the slot of an earlier one is dropped.
func newSite(t *testing.T, pg *pgtest.Server) *site {
	t.Helper()
	dir := t.TempDir()
	text := fmt.Sprintf(siteHCL, filepath.Join(dir, "repository"), pg.Conninfo(), filepath.Join(dir, "spool"))
	config := filepath.Join(dir, "config")
	if err := os.MkdirAll(config, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(config, "site.hcl"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	spec, diags := hclspec.Load(os.DirFS(config), ".", hclspec.LoadOptions{Hostname: "here"})
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	s := &site{t: t, pg: pg, spec: spec}
	s.bind = BindOptions{Host: "here", LockDir: filepath.Join(dir, "lock"), Who: "tester@here", Version: "0.0-test", AllowVolatileSpool: true}
	s.recv = &goroutines{spec: spec, bind: s.bind, live: map[string]context.CancelFunc{}}
	s.bind.Receivers = s.recv
	t.Cleanup(func() {
		s.recv.endAll()
		// The server's side of the connection ends a moment after ours.
		pg.Exec(t, `do $$ begin
			while exists (select from pg_replication_slots where active) loop perform pg_sleep(0.01); end loop;
			perform pg_drop_replication_slot(slot_name) from pg_replication_slots;
		end $$`)
	})
	return s
}

func (s *site) plan() *plan.Plan {
	s.t.Helper()
	seen := observe.World(context.Background(), s.spec, observe.Options{Host: "here", LockDir: s.bind.LockDir})
	p, diags := plan.Build(s.spec, seen, time.Now().UTC(), plan.Options{})
	if diags.HasErrors() {
		s.t.Fatal(diags)
	}
	return p
}

func (s *site) apply(p *plan.Plan, w World) (Result, error) {
	return Apply(context.Background(), p, w, Options{Auto: []plan.Impact{plan.Safe, plan.Declared}, Host: "here", Who: "tester@here"})
}

// converge plans and applies until nothing is planned, and gives the number of applies.
func (s *site) converge() int {
	s.t.Helper()
	for round := 0; ; round++ {
		p := s.plan()
		if len(p.Steps) == 0 {
			return round
		}
		if round == 5 {
			s.t.Fatalf("still planned after %d applies: %s, because %v", round, plan.Verb(p.Steps[0].Action), p.Steps[0].Because)
		}
		if result, err := s.apply(p, Bind(s.spec, s.bind)); err != nil {
			for _, one := range result.Steps {
				s.t.Logf("%s: %s %s", one.Step.ID, one.Outcome, one.Note)
			}
			s.t.Fatalf("apply: %v", err)
		}
	}
}

// goroutines are receivers in the test's own process.
type goroutines struct {
	spec *hclspec.Spec
	bind BindOptions
	mu   sync.Mutex
	live map[string]context.CancelFunc
	all  sync.WaitGroup
}

func (g *goroutines) Names(server string) (slot, application string) {
	s := g.spec.Servers[0]
	return s.Slot.Name, s.Receiver.ApplicationName
}

func (g *goroutines) Look(_ context.Context, server string) (state.Receiver, error) {
	facts, err := spool.Look(g.spec.Servers[0].Receiver.Spool, server)
	return facts.Receiver, err
}

func (g *goroutines) Start(_ context.Context, server string) error {
	o, err := ReceiverOptions(g.spec, server, g.bind)
	if err != nil {
		return err
	}
	o.Holder = spool.Holder{PID: os.Getpid(), Who: "tester@here", Since: time.Now()}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.live[server] != nil {
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	g.live[server] = cancel
	g.all.Go(func() { _ = receive.Run(ctx, o) })
	return nil
}

func (g *goroutines) Push(ctx context.Context, server string, upTo wal.LSN) (wal.LSN, error) {
	return PushByReceiver(ctx, g.spec.Servers[0].Receiver.Spool, server, upTo)
}

func (g *goroutines) Stop(context.Context, string) error { g.endAll(); return nil }

func (g *goroutines) endAll() {
	g.mu.Lock()
	for name, cancel := range g.live {
		cancel()
		delete(g.live, name)
	}
	g.mu.Unlock()
	g.all.Wait()
}

// rounds gives how many of a long series are run: PGKEEP_ROUNDS, or the default.
func rounds(usual int) int {
	if n, err := strconv.Atoi(os.Getenv("PGKEEP_ROUNDS")); err == nil && n > 0 {
		return n
	}
	return usual
}
