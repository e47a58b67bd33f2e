package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
)

func backupCommand(a *app) *cobra.Command {
	now := plan.BackupNow{}
	var checkpoint, wait string
	var full, incremental bool
	c := &cobra.Command{
		Use: "backup SERVER...", Short: "Take a base backup now", Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.servers(),
		Long: `Takes a base backup into every repository of the server, over the replication protocol, and returns when it is
committed. It can be restored as soon as the WAL that was written meanwhile is archived too: --wait waits for that.
With --incremental, pages that the newest backup has are referred to and not stored again; it is restored, verified and kept
like a full one, and where there is nothing to build on it is one.`,
		Example: "  pgkeep backup orders.eu\n  pgkeep backup orders.eu --label before-upgrade --wait=10m\n  pgkeep backup orders.eu --json",
		RunE: func(c *cobra.Command, names []string) error {
			if checkpoint != "fast" && checkpoint != "spread" {
				return usage("--checkpoint is fast or spread")
			}
			if full && incremental {
				return usage("--full or --incremental, not both")
			}
			patience, err := patienceOf(wait)
			if err != nil {
				return err
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
			now.Fast, now.Kind = checkpoint == "fast", "full"
			if incremental {
				now.Kind = "incremental"
			}
			p, err := a.plan(c.Context(), spec, a.look(c.Context(), spec, nil), plan.Options{BackupNow: &now})
			if err != nil {
				return err
			}
			// Taking a backup is what was typed, and it is safe: nobody is asked.
			if err := a.carryOut(c.Context(), spec, order{plan: p, consent: consent{yes: true}, parallel: 4, byHand: true}); err != nil || patience == 0 {
				return err
			}
			return a.awaitUsable(c.Context(), spec, now.Servers, patience)
		},
	}
	a.lineFlag(c)
	f := c.Flags()
	f.BoolVar(&full, "full", false, "store every page, which is the default")
	f.BoolVar(&incremental, "incremental", false, "store only pages that the newest backup does not have")
	f.StringVar(&now.Label, "label", "", "kept with the backup")
	f.StringVar(&checkpoint, "checkpoint", "fast", "fast begins at once; spread waits for the server's own pace")
	f.StringVar(&wait, "wait", "", "also wait until its WAL is archived, at most so long; exit code 8 when it is not")
	f.Lookup("wait").NoOptDefVal = "10m"
	return c
}

func patienceOf(wait string) (time.Duration, error) {
	if wait == "" {
		return 0, nil
	}
	d, err := hclspec.ParseDuration(wait)
	if err != nil {
		return 0, usage("--wait: %s", err)
	}
	return d, nil
}
