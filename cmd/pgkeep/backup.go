package main

import (
	"github.com/spf13/cobra"

	"github.com/pgkeep/pgkeep/plan"
)

func backupCommand(a *app) *cobra.Command {
	var agree consent
	now := plan.BackupNow{}
	var checkpoint string
	c := &cobra.Command{
		Use: "backup SERVER...", Short: "Take a base backup now", Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.servers(),
		Long: `Takes a full base backup into every repository of the server, over the replication protocol, and returns when it is
committed. It can be restored as soon as the WAL that was written meanwhile is archived too: see pgkeep status.`,
		Example: "  pgkeep backup orders.eu\n  pgkeep backup orders.eu --label before-upgrade --checkpoint spread",
		RunE: func(c *cobra.Command, names []string) error {
			if checkpoint != "fast" && checkpoint != "spread" {
				return usage("--checkpoint is fast or spread")
			}
			spec, err := a.load()
			if err != nil {
				return err
			}
			for _, n := range names {
				s, err := server(spec, n)
				if err != nil {
					return err
				}
				now.Servers = append(now.Servers, s.Name)
			}
			now.Fast = checkpoint == "fast"
			p, err := a.plan(c.Context(), spec, a.look(c.Context(), spec, nil), plan.Options{BackupNow: &now})
			if err != nil {
				return err
			}
			agree.yes = true // taking a backup is what was typed, and it is safe
			return a.carryOut(c.Context(), spec, order{plan: p, consent: agree, parallel: 4, byHand: true})
		},
	}
	f := c.Flags()
	f.StringVar(&now.Label, "label", "", "kept with the backup")
	f.StringVar(&checkpoint, "checkpoint", "fast", "fast begins at once; spread waits for the server's own pace")
	return c
}
