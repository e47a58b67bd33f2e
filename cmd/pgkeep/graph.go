package main

import (
	"github.com/spf13/cobra"

	"github.com/pgkeep/pgkeep/plan/render"
)

func graphCommand(a *app) *cobra.Command {
	var format string
	c := &cobra.Command{
		Use: "graph [FILE]", Short: "Draw the steps of a plan and their order as a graph", Args: cobra.MaximumNArgs(1),
		Long: `Writes the steps of a plan as a graph, in the colours of their impacts: of a plan that "pgkeep plan --out" wrote, or,
without FILE, of a fresh one. --format=dot is for Graphviz, --format=mermaid for Markdown. Nothing is changed.`,
		Example: "  pgkeep graph | dot -Tsvg > plan.svg\n  pgkeep graph --format=mermaid plan.json",
		RunE: func(c *cobra.Command, args []string) error {
			if format != "dot" && format != "mermaid" {
				return usage("--format is dot or mermaid")
			}
			s, err := a.savedOrFresh(c.Context(), args)
			if err != nil {
				return err
			}
			if format == "mermaid" {
				return render.Mermaid(a.out, &s.Plan)
			}
			return render.DOT(a.out, &s.Plan)
		},
	}
	c.Flags().StringVar(&format, "format", "dot", "dot or mermaid")
	return c
}
