package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

// printed is how a command prints what it found: for people, or with --json for scripts.
type printed struct{ json bool }

// flag adds --json; what says what is printed then.
func (p *printed) flag(c *cobra.Command, what string) {
	c.Flags().BoolVar(&p.json, "json", false, "print "+what+" as JSON; fields are only ever added")
}

// show prints v as JSON, or lets draw print it for people. An absent list is an empty one to scripts.
func (p printed) show(a *app, v any, draw func()) error {
	if p.json {
		return writeJSON(a.out, v)
	}
	draw()
	return nil
}

// lineFlag adds --json to a command that carries out a plan: it tells what happens in lines, as apply --json does.
func (a *app) lineFlag(c *cobra.Command) {
	var asJSON bool
	c.Flags().BoolVar(&asJSON, "json", false, "tell what happens as one JSON object a line (docs/machine-output.md); nobody is asked")
	c.PreRun = func(*cobra.Command, []string) {
		if asJSON {
			a.jsonLines()
		}
	}
}

// tellf prints a sentence for people, in a line of its own where a program reads.
func (a *app) tellf(format string, args ...any) {
	if a.lines != nil {
		a.lines.say(fmt.Sprintf(format, args...))
		return
	}
	fmt.Fprintf(a.out, format+"\n", args...)
}

// list gives an empty list for an absent one.
func list[T any](in []T) []T {
	if in == nil {
		return []T{}
	}
	return in
}
