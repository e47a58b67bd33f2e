package main

import (
	"fmt"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
)

func backupsCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use: "backups", Short: "List, show, export, hold, release and delete backups",
		Long: `Looks at repositories only: no server needs to answer. A backup has the same id in every repository that holds it.
What pgkeep backup takes, and what retention deletes, is seen here; single backups are kept with hold, and deleted by id.`,
		Example: "  pgkeep backups list\n  pgkeep backups show 20260210T211617Z-F-7f3a\n  pgkeep backups files 20260210T211617Z-F-7f3a '*.conf'\n  pgkeep backups hold 20260210T211617Z-F-7f3a --for 90d",
	}
	c.AddCommand(backupsListCommand(a), backupsShowCommand(a), backupsFilesCommand(a), backupsExportCommand(a), backupsHoldCommand(a), backupsReleaseCommand(a), backupsDeleteCommand(a))
	return c
}

func backupsListCommand(a *app) *cobra.Command {
	var p printed
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
			return p.show(a, list(held), func() { a.showBackups(held) })
		},
	}
	p.flag(c, "what the repositories hold")
	return c
}

func (a *app) showBackups(held []heldCluster) {
	t := a.newTable()
	t.AppendHeader(table.Row{"server", "repository", "backup", "state", "kind", "took", "data", "stored", "restores from", "hold"})
	n := 0
	for _, h := range held {
		for _, b := range h.Cluster.Backups {
			t.AppendRow(backupRow(h, b))
			n++
		}
	}
	if n == 0 {
		fmt.Fprintln(a.out, "No backup is there.\n→ pgkeep plan")
		return
	}
	fmt.Fprintln(a.out, t.Render())
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
	var at holdTarget
	var p printed
	c := &cobra.Command{
		Use: "show BACKUP", Short: "Show everything about one backup", Args: cobra.ExactArgs(1),
		Long: `Shows when it was taken, from where to where it needs WAL, whether it can be restored, what it holds and what keeps it,
once for each repository that has it.`,
		Example: "  pgkeep backups show 20260210T211617Z-F-7f3a\n  pgkeep backups show 20260210T211617Z-F-7f3a --repository main --json",
		RunE: func(c *cobra.Command, ids []string) error {
			found, err := a.find(c.Context(), ids[0], at.server, at.repository)
			if err != nil {
				return err
			}
			return p.show(a, found, func() {
				for i, f := range found {
					if i > 0 {
						fmt.Fprintln(a.out)
					}
					a.showBackup(f)
				}
			})
		},
	}
	at.flags(c)
	p.flag(c, "it")
	return c
}

func (a *app) showBackup(f foundBackup) {
	b := f.Backup
	lines := [][2]string{
		{"backup", b.ID},
		{"server", f.Server + ", system identifier " + f.SystemID},
		{"repository", f.Repository},
		{"state", string(b.State) + ", " + string(f.Usability)},
		{"kind", kindOf(b)},
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
		{"verified", verifiedText(f.Verified)},
	}
	for _, l := range lines {
		if l[1] != "" {
			fmt.Fprintf(a.out, "%-12s %s\n", l[0], l[1])
		}
	}
}

// kindOf says of what kind a backup is, and of an incremental one how it was taken.
func kindOf(b state.Backup) string {
	switch {
	case b.Chain == nil:
		return b.Kind
	case b.Chain.Summaries:
		return fmt.Sprintf("%s, number %d of its chain; the server told which pages changed", b.Kind, b.Chain.Depth)
	}
	return fmt.Sprintf("%s, number %d of its chain; compared with its parent", b.Kind, b.Chain.Depth)
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
	a.lineFlag(c)
	c.Flags().StringVar(&o.Server, "server", "", "stored name of the server; found by the id without it")
	c.Flags().StringVar(&o.Repository, "repository", "", "only in this repository")
	return c
}
