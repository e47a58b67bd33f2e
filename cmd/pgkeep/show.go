package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/plan/render"
)

func showCommand(a *app) *cobra.Command {
	var asJSON bool
	var markdown string
	c := &cobra.Command{
		Use: "show [FILE]", Short: "Show a saved plan, or what would be planned now", Args: cobra.MaximumNArgs(1),
		Long: `Draws a plan that "pgkeep plan --out" wrote; FILE can be - for standard input. Without FILE it plans afresh, of what is
configured and seen now. Nothing is changed.

--markdown is for pull requests: it never writes more than its LIMIT in bytes, and counts what it leaves out for that.
--json writes the plan with all that belongs to it; docs/plan.schema.json describes it.`,
		Example: "  pgkeep show plan.json\n  pgkeep show --markdown plan.json     for a comment of a pull request\n  pgkeep show --json plan.json | jq '.steps[].id'",
		RunE: func(c *cobra.Command, args []string) error {
			limit, err := strconv.Atoi(markdown)
			if markdown != "" && (err != nil || limit <= 0) {
				return usage("--markdown=LIMIT is a number of bytes")
			}
			s, err := a.savedOrFresh(c.Context(), args)
			switch {
			case err != nil:
				return err
			case asJSON:
				return a.writeSaved(s)
			case markdown != "":
				return render.Markdown(a.out, &s.Plan, limit)
			}
			if len(args) > 0 {
				fmt.Fprintf(a.out, "Plan of %s, made on %s at %s by pgkeep %s; it can be applied until %s.\n", s.Made.Who, s.Made.Host,
					plan.Moment(s.Made.At), s.Made.Version, plan.Moment(s.Expires))
				if err := s.Applicable(a.version, a.now()); err != nil {
					fmt.Fprintf(a.out, "It is not applied any more: %s\n", err)
				}
				fmt.Fprintln(a.out)
			}
			return a.show(&s.Plan)
		},
	}
	f := c.Flags()
	f.BoolVar(&asJSON, "json", false, "print the plan as JSON")
	f.StringVar(&markdown, "markdown", "", "print the plan as Markdown of at most LIMIT bytes")
	f.Lookup("markdown").NoOptDefVal = strconv.Itoa(render.MarkdownLimit)
	c.MarkFlagsMutuallyExclusive("json", "markdown")
	return c
}

// savedOrFresh reads the plan that is named, or plans afresh.
func (a *app) savedOrFresh(ctx context.Context, args []string) (*plan.Saved, error) {
	if len(args) > 0 {
		return a.readPlan(args[0])
	}
	spec, err := a.load()
	if err != nil {
		return nil, err
	}
	made, err := (&planning{}).make(ctx, a, spec)
	if err != nil {
		return nil, err
	}
	return a.save(spec, made, planValid)
}

// writeSaved prints a saved plan as JSON that people can read, too.
func (a *app) writeSaved(s *plan.Saved) error {
	data, err := s.Encode()
	if err != nil {
		return err
	}
	return indented(a.out, data)
}
