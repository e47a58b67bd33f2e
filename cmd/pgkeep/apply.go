package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/plan/render"
	"github.com/pgkeep/pgkeep/state/host"
	"github.com/pgkeep/pgkeep/steps"
)

// order is a plan to carry out.
type order struct {
	plan     *plan.Plan
	consent  consent
	parallel int
	// lockTimeout is how long a step waits for a lock that another pgkeep holds.
	lockTimeout time.Duration
	byHand      bool // the command asked for one thing, and it is an error when that is not planned
}

func applyCommand(a *app) *cobra.Command {
	var agree consent
	var scope planning
	var asJSON bool
	c := &cobra.Command{
		Use: "apply [FILE]", Short: "Do what the plan says", Args: cobra.MaximumNArgs(1),
		Long: `Plans, shows the plan, asks, and carries it out. Each step looks first whether it is still needed and allowed, acts,
and verifies. Running it again is safe at any time, also after a crash: it looks again and does what is left.

On a terminal it asks before it begins. Without a terminal, steps that the block approval allows run (by default those
with impact safe and declared); the rest waits for a name: --auto-approve=destructive, --auto-approve=disruptive, or
--auto-approve for all, a saved plan, or the review digest of a plan. What needs approval and has none makes exit code 7.

With FILE it applies a plan that "pgkeep plan --out" wrote. Such a plan approves what it names, and nothing else is done. It is
applied only while it is valid: the configuration is the same, and planning again decides the same. Else nothing is done, what
differs is listed, and the exit code is 4.

What stands under "Not planned", because it could not be looked at or is refused, makes exit code 5,
whatever else was done. Ctrl-C ends tidily: no further step begins. A second Ctrl-C ends at once.`,
		Example: "  pgkeep apply\n  pgkeep apply --auto-approve=safe     only what cannot hurt, without asking\n  pgkeep apply --yes                   everything, without asking\n  pgkeep apply plan.json               what was planned with --out plan.json, while it is still so\n  pgkeep apply --approve=sha256:...    what was reviewed, planned afresh",
		RunE: func(c *cobra.Command, args []string) error {
			if asJSON {
				a.jsonLines()
			}
			spec, err := a.load()
			if err != nil {
				return err
			}
			o := order{consent: agree, parallel: scope.parallel, lockTimeout: scope.lockTimeout}
			if len(args) > 0 {
				if err := onlyFresh(c); err != nil {
					return err
				}
				return a.applySaved(c.Context(), spec, o, &scope, args[0])
			}
			made, err := scope.make(c.Context(), a, spec)
			if err != nil {
				return err
			}
			if err := scope.check(made.plan); err != nil {
				return errors.Join(a.show(made.plan), err)
			}
			o.plan = made.plan
			return a.again(c.Context(), spec, o, a.carryOut(c.Context(), spec, o))
		},
	}
	c.Flags().StringVar(&agree.digest, "approve", "", "plan afresh, and go on when the DIGEST that was reviewed covers what needs approval: it is equal, or less is to be deleted")
	c.Flags().BoolVar(&asJSON, "json", false, "tell what happens as one JSON object a line (docs/machine-output.md); nobody is asked")
	scope.flags(c)
	agree.flags(c)
	c.Flags().DurationVar(&scope.lockTimeout, "lock-timeout", 0, "how long a step waits for a lock that another pgkeep holds, for example 5m; by default it does not")
	return c
}

// carryOut shows a plan, asks, and applies it.
func (a *app) carryOut(ctx context.Context, spec *hclspec.Spec, o order) error {
	p := o.plan
	impacts, err := o.consent.impacts()
	if err != nil {
		return err
	}
	all := o.consent.saved || slices.Contains(impacts, string(plan.Disruptive))
	if err := a.showTo(p, render.TextOptions{Approved: all, Review: !o.byHand}); err != nil {
		return err
	}
	approved, err := o.consent.names(p)
	if err != nil {
		return err
	}
	if len(p.Steps) == 0 {
		return o.unplanned()
	}
	auto := impactsOf(spec.Approval.Auto)
	if o.consent.approve == "safe" {
		auto = []plan.Impact{plan.Safe}
	}
	if approved == nil && a.inTerminal && a.outTerminal {
		ok, err := a.asked(ctx, p)
		if err != nil {
			return err
		}
		if !ok {
			return exit{exitNotApproved, fmt.Errorf("nothing was done: the plan was not approved")}
		}
		approved = []string{"safe", "declared", "destructive", "disruptive"}
	}
	bind, err := a.bindOptions()
	if err != nil {
		return err
	}
	here, err := host.Name()
	if err != nil {
		return fmt.Errorf("ask for this machine's name: %w", err)
	}
	progress := a.newProgress(p)
	result, err := steps.Apply(ctx, p, steps.Bind(spec, bind), steps.Options{
		Auto: auto, Approved: approved, Report: progress.tell, Parallel: o.parallel, LockTimeout: o.lockTimeout, Who: host.Who(), Version: a.version, Host: here,
	})
	progress.end(result)
	if err != nil && result.Exit() == exitNotApproved {
		return waiting(p, auto, o.byHand)
	}
	if err != nil {
		return exit{code: result.Exit()}
	}
	return o.unplanned()
}

// unplanned reports what was asked for and could not be planned; the plan that was shown says why. A job that runs apply
// must not take a server that nobody could look at for one that is protected.
func (o order) unplanned() error {
	unmet := o.plan.Unmet()
	if o.byHand {
		unmet = len(o.plan.Steps)+len(o.plan.Already) == 0
	}
	if unmet {
		return exit{code: exitIncomplete}
	}
	return nil
}

func impactsOf(names []string) []plan.Impact {
	out := make([]plan.Impact, 0, len(names))
	for _, n := range names {
		out = append(out, plan.Impact(n))
	}
	return out
}

// onlyFresh refuses flags that have no meaning beside a saved plan: it says itself what is asked for, and approves it.
func onlyFresh(c *cobra.Command) error {
	for _, name := range []string{"target", "exclude", "replace", "recover", "ignore-due", "approve", "auto-approve", "yes"} {
		if c.Flags().Changed(name) {
			return usage("--%s cannot stand beside a saved plan, which says itself what is done and approves it", name)
		}
	}
	return nil
}

// applySaved applies a saved plan, if it is still valid: what it names, and nothing more, so that what its steps bring to light
// waits for the next plan.
func (a *app) applySaved(ctx context.Context, spec *hclspec.Spec, o order, scope *planning, file string) error {
	s, err := a.applicable(ctx, spec, file, o.parallel)
	if err != nil {
		return err
	}
	if err := scope.check(&s.Plan); err != nil {
		return errors.Join(a.show(&s.Plan), err)
	}
	o.plan, o.consent = &s.Plan, consent{saved: true}
	return a.carryOut(ctx, spec, o)
}
