package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/observe"
)

func observeCommand(a *app) *cobra.Command {
	var out string
	var recoveries []string
	var parallel int
	c := &cobra.Command{
		Use: "observe", Short: "Record what servers, repositories and this machine look like", Args: cobra.NoArgs,
		Long: `Looks as plan does, and writes what it saw as versioned JSON without secrets. Nothing is changed.

From such a file plan --observed=FILE makes the plan that it would have made then and here: on another machine, without a
network, for a question to a colleague, or with --now for another day. A plan of a recorded observation is never applied.`,
		Example: "  pgkeep observe --out world.json\n  pgkeep plan --observed=world.json\n  pgkeep observe --out - | pgkeep plan --observed=- --now=2026-12-01T00:00:00Z",
		RunE: func(c *cobra.Command, _ []string) error {
			spec, err := a.load()
			if err != nil {
				return err
			}
			asked, err := recoveriesNamed(spec, recoveries)
			if err != nil {
				return err
			}
			seen := observe.World(c.Context(), spec, observe.Options{Now: a.now(), Env: a.env, Stores: a.stores, Recoveries: asked, Parallel: parallel, Journal: true})
			if err := context.Cause(c.Context()); err != nil {
				return err // half a look is no observation
			}
			return a.record(out, seen)
		},
	}
	f := c.Flags()
	f.StringVar(&out, "out", "-", "file to write; - for standard output")
	f.StringArrayVar(&recoveries, "recover", nil, "look also at what the recovery block of this name needs; can be repeated")
	f.IntVar(&parallel, "parallelism", 0, "how many servers and repositories are looked at at once (16)")
	return c
}

func recoveriesNamed(spec *hclspec.Spec, names []string) ([]hclspec.Recovery, error) {
	var out []hclspec.Recovery
	for _, name := range names {
		r, err := recoveryNamed(spec, strings.TrimPrefix(name, "recovery."))
		if err != nil {
			return nil, err
		}
		out = append(out, *r)
	}
	return out, nil
}

// record writes an observation whole or not at all.
func (a *app) record(name string, seen state.Observation) error {
	if name == "-" {
		return observe.Record(a.out, seen)
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".observation-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	defer os.Remove(f.Name()) // fails once it has its name, as it should
	err = observe.Record(f, seen)
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}
