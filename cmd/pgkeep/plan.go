package main

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/plan/render"
	"github.com/pgkeep/pgkeep/state"
)

func planCommand(a *app) *cobra.Command {
	var scope planning
	var o struct {
		detailed, json bool
		out            string
		expires        time.Duration
	}
	c := &cobra.Command{
		Use: "plan", Short: "Show what would be done, and why", Args: cobra.NoArgs,
		Long: `Looks at servers, repositories and this machine, and shows every step that the configuration asks for, with its
reason, its effect on what can be restored, and what must still be so when it runs. Nothing is changed.

With --now the question is put to another day: "what will retention delete next week?"`,
		Example: "  pgkeep plan\n  pgkeep plan --detailed-exitcode      exit code 2 when there is something to do\n  pgkeep plan --now=2026-12-01T00:00:00Z\n  pgkeep plan --recover=before_drop    how that recovery would go\n  pgkeep plan --out plan.json          then pgkeep apply plan.json",
		RunE: func(c *cobra.Command, _ []string) error {
			spec, err := a.load()
			if err != nil {
				return err
			}
			made, err := scope.make(c.Context(), a, spec)
			if err != nil {
				return err
			}
			p := made.plan
			s, err := a.save(spec, made, o.expires)
			if err != nil {
				return err
			}
			if o.json {
				err = a.writeSaved(s)
			} else {
				err = a.show(p)
			}
			if err == nil {
				err = scope.check(p)
			}
			if err == nil && o.out != "" {
				err = a.keep(o.out, s, o.json)
			}
			if err == nil && o.detailed {
				return detailed(p)
			}
			return err
		},
	}
	f := c.Flags()
	f.BoolVar(&o.detailed, "detailed-exitcode", false, "end with 2 when there is something to do, 0 when not, 1 when that could not be told")
	f.BoolVar(&o.json, "json", false, "print the plan as JSON (docs/plan.schema.json)")
	f.StringVarP(&o.out, "out", "o", "", "write the plan into FILE, which pgkeep apply FILE applies as it is, or not at all")
	f.DurationVar(&o.expires, "expires", planValid, "how long the plan of --out can be applied")
	scope.flags(c)
	scope.suppositions(c)
	return c
}

// detailed gives the exit code of plan --detailed-exitcode. A server that could not be looked at is no reason for 0.
func detailed(p *plan.Plan) error {
	switch {
	case len(p.Steps) > 0 || p.Drift.Drifted():
		return exit{code: exitChanges}
	case p.Unmet():
		return exit{code: exitError}
	}
	return nil
}

// show draws a plan.
func (a *app) show(p *plan.Plan) error { return a.showTo(p, render.TextOptions{Review: true}) }

// showTo draws a plan as wide as the terminal is, after what keeps blocks of the configuration from being planned.
func (a *app) showTo(p *plan.Plan, o render.TextOptions) error {
	if err := a.diagnose(p); err != nil {
		return err
	}
	o.Diagnosed = a.sources != nil
	if a.lines != nil {
		a.lines.plan(p)
		return a.lines.failed
	}
	o.Width, o.Color = a.width, a.color(a.outTerminal)
	if err := render.Text(a.out, p, o); err != nil {
		return fmt.Errorf("draw the plan: %w", err)
	}
	return nil
}

// recoveryNamed finds a recovery block by its label or address.
func recoveryNamed(spec *hclspec.Spec, name string) (*hclspec.Recovery, error) {
	var names []string
	for i := range spec.Recoveries {
		if r := &spec.Recoveries[i]; r.Name == name || r.Address == name {
			return r, nil
		}
		names = append(names, spec.Recoveries[i].Name)
	}
	return nil, exit{exitUsage, &state.Error{Text: fmt.Sprintf("the configuration has no recovery %q", name), Hint: "it has " + orNone(names)}}
}

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	return nil
}
