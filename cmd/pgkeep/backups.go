package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/observe"
)

func backupsCommand(a *app) *cobra.Command {
	c := &cobra.Command{Use: "backups", Short: "List, show, hold, release and delete backups", Args: cobra.NoArgs}
	c.AddCommand(backupsListCommand(a), backupsShowCommand(a), backupsHoldCommand(a), backupsReleaseCommand(a), backupsDeleteCommand(a))
	return c
}

// heldCluster is what one repository holds of one cluster.
type heldCluster struct {
	Repository string        `json:"repository"`
	Cluster    state.Cluster `json:"cluster"`
}

// clusters looks at the repositories only, and gives what they hold of the servers named. A repository that could not be
// seen is an error: a list without it would be false.
func (a *app) clusters(ctx context.Context, names []string) ([]heldCluster, error) {
	spec, err := a.load()
	if err != nil {
		return nil, err
	}
	seen := observe.World(ctx, spec, observe.Options{Now: a.now(), Env: a.env, Only: func(k observe.Kind) bool { return k == observe.Repositories }})
	var out []heldCluster
	for _, label := range sorted(seen.Repositories) {
		r := seen.Repositories[label]
		if r.Unknown != nil {
			fmt.Fprintf(a.err, "Repository %s is unknown [%s]: %s\n", label, r.Unknown.Code, r.Unknown.Because)
			err = &state.Error{Code: r.Unknown.Code, Text: "the list is not complete", Hint: r.Unknown.Hint}
			continue
		}
		for _, name := range sorted(r.Clusters) {
			if len(names) > 0 && !slices.Contains(names, name) {
				continue
			}
			for _, c := range r.Clusters[name] {
				if u := c.Unknown; u != nil {
					fmt.Fprintf(a.err, "What repository %s holds of %s is unknown [%s]: %s\n", label, name, u.Code, u.Because)
					err = &state.Error{Code: u.Code, Text: "the list is not complete", Hint: u.Hint}
					continue
				}
				out = append(out, heldCluster{label, c})
			}
		}
	}
	if err == nil && len(names) > 0 && len(out) == 0 {
		if _, known := server(spec, names[0]); known != nil {
			return nil, known
		}
	}
	if len(out) > 0 && err != nil {
		a.say(err)
		return out, nil
	}
	return out, err
}

func backupsListCommand(a *app) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "list [SERVER]", Short: "List backups, oldest first", Args: cobra.MaximumNArgs(1), ValidArgsFunction: a.servers(),
		Long: `A backup is "usable" when it is committed and all WAL from its start to its end is archived; "waiting" until then; "lost"
when a recorded gap cuts it. Nothing else can be restored from.`,
		Example: "  pgkeep backups list\n  pgkeep backups list orders.eu --json",
		RunE: func(c *cobra.Command, names []string) error {
			held, err := a.clusters(c.Context(), names)
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(a.out, held)
			}
			t := a.newTable()
			t.AppendHeader(table.Row{"server", "repository", "backup", "state", "kind", "took", "data", "stored", "restores from", "hold"})
			for _, h := range held {
				for _, b := range h.Cluster.Backups {
					t.AppendRow(backupRow(h, b))
				}
			}
			fmt.Fprintln(a.out, t.Render())
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	return c
}

func backupRow(h heldCluster, b state.Backup) table.Row {
	took, from := "", ""
	if !b.Ended.IsZero() {
		took = plan.Span(b.Ended.Sub(b.Began))
		from = plan.Moment(b.Ended)
	}
	return table.Row{h.Cluster.Name, h.Repository, b.ID, verdictOf(h.Cluster, b), b.Kind, took, plan.Size(b.DataBytes), plan.Size(b.StoredBytes), from, holdOf(b)}
}

func verdictOf(c state.Cluster, b state.Backup) string {
	if u := c.Usability(b); u != state.NotUsable {
		return string(u)
	}
	return string(b.State)
}

func holdOf(b state.Backup) string {
	if b.Hold == nil {
		return ""
	}
	s := "held"
	if !b.Hold.Expires.IsZero() {
		s += " until " + plan.Moment(b.Hold.Expires)
	}
	if b.Hold.Reason != "" {
		s += ": " + b.Hold.Reason
	}
	return s
}

