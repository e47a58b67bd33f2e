package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/state/repository/seal/keyfile"
	"github.com/pgkeep/pgkeep/state/repository/store/open"
)

// holdTarget names the backup that a hold is put on.
type holdTarget struct {
	server, repository string
	printed            printed
}

// changedHold is what one repository did, as --json prints it.
type changedHold struct {
	Backup     string `json:"backup"`
	Server     string `json:"server"`
	Repository string `json:"repository"`
	Now        string `json:"now"` // held | released
}

func (h *holdTarget) flags(c *cobra.Command) {
	c.Flags().StringVar(&h.server, "server", "", "stored name of the server; found by the id without it")
	c.Flags().StringVar(&h.repository, "repository", "", "only in this repository; all that have the backup without it")
}

func backupsHoldCommand(a *app) *cobra.Command {
	var at holdTarget
	var reason, length string
	c := &cobra.Command{
		Use: "hold BACKUP", Short: "Keep a backup whatever the retention says", Args: cobra.ExactArgs(1),
		Long:    "Keeps the backup and the WAL that it needs until it is released, or for a time. What Barman calls keep.",
		Example: "  pgkeep backups hold 20260210T211617Z-F-7f3a --reason audit-2026\n  pgkeep backups hold 20260210T211617Z-F-7f3a --for 90d",
		RunE: func(c *cobra.Command, ids []string) error {
			h := state.Hold{Reason: reason}
			if length != "" {
				d, err := hclspec.ParseDuration(length)
				if err != nil {
					return usage("--for: %s", err)
				}
				h.Expires = a.now().Add(d).UTC()
			}
			return a.eachFound(c.Context(), ids[0], at, func(ctx context.Context, x holdable, now time.Time) error { return x.Hold(ctx, ids[0], h, now) }, "held")
		},
	}
	at.flags(c)
	at.printed.flag(c, "what was done in which repository")
	c.Flags().StringVar(&reason, "reason", "", "why, shown in lists")
	c.Flags().StringVar(&length, "for", "", "how long, for example 90d; without it until it is released")
	return c
}

func backupsReleaseCommand(a *app) *cobra.Command {
	var at holdTarget
	c := &cobra.Command{
		Use: "release BACKUP", Short: "End the hold of a backup", Args: cobra.ExactArgs(1),
		Long:    "From then on the retention decides about it again; nothing is deleted at once.",
		Example: "  pgkeep backups release 20260210T211617Z-F-7f3a",
		RunE: func(c *cobra.Command, ids []string) error {
			return a.eachFound(c.Context(), ids[0], at, func(ctx context.Context, x holdable, now time.Time) error { return x.Release(ctx, ids[0], now) }, "released")
		},
	}
	at.flags(c)
	at.printed.flag(c, "what was done in which repository")
	return c
}

// holdable is what a hold needs of a cluster.
type holdable interface {
	Hold(ctx context.Context, id string, h state.Hold, now time.Time) error
	Release(ctx context.Context, id string, now time.Time) error
}

// eachFound does one thing to a backup in every repository that has it, and says so.
func (a *app) eachFound(ctx context.Context, id string, at holdTarget, do func(context.Context, holdable, time.Time) error, done string) error {
	found, err := a.find(ctx, id, at.server, at.repository)
	if err != nil {
		return err
	}
	spec, err := a.load()
	if err != nil {
		return err
	}
	var changed []changedHold
	for _, f := range found {
		r, closeStore, err := openRepository(ctx, spec, f.Repository)
		if err != nil {
			return err
		}
		err = do(ctx, r.Cluster(f.Server, f.SystemID), a.now())
		closeStore()
		if err != nil {
			return fmt.Errorf("change the hold of %s in %s: %w", id, f.Repository, err)
		}
		changed = append(changed, changedHold{id, f.Server, f.Repository, done})
		if !at.printed.json {
			fmt.Fprintf(a.out, "%s of %s is %s in repository %s.\n", id, f.Server, done, f.Repository)
		}
	}
	return at.printed.show(a, list(changed), func() {})
}

func openRepository(ctx context.Context, spec *hclspec.Spec, label string) (*repository.Repository, func(), error) {
	for _, r := range spec.Repositories {
		if r.Name != label {
			continue
		}
		keys, err := keyfile.Ring(ctx, r.Encryption)
		if err != nil {
			return nil, nil, fmt.Errorf("open repository %s: %w", label, err)
		}
		st, err := open.Open(r.Location())
		if err != nil {
			return nil, nil, fmt.Errorf("open repository %s: %w", label, err)
		}
		repo, err := repository.OpenWith(ctx, st, keys)
		if err != nil {
			_ = st.Close()
			return nil, nil, err
		}
		return repo, func() { _ = st.Close() }, nil
	}
	return nil, nil, fmt.Errorf("open repository %s: the configuration has none of that name", label)
}
