package main

import (
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/spf13/cobra"

	"github.com/pgkeep/pgkeep/cmd/pgkeep/agent"
	"github.com/pgkeep/pgkeep/hclspec"
)

func agentCommand(a *app) *cobra.Command {
	var resync time.Duration
	c := &cobra.Command{
		Use: "agent", Short: "Keep the world as the configuration says, until it is told to stop", Args: cobra.NoArgs,
		Long: `Looks, plans and applies what the block approval allows, when the plan's next due time comes, at the latest every --resync,
when a receiver ends, and on SIGHUP, which also reads the configuration again. Receivers run inside it. What needs a name
waits, and pgkeep status shows it. A configuration that cannot be used leaves the one before in force.

As a service: docs/pgkeep-agent.service.`,
		Example: "  pgkeep agent -C /etc/pgkeep",
		RunE: func(c *cobra.Command, _ []string) error {
			log, err := a.logger()
			if err != nil {
				return err
			}
			o, err := a.loadOptions()
			if err != nil {
				return err
			}
			load := func() (*hclspec.Spec, hcl.Diagnostics) {
				spec, diags := hclspec.Load(paths{}, filepath.ToSlash(a.dir), o)
				_ = a.drawn(spec.Files, diags) // the agent decides what an error means
				return spec, diags
			}
			reload := make(chan os.Signal, 1)
			signal.Notify(reload, syscall.SIGHUP)
			defer signal.Stop(reload)
			spare()
			return agent.Run(c.Context(), agent.Options{Load: load, Reload: reload, Log: log, Resync: resync, Env: a.env, Version: a.version})
		},
	}
	c.Flags().DurationVar(&resync, "resync", time.Minute, "how long it sleeps at most")
	return c
}
