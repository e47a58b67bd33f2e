package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state/host"
	"github.com/pgkeep/pgkeep/steps"
)

// consent is how the operator agrees to what a plan does.
type consent struct {
	approve string // --auto-approve: an impact, "all", or empty
	yes     bool
}

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
		Use: "apply", Short: "Do what the plan says", Args: cobra.NoArgs,
		Long: `Plans, shows the plan, asks, and carries it out. Each step looks first whether it is still needed and allowed, acts,
and verifies. Running it again is safe at any time, also after a crash: it looks again and does what is left.

On a terminal it asks before it begins. Without a terminal, steps that the block approval allows run (by default those
with impact safe and declared); the rest waits for a name: --auto-approve=destructive, --auto-approve=disruptive, or
--auto-approve for all. What stands under "Not planned", because it could not be looked at or is refused, makes exit code 5,
whatever else was done. Ctrl-C ends tidily: no further step begins. A second Ctrl-C ends at once.`,
		Example: "  pgkeep apply\n  pgkeep apply --auto-approve=safe     only what cannot hurt, without asking\n  pgkeep apply --yes                   everything, without asking",
		RunE: func(c *cobra.Command, _ []string) error {
			if asJSON {
				a.jsonLines()
			}
			spec, err := a.load()
			if err != nil {
				return err
			}
			made, err := scope.make(c.Context(), a, spec)
			if err != nil {
				return err
			}
			if err := scope.check(made.plan); err != nil {
				return errors.Join(a.show(made.plan), err)
			}
			o := order{plan: made.plan, consent: agree, parallel: scope.parallel, lockTimeout: scope.lockTimeout}
			return a.again(c.Context(), spec, o, a.carryOut(c.Context(), spec, o))
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "tell what happens as one JSON object a line (docs/machine-output.md); nobody is asked")
	scope.flags(c)
	agree.flags(c)
	c.Flags().DurationVar(&scope.lockTimeout, "lock-timeout", 0, "how long a step waits for a lock that another pgkeep holds, for example 5m; by default it does not")
	return c
}

func (g *consent) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&g.approve, "auto-approve", "", "do not ask; run everything, or only up to IMPACT: safe, declared, destructive, disruptive")
	f.Lookup("auto-approve").NoOptDefVal = "all"
	f.BoolVarP(&g.yes, "yes", "y", false, "do not ask; run everything")
}

// impacts in the order in which they are named on the command line: each includes those before it, but for the last two,
// which hurt in different ways.
func (g consent) impacts() ([]string, error) {
	switch {
	case g.yes || g.approve == "all":
		return []string{"safe", "declared", "destructive", "disruptive"}, nil
	case g.approve == "":
		return nil, nil
	case g.approve == "safe":
		return []string{"safe"}, nil
	case slices.Contains([]string{"declared", "destructive", "disruptive"}, g.approve):
		return slices.Compact([]string{"safe", "declared", g.approve}), nil
	}
	return nil, usage("--auto-approve is safe, declared, destructive or disruptive, or stands alone for all")
}

// carryOut shows a plan, asks, and applies it.
func (a *app) carryOut(ctx context.Context, spec *hclspec.Spec, o order) error {
	p := o.plan
	approved, err := o.consent.impacts()
	if err != nil {
		return err
	}
	if err := a.showTo(p, slices.Contains(approved, string(plan.Disruptive))); err != nil {
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
		ok, err := a.ask(p)
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
		unmet = len(o.plan.Steps) == 0
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

// ask asks on the terminal. What destroys is named again, and wants the word "yes"; for the rest y is enough.
func (a *app) ask(p *plan.Plan) (bool, error) {
	var hurts []string
	for _, s := range p.Steps {
		if s.Impact == plan.Destructive {
			hurts = append(hurts, fmt.Sprintf("  %s %s (%s): %s", plan.Verb(s.Action), s.ID, s.Impact, s.Effect))
		}
	}
	question := "\nDo this? (y/n) "
	if len(hurts) > 0 {
		fmt.Fprintf(a.out, "\nThis is not taken back:\n%s\n", strings.Join(hurts, "\n"))
		question = "\nType yes to do it: "
	}
	fmt.Fprint(a.out, question)
	answer, err := a.readLine()
	if err != nil {
		return false, err
	}
	return answer == "yes" || len(hurts) == 0 && answer == "y", nil
}

// readLine reads one line of the terminal, byte by byte, so that nothing of the next is taken.
func (a *app) readLine() (string, error) {
	var line []byte
	b := make([]byte, 1)
	for len(line) < 200 {
		n, err := a.in.Read(b)
		if n == 1 && b[0] == '\n' || err != nil {
			break
		}
		line = append(line, b[:n]...)
	}
	return strings.ToLower(strings.TrimSpace(string(line))), nil
}
