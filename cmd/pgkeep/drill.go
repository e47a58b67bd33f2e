package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
)

const drillHelp = `Recovers a server for real: restores its newest backup (or a moment by chance) into the scratch directory, starts PostgreSQL there,
lets it recover and promotes it, checks every B-tree and table with amcheck, counts the rows of the largest tables and compares
them with the drill before, asks the declared checks, and removes it all. What was found and how long each part took is kept in the
repository as evidence: status, check and plan read it there, and objective.rto goes by it.

The copy cannot reach out and nobody reaches it: no port, a socket in a directory that only its owner enters, nothing archived,
nothing followed, no subscription and no jobs. The server that is protected is not touched. What a drill left that was killed is
removed by the next one.

NAME is a drill block of the configuration; where there is one only, it need not be named. With --server no block is needed.
A drill that fails ends with 8, and check says so until a later one of that name passes. One that was kept from judging the backup (no
space, no answer of the repository) ends with 1 and leaves no evidence.`

// drillFlags are what the command line says of a drill without a block.
type drillFlags struct {
	server, repository, scratch, owner, bindir, amcheck string
	random                                              bool
}

func drillCommand(a *app) *cobra.Command {
	var o drillFlags
	c := &cobra.Command{
		Use: "drill [NAME]", Short: "Recover for real into scratch space, ask the copy, and keep the evidence", Long: drillHelp, Args: cobra.MaximumNArgs(1), ValidArgsFunction: a.drills(),
		Example: "  pgkeep drill weekly\n  pgkeep drill --server orders.eu --scratch /mnt/big/drill --owner postgres\n  pgkeep drill show weekly\n  pgkeep drill show weekly --markdown > evidence.md",
		RunE: func(c *cobra.Command, args []string) error {
			spec, err := a.load()
			if err != nil {
				return err
			}
			name := ""
			if len(args) == 1 {
				name = args[0]
			}
			spec, name, err = o.drill(spec, name)
			if err != nil {
				return err
			}
			p, err := a.plan(c.Context(), spec, a.look(c.Context(), spec, nil), plan.Options{Drill: &plan.DrillNow{Name: name}})
			if err != nil {
				return err
			}
			// A drill is what was typed, and it is safe: nobody is asked.
			return a.carryOut(c.Context(), spec, order{plan: p, consent: consent{yes: true}, parallel: 1, byHand: true})
		},
	}
	a.lineFlag(c)
	f := c.Flags()
	f.StringVar(&o.server, "server", "", "drill this server, by stored name, without a block")
	f.StringVar(&o.repository, "repository", "", "with --server: from this repository (the nearest)")
	f.StringVar(&o.scratch, "scratch", "", "directory for the copy (the block's; without one /var/lib/pgkeep/drill)")
	f.StringVar(&o.owner, "owner", "", "user who runs the copy (who runs pgkeep)")
	f.StringVar(&o.bindir, "bindir", "", "directory of PostgreSQL's programs")
	f.StringVar(&o.amcheck, "amcheck", "", "full: indexes and tables; index; or off")
	f.BoolVar(&o.random, "random", false, "recover a moment by chance instead of the newest")
	c.AddCommand(drillShowCommand(a))
	return c
}

// drill gives the configuration with the drill that is asked for as it is asked for, and its name.
func (o *drillFlags) drill(spec *hclspec.Spec, name string) (*hclspec.Spec, string, error) {
	d, err := o.block(spec, name)
	if err != nil {
		return nil, "", err
	}
	for _, f := range []struct {
		flag string
		into *string
	}{{o.repository, &d.Repository}, {o.scratch, &d.Scratch}, {o.owner, &d.Owner}, {o.bindir, &d.BinDir}, {o.amcheck, &d.Amcheck}} {
		if f.flag != "" {
			*f.into = f.flag
		}
	}
	if o.random {
		d.Target = hclspec.DrillTarget{Random: true}
	}
	if d.Scratch, err = filepath.Abs(d.Scratch); err != nil {
		return nil, "", fmt.Errorf("find the scratch directory: %w", err)
	}
	if err := d.Check(); err != nil {
		return nil, "", usage("%s", err)
	}
	out := *spec
	out.Drills = []hclspec.Drill{d}
	return &out, d.Name, nil
}

// block finds the drill block that is meant, or makes one of defaults.
func (o *drillFlags) block(spec *hclspec.Spec, name string) (hclspec.Drill, error) {
	if o.server != "" {
		if name != "" {
			return hclspec.Drill{}, usage("name a drill block, or --server, not both")
		}
		s, err := server(spec, o.server)
		if err != nil {
			return hclspec.Drill{}, err
		}
		return hclspec.NewDrill(s.Name), nil
	}
	if name == "" && len(spec.Drills) == 1 {
		return spec.Drills[0], nil
	}
	names := make([]string, 0, len(spec.Drills))
	for _, d := range spec.Drills {
		if d.Name == name {
			return d, nil
		}
		names = append(names, d.Name)
	}
	if name == "" {
		return hclspec.Drill{}, usage("name a drill block (the configuration has %s), or --server", orNone(names))
	}
	return hclspec.Drill{}, usage("the configuration has no drill %q: it has %s", name, orNone(names))
}
