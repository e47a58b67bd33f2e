package main

import "github.com/spf13/cobra"

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

// list gives an empty list for an absent one.
func list[T any](in []T) []T {
	if in == nil {
		return []T{}
	}
	return in
}
