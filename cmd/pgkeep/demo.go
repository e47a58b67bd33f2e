package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/pgkeep/pgkeep/cmd/pgkeep/demo"
)

func demoCommand(a *app) *cobra.Command {
	o := demo.Options{}
	c := &cobra.Command{
		Use: "demo", Short: "Protect a server of its own, lose a table, get it back", Args: cobra.NoArgs,
		Long: `Starts a PostgreSQL server in a directory of its own, writes a configuration, plans, applies, lets a shop work, drops its
table, and recovers a copy to the moment before. Every order whose commit was acknowledged must be in the copy; otherwise
it ends with 1. It takes less than two minutes, touches no other server, needs no network, and cleans up, also on Ctrl-C.

It needs the server programs of PostgreSQL 13 to 18 on this machine. As root it runs everything as user postgres, or nobody.`,
		Example: "  pgkeep demo\n  pgkeep demo --version 17\n  pgkeep demo --bindir /usr/lib/postgresql/15/bin --keep",
		RunE: func(c *cobra.Command, _ []string) error {
			program, err := os.Executable()
			if err != nil {
				return fmt.Errorf("find this program: %w", err)
			}
			o.Program, o.Out, o.Bold = program, a.out, a.color(a.outTerminal)
			return demo.Play(c.Context(), o)
		},
	}
	c.Flags().StringVar(&o.BinDir, "bindir", "", "directory of PostgreSQL's programs (found where they usually are)")
	c.Flags().IntVar(&o.Version, "version", 0, "major version of PostgreSQL, 13 to 18 (the newest that is here)")
	c.Flags().BoolVar(&o.Keep, "keep", false, "leave everything where it is, stopped")
	return c
}
