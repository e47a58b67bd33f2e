package agent

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/hashicorp/hcl/v2"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/steps"
)

// quickLimit bounds the quick part of a turn: repositories, slots, receivers, timelines.
const quickLimit = 5 * time.Minute

// steady is how long a receiver must have run for its end not to count as a failure of its start.
const steady = time.Minute

// agent is one loop. Its fields are the loop's own; what other goroutines touch is receivers, ended and turned.
type agent struct {
	o         Options
	spec      *hclspec.Spec
	world     world
	build     func(*hclspec.Spec, state.Observation, time.Time, plan.Options) (*plan.Plan, hcl.Diagnostics)
	notifier  notifier
	receivers *receivers
	tries     tries
	pending   []string // ids that wait for approval, as last logged
	busy      map[string]bool
	ended     chan finished
	slow      sync.WaitGroup
	turned    atomic.Int64 // when the loop last began to wait, in Unix nanoseconds
	started   map[string]time.Time
}

// finished is the end of slow work on one server.
type finished struct {
	server string
	result steps.Result
}

func newAgent(o Options, spec *hclspec.Spec, n notifier) *agent {
	if o.Resync <= 0 {
		o.Resync = time.Minute
	}
	return &agent{
		o: o, spec: spec, notifier: n, build: plan.Build,
		receivers: &receivers{log: o.Log, ended: make(chan ending), live: map[string]*running{}},
		tries:     tries{}, busy: map[string]bool{}, ended: make(chan finished), started: map[string]time.Time{},
	}
}

// run turns until ctx ends. What it started has ended when it returns.
func (a *agent) run(ctx context.Context) error {
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	a.receivers.ctx = inner
	var specOf atomic.Pointer[hclspec.Spec]
	specOf.Store(a.spec)
	a.receivers.run = func(ctx context.Context, server string) error { return a.world.Receive(ctx, specOf.Load(), server) }
	a.turned.Store(time.Now().UnixNano())
	var watchdog sync.WaitGroup
	watchdog.Go(func() { a.feedWatchdog(inner) })

	for first := true; ctx.Err() == nil; first = false {
		wake := a.turn(inner)
		if first && ctx.Err() == nil {
			a.notify(daemon.SdNotifyReady)
		}
		if a.wait(inner, wake) {
			a.reload(inner)
			specOf.Store(a.spec)
		}
	}

	a.notify(daemon.SdNotifyStopping)
	a.o.Log.Info("the agent ends")
	a.receivers.endAll()
	cancel()
	a.slow.Wait()
	watchdog.Wait()
	return nil
}

// turn looks, plans and does what may be done; it gives when to turn again.
func (a *agent) turn(ctx context.Context) time.Time {
	seen := a.world.Look(ctx, a.spec)
	now := time.Now()
	p, diags := a.build(a.spec, seen, now, plan.Options{})
	for _, d := range diags {
		a.o.Log.Debug("planning", "summary", d.Summary, "detail", d.Detail)
	}
	if p == nil || ctx.Err() != nil {
		return now.Add(a.o.Resync)
	}
	a.tellPending(p)
	quick := a.ready(p, isQuick, now)
	settled := a.applyQuick(ctx, p, quick)
	for server, ids := range a.slowWork(p, settled, now) {
		a.applySlow(ctx, server, sub(p, ids))
	}
	a.notify("STATUS=" + a.status(p))
	return a.nextWake(p, time.Now())
}

func (a *agent) status(p *plan.Plan) string {
	text := fmt.Sprintf("%d servers, %d receivers, %d steps wait for approval", len(a.spec.Servers), len(a.receivers.servers()), len(a.pending))
	if len(p.NextDue) > 0 {
		text += fmt.Sprintf("; next: %s of %s at %s", p.NextDue[0].What, p.NextDue[0].Subject, p.NextDue[0].At.UTC().Format(time.RFC3339))
	}
	return text
}

func (a *agent) nextWake(p *plan.Plan, now time.Time) time.Time {
	at := now.Add(a.o.Resync)
	if len(p.NextDue) > 0 && p.NextDue[0].At.After(now) && p.NextDue[0].At.Before(at) {
		at = p.NextDue[0].At
	}
	if again := a.tries.next(now); !again.IsZero() && again.Before(at) {
		at = again
	}
	return at
}

// wait sleeps until something asks for a turn. It tells whether the configuration is to be read again.
func (a *agent) wait(ctx context.Context, until time.Time) (reload bool) {
	a.turned.Store(time.Now().UnixNano())
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-a.o.Reload:
		return true
	case e := <-a.receivers.ended:
		a.receiverEnded(e)
	case f := <-a.ended:
		delete(a.busy, f.server)
		a.note(f.result)
	}
	return false
}

func (a *agent) receiverEnded(e ending) {
	now := time.Now()
	key := "receiver " + e.server
	if now.Sub(a.started[e.server]) > steady {
		delete(a.tries, key)
	}
	wait := a.tries.failed(key, now)
	a.o.Log.Error("receiver ended", "server", e.server, "error", e.err, "again_in", wait.Round(time.Second).String())
}

// reload reads the configuration again. One that cannot be used changes nothing.
func (a *agent) reload(ctx context.Context) {
	spec, diags := a.o.Load()
	if diags.HasErrors() {
		a.o.Log.Error("the new configuration cannot be used: the one before stays in force", "error", diags.Error())
		return
	}
	before := a.spec
	a.spec = spec
	a.tries = tries{}
	a.o.Log.Info("the configuration was read again")
	if err := a.receivers.reload(ctx, before, spec); err != nil {
		a.o.Log.Error("receivers could not be stopped for the new configuration", "error", err)
	}
}

// tellPending logs the steps that wait for approval, when they are others than last time.
func (a *agent) tellPending(p *plan.Plan) {
	auto := impacts(a.spec)
	var ids []string
	for _, s := range p.Steps {
		if !slices.Contains(auto, s.Impact) {
			ids = append(ids, s.ID)
		}
	}
	if slices.Equal(ids, a.pending) {
		return
	}
	a.pending = ids
	if len(ids) > 0 {
		a.o.Log.Warn("steps wait for approval", "steps", strings.Join(ids, " "), "hint", "pgkeep plan, then pgkeep apply")
	}
}

// report logs what steps tell, progress left out.
func (a *agent) report(e steps.Event) {
	level := slog.LevelInfo
	switch e.Kind {
	case steps.Progress, steps.Waiting:
		return
	case steps.Failed:
		level = slog.LevelError
	case steps.Skipped, steps.Canceled, steps.Held:
		level = slog.LevelWarn
	case steps.Started, steps.Done, steps.Already:
	}
	attrs := []slog.Attr{slog.String("step", e.Step.ID), slog.String("event", string(e.Kind))}
	if e.Note != "" {
		attrs = append(attrs, slog.String("note", e.Note))
	}
	if e.Kind != steps.Started {
		attrs = append(attrs, slog.Duration("took", e.Elapsed))
	}
	a.o.Log.LogAttrs(context.Background(), level, plan.Verb(e.Step.Action), attrs...)
}
