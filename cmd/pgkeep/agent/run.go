package agent

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/host"
	"github.com/pgkeep/pgkeep/state/observe"
	"github.com/pgkeep/pgkeep/state/spool"
	"github.com/pgkeep/pgkeep/steps"
	"github.com/pgkeep/pgkeep/steps/receive"
)

// Options are what the agent needs.
type Options struct {
	// Load reads the configuration; called at the start and for every value of Reload.
	Load   func() (*hclspec.Spec, hcl.Diagnostics)
	Reload <-chan os.Signal // SIGHUP
	Log    *slog.Logger
	Resync time.Duration // how long the agent sleeps at most; default 1 minute
	Host   string        // this machine; empty: asked
	// Env is what conninfo may use of the environment.
	Env     map[string]string
	Program string // pgkeep's own path; empty: this program
	LockDir string // of this machine; empty: host.LockDir()
	Version string
	// AllowVolatileSpool accepts a spool on tmpfs. It is for tests only.
	AllowVolatileSpool bool
}

// Run keeps the world as the configuration says until ctx ends; then it stops what it runs, tidily, and returns nil. It
// fails only when the first configuration cannot be used: a later one that cannot leaves the one before in force.
func Run(ctx context.Context, o Options) error {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Host == "" {
		name, err := host.Name()
		if err != nil {
			return err
		}
		o.Host = name
	}
	spec, diags := o.Load()
	if diags.HasErrors() {
		return fmt.Errorf("read the configuration: %w", diags)
	}
	a := newAgent(o, spec, systemd{})
	o.Log.Info("the agent starts", "version", o.Version, "host", o.Host, "process", os.Getpid(), "servers", len(spec.Servers),
		"repositories", len(spec.Repositories), "schedules", len(spec.Schedules), "resync", a.o.Resync.String())
	a.world = real{o: o, receivers: a.receivers, shared: steps.BindOptions{}.Sharing()}
	return a.run(ctx)
}

// world is what the loop does to the outside. Tests put their own in its place.
type world interface {
	Look(ctx context.Context, spec *hclspec.Spec) state.Observation
	Apply(ctx context.Context, spec *hclspec.Spec, p *plan.Plan, report func(steps.Event)) (steps.Result, error)
	// Receive streams one server's WAL until ctx ends or nothing but a new plan can help.
	Receive(ctx context.Context, spec *hclspec.Spec, server string) error
}

type real struct {
	o         Options
	receivers *receivers
	shared    steps.BindOptions // what all that the agent does has in common
}

func (r real) Look(ctx context.Context, spec *hclspec.Spec) state.Observation {
	return observe.World(ctx, spec, observe.Options{Host: r.o.Host, Env: r.o.Env, LockDir: r.o.LockDir, Stores: r.shared.Stores})
}

func (r real) bind() steps.BindOptions {
	return steps.BindOptions{
		Host: r.o.Host, Env: r.o.Env, Program: r.o.Program, LockDir: r.o.LockDir, Who: host.Who(), Version: r.o.Version,
		AllowVolatileSpool: r.o.AllowVolatileSpool, Stores: r.shared.Stores,
	}
}

func (r real) Apply(ctx context.Context, spec *hclspec.Spec, p *plan.Plan, report func(steps.Event)) (steps.Result, error) {
	bind := r.bind()
	bind.Receivers = inProcess{receivers: r.receivers, spec: spec, host: r.o.Host}
	return steps.Apply(ctx, p, steps.Bind(spec, bind), steps.Options{
		Auto: impacts(spec), Report: report, Who: host.Who(), Version: r.o.Version, Host: r.o.Host,
	})
}

func (r real) Receive(ctx context.Context, spec *hclspec.Spec, server string) error {
	options, err := steps.ReceiverOptions(spec, server, r.bind())
	if err != nil {
		return err
	}
	options.Log = r.o.Log.With("server", server)
	options.Holder = spool.Holder{PID: os.Getpid(), Who: host.Who(), Agent: true, Since: time.Now().UTC()}
	return receive.Run(ctx, options)
}

func impacts(spec *hclspec.Spec) []plan.Impact {
	out := make([]plan.Impact, 0, len(spec.Approval.Auto))
	for _, impact := range spec.Approval.Auto {
		out = append(out, plan.Impact(impact))
	}
	return out
}
