package steps

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
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
	t        *testing.T
	pg       *pgtest.Server
	dir      string
	spec     *hclspec.Spec
	bind     BindOptions
	recv     *goroutines
	ask      plan.Options             // what plans are asked for beyond the configuration
	approved []string                 // impacts that need a name and have one
	route    *plan.Route              // of the recovery that is planned; nil: none
	late     time.Duration            // how much later than it is everybody takes it to be
	saw      func(*state.Observation) // changes what was seen; nil: nothing
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

// twoSitesHCL is siteHCL with a second repository, beside the first.
var twoSitesHCL = strings.Replace(strings.Replace(siteHCL, "path = %q\n}", "path = %[1]q\n}\n\nrepository \"second\" {\n  path = \"%[1]s2\"\n}", 1),
	"repositories = [repository.main]", "repositories = [repository.main, repository.second]", 1)

// newSite makes a site of its own for a server; the slot of an earlier one is dropped.
func newSite(t *testing.T, pg *pgtest.Server) *site {
	t.Helper()
	dir, err := os.MkdirTemp(filepath.Dir(pg.DataDir), "site-") // in memory where the server is, and removed with it
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, pg: pg, dir: dir}
	s.bind = BindOptions{Host: "here", LockDir: filepath.Join(s.dir, "lock"), Who: "tester@here", Version: "0.0-test", AllowVolatileSpool: true, Now: s.now}
	s.configure(siteHCL)
	t.Cleanup(func() {
		s.recv.endAll()
		if t.Failed() {
			t.Logf("the server said:\n%s", pg.Log())
		}
		s.dropSlots()
	})
	return s
}

// configure loads a configuration: a template like siteHCL. No receiver may run.
func (s *site) configure(hcl string) {
	s.t.Helper()
	text := fmt.Sprintf(hcl, filepath.Join(s.dir, "repository"), s.pg.Conninfo(), filepath.Join(s.dir, "spool"))
	config := filepath.Join(s.dir, "config")
	if err := os.MkdirAll(config, 0o700); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(config, "site.hcl"), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	spec, diags := hclspec.Load(os.DirFS(config), ".", hclspec.LoadOptions{Hostname: "here"})
	if diags.HasErrors() {
		s.t.Fatal(diags)
	}
	s.spec = spec
	s.bind.Receivers = nil
	s.recv = &goroutines{t: s.t, spec: spec, bind: s.bind, live: map[string]context.CancelFunc{}}
	s.bind.Receivers = s.recv
}

func (s *site) now() time.Time { return time.Now().Add(s.late) }

// dropSlots forgets all slots once nobody streams: the server's side of a connection ends a moment after ours.
func (s *site) dropSlots() {
	s.t.Helper()
	s.pg.Exec(s.t, `do $$ begin
		while exists (select from pg_replication_slots where active) loop perform pg_sleep(0.01); end loop;
		perform pg_drop_replication_slot(slot_name) from pg_replication_slots;
	end $$`)
}

// look observes everything, at the hour that it is for this site.
func (s *site) look() state.Observation {
	s.t.Helper()
	o := observe.Options{Host: "here", LockDir: s.bind.LockDir, Now: s.now(), Timeout: 10 * time.Minute, RepositoryTimeout: 10 * time.Minute}
	if s.ask.RecoverTo != nil {
		o.Recoveries = []hclspec.Recovery{*s.ask.RecoverTo}
	}
	seen := observe.World(context.Background(), s.spec, o)
	for name, server := range seen.Servers {
		server.Now = server.Now.Add(s.late)
		seen.Servers[name] = server
	}
	for name, sp := range seen.Spools {
		sp.FileSystem = "" // a spool in memory is refused
		seen.Spools[name] = sp
	}
	for name, r := range seen.Repositories {
		r.Now = r.Now.Add(s.late)
		seen.Repositories[name] = r
	}
	if s.saw != nil {
		s.saw(&seen)
	}
	return seen
}

func (s *site) plan() *plan.Plan {
	s.t.Helper()
	p, diags := plan.Build(s.spec, s.look(), s.now().UTC(), s.ask)
	if diags.HasErrors() {
		s.t.Fatal(diags)
	}
	return p
}

func (s *site) apply(p *plan.Plan, w World) (Result, error) {
	return Apply(context.Background(), p, w, Options{
		Auto: []plan.Impact{plan.Safe, plan.Declared}, Approved: s.approved, Host: "here", Who: "tester@here", Now: s.now,
	})
}

// converge plans and applies until nothing is planned, and gives the number of applies.
func (s *site) converge() int { return s.convergeBy() }

// convergeBy is converge that does only the actions named; all without a name.
func (s *site) convergeBy(verbs ...string) int {
	s.t.Helper()
	for round := 0; ; round++ {
		p := s.plan()
		p.Steps = slices.DeleteFunc(p.Steps, func(x plan.Step) bool { return len(verbs) > 0 && !slices.Contains(verbs, plan.Verb(x.Action)) })
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
	t    *testing.T
	spec *hclspec.Spec
	bind BindOptions
	mu   sync.Mutex
	live map[string]context.CancelFunc
	all  sync.WaitGroup
}

func (g *goroutines) real() real { return real{spec: g.spec, o: g.bind.withDefaults()} }

func (g *goroutines) Names(server string) (slot, application string) { return g.real().Names(server) }

func (g *goroutines) Look(ctx context.Context, server string) (state.Receiver, error) {
	return detachedReceivers{g.real()}.Look(ctx, server)
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
	g.all.Go(func() {
		if err := receive.Run(ctx, o); err != nil {
			g.t.Logf("the receiver ended: %v", err)
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		if ctx.Err() == nil {
			delete(g.live, server) // it can be started again
		}
	})
	return nil
}

func (g *goroutines) Push(ctx context.Context, server string, upTo wal.LSN) (wal.LSN, error) {
	return detachedReceivers{g.real()}.Push(ctx, server, upTo)
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
	g.ended("orders")
}

// ended proves that nobody holds the spool's lock any more.
func (g *goroutines) ended(server string) {
	g.t.Helper()
	if seen, err := g.Look(context.Background(), server); err != nil || seen.Running {
		g.t.Errorf("the receiver of %s should have ended: running %t, %v", server, seen.Running, err)
	}
}

// rounds gives how many of a long series are run: PGKEEP_ROUNDS, or the default.
func rounds(usual int) int {
	if n, err := strconv.Atoi(os.Getenv("PGKEEP_ROUNDS")); err == nil && n > 0 {
		return n
	}
	return usual
}