func backupsShowCommand(a *app) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "show BACKUP", Short: "Show everything about one backup", Args: cobra.ExactArgs(1),
		Example: "  pgkeep backups show 20260210T211617Z-F-7f3a",
		RunE: func(c *cobra.Command, ids []string) error {
			found, err := a.find(c.Context(), ids[0], "", "")
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(a.out, found)
			}
			for i, f := range found {
				if i > 0 {
					fmt.Fprintln(a.out)
				}
				a.showBackup(f)
			}
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	return c
}

// foundBackup is one backup in one repository.
type foundBackup struct {
	Repository string          `json:"repository"`
	Server     string          `json:"server"`
	SystemID   string          `json:"system_id"`
	Usability  state.Usability `json:"usability"`
	Backup     state.Backup    `json:"backup"`
}

// find gives a backup in every repository that has it; empty server and repository mean any.
func (a *app) find(ctx context.Context, id, serverName, repository string) ([]foundBackup, error) {
	var names []string
	if serverName != "" {
		names = []string{serverName}
	}
	held, err := a.clusters(ctx, names)
	if err != nil {
		return nil, err
	}
	var out []foundBackup
	for _, h := range held {
		for _, b := range h.Cluster.Backups {
			if b.ID == id && (repository == "" || repository == h.Repository) {
				out = append(out, foundBackup{h.Repository, h.Cluster.Name, h.Cluster.SystemID, h.Cluster.Usability(b), b})
			}
		}
	}
	if len(out) == 0 {
		return nil, &state.Error{Code: state.CodeAbsent, Text: fmt.Sprintf("no repository has a backup %q", id), Hint: "pgkeep backups list"}
	}
	return out, nil
}

func (a *app) showBackup(f foundBackup) {
	b := f.Backup
	lines := [][2]string{
		{"backup", b.ID},
		{"server", f.Server + ", system identifier " + f.SystemID},
		{"repository", f.Repository},
		{"state", string(b.State) + ", " + string(f.Usability)},
		{"kind", b.Kind},
		{"postgresql", fmt.Sprintf("%d.%d", b.Version/10000, b.Version%10000)},
		{"began", plan.Moment(b.Began)},
		{"ended", plan.Moment(b.Ended)},
		{"timeline", fmt.Sprint(b.Timeline)},
		{"WAL", fmt.Sprintf("from %s, consistent at %s", b.Redo, b.Stop)},
		{"data", plan.Size(b.DataBytes)},
		{"stored", plan.Size(b.StoredBytes)},
		{"parent", b.Parent},
		{"refers to", strings.Join(b.Refs, ", ")},
		{"written by", b.Host},
		{"schedule", b.Schedule},
		{"failure", b.Failure},
		{"hold", holdOf(b)},
	}
	for _, l := range lines {
		if l[1] != "" {
			fmt.Fprintf(a.out, "%-12s %s\n", l[0], l[1])
		}
	}
}

func backupsDeleteCommand(a *app) *cobra.Command {
	var agree consent
	var o plan.DeleteBackups
	c := &cobra.Command{
		Use: "delete BACKUP...", Short: "Delete backups by id", Args: cobra.MinimumNArgs(1),
		Long: `Deletes the backups named and no others, after asking. A backup that is held, that another one needs, or without which
fewer than minimum_redundancy would be left, is refused.`,
		Example: "  pgkeep backups delete 20260210T211617Z-F-7f3a --server orders.eu",
		RunE: func(c *cobra.Command, ids []string) error {
			if agree.yes && agree.approve != "" {
				return usage("give --yes or --auto-approve, not both")
			}
			if !a.inTerminal && !agree.yes && agree.approve == "" {
				return exit{exitNotApproved, &state.Error{Text: "nothing was deleted: there is no terminal to ask on", Hint: "add --yes"}}
			}
			if o.Server == "" {
				found, err := a.find(c.Context(), ids[0], "", o.Repository)
				if err != nil {
					return err
				}
				o.Server = found[0].Server
			}
			spec, err := a.load()
			if err != nil {
				return err
			}
			o.Backups = ids
			p, err := a.plan(c.Context(), spec, a.look(c.Context(), spec, nil), plan.Options{Delete: &o})
			if err != nil {
				return err
			}
			return a.carryOut(c.Context(), spec, order{plan: p, consent: agree, parallel: 4, byHand: true})
		},
	}
	agree.flags(c)
	c.Flags().StringVar(&o.Server, "server", "", "stored name of the server; found by the id without it")
	c.Flags().StringVar(&o.Repository, "repository", "", "only in this repository")
	return c
}

// holdTarget names the backup that a hold is put on.
type holdTarget struct{ server, repository string }

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
	return c
}
