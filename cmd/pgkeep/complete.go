package main

import (
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/pgkeep/pgkeep/hclspec"
)

// completion gives the words that a shell offers for an argument.
type completion = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective)

// servers offers the stored names of the configuration's servers. A configuration that is wrong offers none: a shell is
// no place for diagnostics.
func (a *app) servers() completion {
	return a.offer(func(s *hclspec.Spec) []string {
		out := make([]string, 0, len(s.Servers))
		for _, x := range s.Servers {
			out = append(out, x.Name+"\t"+x.Address)
		}
		return out
	})
}

// recoveries offers the labels of recovery blocks.
func (a *app) recoveries() completion {
	return a.offer(func(s *hclspec.Spec) []string {
		out := make([]string, 0, len(s.Recoveries))
		for _, x := range s.Recoveries {
			out = append(out, x.Name+"\t"+x.Server)
		}
		return out
	})
}

func (a *app) offer(names func(*hclspec.Spec) []string) completion {
	return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		o, err := a.loadOptions()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		spec, _ := hclspec.Load(paths{}, filepath.ToSlash(a.dir), o)
		return names(spec), cobra.ShellCompDirectiveNoFileComp
	}
}

// drills offers the labels of drill blocks.
func (a *app) drills() completion {
	return a.offer(func(s *hclspec.Spec) []string {
		out := make([]string, 0, len(s.Drills))
		for _, x := range s.Drills {
			out = append(out, x.Name+"\t"+x.Server)
		}
		return out
	})
}
