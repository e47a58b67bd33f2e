package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
)

// planning is what plan and apply share: which part of the configuration is asked for, and of which world and moment.
type planning struct {
	ignoreDue    bool
	now, recover string
}

// flags adds the flags that both commands have.
func (g *planning) flags(c *cobra.Command) {
	f := c.Flags()
	f.BoolVar(&g.ignoreDue, "ignore-due", false, "leave out what only the clock asks for")
	f.StringVar(&g.recover, "recover", "", "plan the recovery block of this name")
}

// suppositions adds the flags of plans that answer a question and are never applied.
func (g *planning) suppositions(c *cobra.Command) {
	c.Flags().StringVar(&g.now, "now", "", "plan for this moment instead of now, for example 2026-12-01T00:00:00Z")
}

// planned is a plan with what it was made of.
type planned struct {
	plan *plan.Plan
	seen state.Observation
}

// make looks at the world and plans what the flags ask for. What is wrong with the configuration was drawn when it fails.
func (g *planning) make(ctx context.Context, a *app, spec *hclspec.Spec) (planned, error) {
	options, recoveries, err := g.options(spec)
	if err != nil {
		return planned{}, err
	}
	at, err := g.moment(a)
	if err != nil {
		return planned{}, err
	}
	seen := a.look(ctx, spec, recoveries)
	if g.now == "" {
		at = a.now() // after the look
	}
	p, err := a.planAt(ctx, spec, seen, at, options)
	return planned{plan: p, seen: seen}, err
}

// moment gives the time for which is planned.
func (g *planning) moment(a *app) (time.Time, error) {
	if g.now == "" {
		return a.now(), nil
	}
	at, err := hclspec.ParseMoment(g.now, time.Local)
	if err != nil {
		return at, usage("--now: %s", err)
	}
	return at, nil
}

// options turns the flags into what is asked of the plan, and the recoveries that must be looked at for it.
func (g *planning) options(spec *hclspec.Spec) (plan.Options, []hclspec.Recovery, error) {
	o := plan.Options{IgnoreDue: g.ignoreDue, Suppose: g.now != ""}
	if g.recover == "" {
		return o, nil, nil
	}
	r, err := recoveryNamed(spec, g.recover)
	if err != nil {
		return o, nil, err
	}
	o.Recover = r.Name
	return o, []hclspec.Recovery{*r}, nil
}
