package main

import (
	"fmt"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
)

// diagnose tells what keeps blocks of the configuration from being planned, each on its line and once a run. A plan that
// was read from a file has no configuration beside it, and says so itself.
func (a *app) diagnose(p *plan.Plan) error {
	if a.sources == nil {
		return nil
	}
	var fresh hcl.Diagnostics
	for _, d := range p.Diagnostics() {
		key := d.Summary + "\n" + d.Detail
		if a.hindered[key] {
			continue
		}
		if a.hindered == nil {
			a.hindered = map[string]bool{}
		}
		a.hindered[key] = true
		fresh = append(fresh, d)
	}
	if a.lines != nil && len(fresh) > 0 {
		return a.lines.diagnostics(a.sources, fresh)
	}
	for _, d := range fresh {
		if err := a.drawHindered(d); err != nil {
			return fmt.Errorf("draw diagnostics: %w", err)
		}
	}
	return nil
}

// drawHindered draws one diagnostic. What to do is never wrapped: it is a statement or a line to be copied.
func (a *app) drawHindered(d *hcl.Diagnostic) error {
	help := hclspec.HelpOf(d)
	shown := *d
	shown.Extra = hclspec.Help{Code: help.Code}
	if err := hclspec.WriteDiagnostics(a.out, a.sources, hcl.Diagnostics{&shown}, a.width, a.color(a.outTerminal)); err != nil {
		return err
	}
	lead := "  → "
	if help.Hint != "" {
		for line := range strings.SplitSeq(help.Hint, "\n") {
			fmt.Fprintln(a.out, lead+line)
			lead = "    "
		}
	}
	fmt.Fprintln(a.out)
	return nil
}
