package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/observe"
)

// planning is what plan and apply share: which part of the configuration is asked for, and of which world and moment.
type planning struct {
	targets, exclude, replace []string
	recover                   string
	ignoreDue                 bool
	failOn                    []string // impacts
	parallel                  int
	lockTimeout               time.Duration

	// What only answers a question, and is never applied.
	now, observed string
	refreshOnly   bool
}

// flags adds the flags that both commands have.
func (g *planning) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringArrayVar(&g.targets, "target", nil, "only this ADDRESS or step, with the steps that it needs; can be repeated")
	f.StringArrayVar(&g.exclude, "exclude", nil, "without this ADDRESS or step, and the steps that need it; can be repeated")
	f.StringArrayVar(&g.replace, "replace", nil, "make it anew though nothing is wrong with it: server.NAME/slot or server.NAME/backup; can be repeated")
	f.StringVar(&g.recover, "recover", "", "plan the recovery block of this name")
	f.BoolVar(&g.ignoreDue, "ignore-due", false, "leave out what only the clock asks for")
	f.StringSliceVar(&g.failOn, "fail-on", nil, "end with 8, and do nothing, when the plan has a step of this IMPACT: safe, declared, destructive, disruptive; several with commas")
	f.IntVar(&g.parallel, "parallelism", 0, "how many servers and repositories are looked at, and steps run, at once (16 and 4)")
}

// suppositions adds the flags of plans that answer a question and are never applied.
func (g *planning) suppositions(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&g.now, "now", "", "plan for this moment instead of now, for example 2026-12-01T00:00:00Z")
	f.StringVar(&g.observed, "observed", "", "plan from this recorded observation instead of looking; - for standard input (see pgkeep observe)")
	f.BoolVar(&g.refreshOnly, "refresh-only", false, "plan nothing, and say what changed without pgkeep since the newest entry of the journal")
}

// planned is a plan with what it was made of.
type planned struct {
	plan *plan.Plan
	seen state.Observation
}

// make looks at the world, or reads what was recorded of it, and plans what the flags ask for. What is wrong with the
// configuration was drawn when it fails.
func (g *planning) make(ctx context.Context, a *app, spec *hclspec.Spec) (planned, error) {
	options, recoveries, err := g.options(spec)
	if err != nil {
		return planned{}, err
	}
	at, err := g.moment()
	if err != nil {
		return planned{}, err
	}
	seen, err := g.look(ctx, a, spec, recoveries)
	if err != nil {
		return planned{}, err
	}
	switch {
	case !at.IsZero():
	case g.observed != "":
		at = seen.At // a recorded world has no other now
	default:
		at = a.now()
	}
	p, err := a.planAt(ctx, spec, seen, at, options)
	return planned{plan: p, seen: seen}, err
}

// look gives the world that is planned from.
func (g *planning) look(ctx context.Context, a *app, spec *hclspec.Spec, recoveries []hclspec.Recovery) (state.Observation, error) {
	if g.observed != "" {
		return a.readObservation(g.observed)
	}
	return observe.World(ctx, spec, observe.Options{
		Now: a.now(), Env: a.env, Recoveries: recoveries, Parallel: g.parallel, Journal: g.refreshOnly, Stores: a.stores,
	}), nil
}

// readObservation reads a recorded observation from a file, or from standard input when it is called "-".
func (a *app) readObservation(name string) (state.Observation, error) {
	if name == "-" {
		return observe.Recorded(a.in)
	}
	f, err := os.Open(name)
	if err != nil {
		return state.Observation{}, fmt.Errorf("open recorded observation: %w", err)
	}
	defer f.Close()
	seen, err := observe.Recorded(f)
	if err != nil {
		return seen, fmt.Errorf("%s: %w", name, err)
	}
	return seen, nil
}

// moment gives the time that --now asks for; zero: none.
func (g *planning) moment() (time.Time, error) {
	if g.now == "" {
		return time.Time{}, nil
	}
	at, err := hclspec.ParseMoment(g.now, time.Local)
	if err != nil {
		return at, usage("--now: %s", err)
	}
	return at, nil
}

// options turns the flags into what is asked of the plan, and the recoveries that must be looked at for it.
func (g *planning) options(spec *hclspec.Spec) (plan.Options, []hclspec.Recovery, error) {
	o := plan.Options{
		IgnoreDue: g.ignoreDue, Targets: g.targets, Exclude: g.exclude, Replace: g.replace,
		Suppose: g.now != "", Recorded: g.observed != "", RefreshOnly: g.refreshOnly,
	}
	if err := o.Check(spec); err != nil {
		return o, nil, exit{exitUsage, err}
	}
	if _, err := g.forbidden(); err != nil {
		return o, nil, err
	}
	if g.recover == "" {
		return o, nil, nil
	}
	if len(g.targets)+len(g.exclude)+len(g.replace) > 0 || g.refreshOnly {
		return o, nil, usage("--recover plans that recovery alone: --target, --exclude, --replace and --refresh-only cannot stand beside it")
	}
	r, err := recoveryNamed(spec, strings.TrimPrefix(g.recover, "recovery."))
	if err != nil {
		return o, nil, err
	}
	o.Recover = r.Name
	return o, []hclspec.Recovery{*r}, nil
}

// forbidden gives the impacts of --fail-on.
func (g *planning) forbidden() ([]plan.Impact, error) {
	known := []plan.Impact{plan.Safe, plan.Declared, plan.Destructive, plan.Disruptive}
	out := make([]plan.Impact, 0, len(g.failOn))
	for _, name := range g.failOn {
		if !slices.Contains(known, plan.Impact(name)) {
			return nil, usage("--fail-on names impacts: safe, declared, destructive, disruptive; %q is none", name)
		}
		out = append(out, plan.Impact(name))
	}
	return out, nil
}

// check fails with 8 when the plan has a step that --fail-on forbids.
func (g *planning) check(p *plan.Plan) error {
	impacts, err := g.forbidden()
	if err != nil {
		return err
	}
	var found []string
	for _, s := range p.Steps {
		if slices.Contains(impacts, s.Impact) {
			found = append(found, fmt.Sprintf("%s %s (%s)", plan.Verb(s.Action), s.ID, s.Impact))
		}
	}
	if len(found) == 0 {
		return nil
	}
	return exit{exitCheck, &state.Error{
		Text: "--fail-on=" + strings.Join(g.failOn, ",") + " forbids " + strings.Join(found, ", "), Hint: "nothing was done; without --fail-on such a step waits for a name",
	}}
}
