package main

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
)

func repairCommand(a *app) *cobra.Command {
	var agree consent
	var r plan.RepairDamage
	var name string
	c := &cobra.Command{
		Use: "repair", Short: "Heal damaged objects from another repository", Args: cobra.NoArgs,
		Long: `Heals what the newest verification found damaged or missing in a repository, from the other repositories of the server, after
asking. An object is replaced only by bytes that are proved by their SHA-256, and one that proves itself is left as it is. What no
repository has whole is named, with what is lost because of it, and ends with exit code 5. Afterwards all of it is verified again, so that backups
which are whole count again.`,
		Example: "  pgkeep repair --server orders.eu\n  pgkeep repair --repository offsite --from main --yes",
		RunE: func(c *cobra.Command, _ []string) error {
			if agree.yes && agree.approve != "" {
				return usage("give --yes or --auto-approve, not both")
			}
			if !a.inTerminal && !agree.yes && agree.approve == "" {
				return exit{exitNotApproved, &state.Error{Text: "nothing was healed: there is no terminal to ask on", Hint: "add --yes"}}
			}
			spec, err := a.load()
			if err != nil {
				return err
			}
			for _, label := range []string{r.Repository, r.From} {
				if label != "" && !hasRepository(spec, label) {
					return usage("the configuration has no repository %q", label)
				}
			}
			if name != "" {
				s, err := server(spec, name)
				if err != nil {
					return err
				}
				r.Servers = []string{s.Name}
			}
			p, err := a.plan(c.Context(), spec, a.look(c.Context(), spec, nil), plan.Options{Repair: &r})
			if err != nil {
				return err
			}
			if len(p.Steps) == 0 {
				for _, done := range p.Already {
					if _, err := fmt.Fprintf(a.out, "%s: %s.\n", done.What, done.Text); err != nil {
						return err
					}
				}
			}
			return a.carryOut(c.Context(), spec, order{plan: p, consent: agree, parallel: 4, byHand: true})
		},
	}
	agree.flags(c)
	a.lineFlag(c)
	f := c.Flags()
	f.StringVar(&name, "server", "", "stored name of the server; all without it")
	f.StringVar(&r.Repository, "repository", "", "only in this repository")
	f.StringVar(&r.From, "from", "", "only from this repository")
	return c
}

func hasRepository(spec *hclspec.Spec, label string) bool {
	return slices.ContainsFunc(spec.Repositories, func(r hclspec.Repository) bool { return r.Name == label })
}
