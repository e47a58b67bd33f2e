package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
)

// consent is how the operator agrees to what a plan does.
type consent struct {
	approve string // --auto-approve: an impact, "all", or empty
	yes     bool
	digest  string // --approve: the review digest of a plan that somebody agreed to
	saved   bool   // the plan was saved and is applied by name: it approves what it names
}

func (g *consent) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&g.approve, "auto-approve", "", "do not ask; run everything, or only up to IMPACT: safe, declared, destructive, disruptive")
	f.Lookup("auto-approve").NoOptDefVal = "all"
	f.BoolVarP(&g.yes, "yes", "y", false, "do not ask; run everything")
}

// impacts in the order in which they are named on the command line: each includes those before it, but for the last two,
// which hurt in different ways. Nil: nobody agreed to anything yet.
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

// names gives the impacts and the ids of steps to which somebody agreed; nil: nobody agreed to anything yet. A digest that
// does not cover the plan is exit code 7.
func (g consent) names(p *plan.Plan) ([]string, error) {
	named, err := g.impacts()
	if err != nil || g.digest == "" && !g.saved {
		return named, err
	}
	if g.digest != "" {
		if err := covers(g.digest, p); err != nil {
			return nil, err
		}
	}
	if named == nil {
		named = []string{}
	}
	for _, s := range p.Steps {
		named = append(named, s.ID)
	}
	return named, nil
}

// covers tells whether a review digest agrees to all that waits in a plan.
func covers(digest string, p *plan.Plan) error {
	agreed, err := plan.ParseReview(digest)
	if err != nil {
		return usage("--approve: %s", err)
	}
	now := p.Review()
	if agreed.Allows(now) {
		return nil
	}
	return exit{exitNotApproved, &state.Error{
		Text: "nothing was done: the review digest does not cover this plan, which does something else or deletes more than was agreed to",
		Hint: "review the plan above; its digest is " + now.String(),
	}}
}

// waiting says what waits for a name, and how to give it.
func waiting(p *plan.Plan, auto []plan.Impact, byHand bool) error {
	var ids, impacts []string
	for _, w := range p.Approve(auto, nil).Wait {
		ids = append(ids, plan.Verb(w.Step.Action)+" "+w.Step.ID)
		if w.Itself && !slices.Contains(impacts, "--auto-approve="+string(w.Step.Impact)) {
			impacts = append(impacts, "--auto-approve="+string(w.Step.Impact))
		}
	}
	text := "not approved and not done: " + strings.Join(ids, ", ")
	if byHand {
		return exit{exitNotApproved, &state.Error{Text: text, Hint: "add --yes, or run it on a terminal, where it asks"}}
	}
	hint := "name it with " + strings.Join(impacts, " or ") + ", apply a saved plan, or run it on a terminal"
	if d := p.Review().String(); d != "" {
		hint += "; or name just this: pgkeep apply --approve=" + d
	}
	return exit{exitNotApproved, &state.Error{Text: text, Hint: hint}}
}

// asked is ask, given up when ctx ends: nobody has to answer a question to be rid of it.
func (a *app) asked(ctx context.Context, p *plan.Plan) (bool, error) {
	type answer struct {
		ok  bool
		err error
	}
	given := make(chan answer, 1)
	go func() {
		ok, err := a.ask(p)
		given <- answer{ok, err}
	}()
	select {
	case g := <-given:
		return g.ok, g.err
	case <-ctx.Done():
		fmt.Fprintln(a.out) // the question's line is still open
		return false, fmt.Errorf("nothing was done: %w", context.Cause(ctx))
	}
}

// ask asks on the terminal. What destroys is named again, and wants the word yes; where backups are deleted, the name of
// their server; for the rest y is enough.
func (a *app) ask(p *plan.Plan) (bool, error) {
	var hurts, others []string
	lose := map[string][]string{} // backups by server
	for _, s := range p.Steps {
		if s.Impact != plan.Destructive {
			continue
		}
		hurts = append(hurts, fmt.Sprintf("  %s %s (%s): %s", plan.Verb(s.Action), s.ID, s.Impact, s.Effect))
		for _, lost := range s.Loses.Sentences() {
			hurts = append(hurts, "    loses "+lost)
		}
		if act, ok := s.Action.(plan.Prune); ok && !act.Sweep {
			lose[act.Server] = append(lose[act.Server], act.Backups...)
			for _, id := range act.Backups {
				hurts = append(hurts, "    "+id+" in repository "+act.Repository)
			}
			continue
		}
		others = append(others, s.ID)
	}
	if len(hurts) > 0 {
		fmt.Fprintf(a.out, "\nThis is not taken back:\n%s\n", strings.Join(hurts, "\n"))
	}
	for _, s := range slices.Sorted(maps.Keys(lose)) {
		ok, err := a.answered(fmt.Sprintf("\nType the name of the server, %s, to delete %d of its backups: ", s, len(lose[s])), s)
		if !ok || err != nil {
			return false, err
		}
	}
	switch {
	case len(others) > 0:
		return a.answered("\nType yes to do it: ", "yes", "Yes", "YES")
	case len(lose) > 0:
		return true, nil
	}
	return a.answered("\nDo this? (y/n) ", "y", "Y", "yes", "Yes", "YES")
}

// answered asks one question and tells whether one of the answers was typed.
func (a *app) answered(question string, answers ...string) (bool, error) {
	fmt.Fprint(a.out, question)
	line, err := a.readLine()
	return slices.Contains(answers, line), err
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
	return strings.TrimSpace(string(line)), nil
}
