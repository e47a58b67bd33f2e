package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/plan/render"
)

func diffCommand(a *app) *cobra.Command {
	var o struct{ json, detailed bool }
	c := &cobra.Command{
		Use: "diff PLAN1 PLAN2", Short: "Compare two saved plans, step by step", Args: cobra.ExactArgs(2),
		Long: `Compares two plans that "pgkeep plan --out" wrote, by the ids of their steps: which are new, which are gone, which do
something else, with the fact before and after. Steps for which only the explanation changed are told apart.`,
		Example: "  pgkeep diff monday.json tuesday.json\n  pgkeep diff --detailed-exitcode reviewed.json plan.json   exit code 2 when they do not do the same",
		RunE: func(_ *cobra.Command, args []string) error {
			was, err := a.readPlan(args[0])
			if err != nil {
				return err
			}
			is, err := a.readPlan(args[1])
			if err != nil {
				return err
			}
			changes := plan.Compare(&was.Plan, &is.Plan)
			if o.json {
				err = writeJSON(a.out, map[string]any{"format": 1, "changes": append([]plan.StepChange{}, changes...)})
			} else {
				err = render.Compare(a.out, changes, render.TextOptions{Width: a.width, Color: a.color(a.outTerminal)})
			}
			if err == nil && o.detailed && slices.ContainsFunc(changes, plan.StepChange.Decides) {
				return exit{code: exitChanges}
			}
			return err
		},
	}
	c.Flags().BoolVar(&o.json, "json", false, "print the differences as JSON")
	c.Flags().BoolVar(&o.detailed, "detailed-exitcode", false, "end with 2 when the plans do not do the same, 0 when they do")
	return c
}

// indented writes JSON so that people can read it, and nothing else changes.
func indented(w io.Writer, data []byte) error {
	var out bytes.Buffer
	if err := json.Indent(&out, data, "", "  "); err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	text := out.Bytes()
	if len(text) > plan.MaxSaved { // it must still be read again
		text = data
	}
	if _, err := w.Write(text); err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	return nil
}
