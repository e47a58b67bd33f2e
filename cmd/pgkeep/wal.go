package main

import (
	"fmt"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
)

func walCommand(a *app) *cobra.Command {
	c := &cobra.Command{Use: "wal", Short: "Look at archived WAL, find what did the harm, switch to the next segment"}
	c.AddCommand(walFindCommand(a), walCommitsCommand(a), walShowCommand(a), walListCommand(a), walGapsCommand(a), walSwitchCommand(a))
	return c
}

func walSwitchCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use: "switch SERVER...", Short: "Let the server finish its current WAL segment", Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.servers(),
		Long: `Runs pg_switch_wal(), so that the current segment ends and is archived whole. The role needs
GRANT EXECUTE ON FUNCTION pg_switch_wal().`,
		Example: "  pgkeep wal switch orders.eu",
		RunE: func(c *cobra.Command, names []string) error {
			spec, err := a.load()
			if err != nil {
				return err
			}
			var o plan.Options
			for _, n := range names {
				s, err := server(spec, n)
				if err != nil {
					return err
				}
				o.Switch = append(o.Switch, s.Name)
			}
			p, err := a.plan(c.Context(), spec, a.look(c.Context(), spec, nil), o)
			if err != nil {
				return err
			}
			return a.carryOut(c.Context(), spec, order{plan: p, consent: consent{yes: true}, parallel: 4, byHand: true})
		},
	}
	a.lineFlag(c)
	return c
}

func walListCommand(a *app) *cobra.Command {
	var p printed
	c := &cobra.Command{
		Use: "list [SERVER]", Short: "List the stretches of WAL that are archived", Args: cobra.MaximumNArgs(1), ValidArgsFunction: a.servers(),
		Long:    "One line is a stretch without a hole. PARTIAL is where the unfinished segment that was pushed ends.",
		Example: "  pgkeep wal list\n  pgkeep wal list orders.eu --json",
		RunE: func(c *cobra.Command, names []string) error {
			held, err := a.clusters(c.Context(), names)
			if err != nil {
				return err
			}
			return p.show(a, list(held), func() { a.showWAL(held) })
		},
	}
	p.flag(c, "what the repositories hold")
	return c
}

func (a *app) showWAL(held []heldCluster) {
	t := a.newTable()
	t.AppendHeader(table.Row{"server", "repository", "timeline", "from", "to", "partial", "size", "last commit"})
	n := 0
	for _, h := range held {
		for _, r := range h.Cluster.WAL {
			t.AppendRow(table.Row{h.Cluster.Name, h.Repository, r.Timeline, r.From, r.To, position(r.Partial), plan.Size(r.Bytes), plan.Moment(r.LastCommit)})
			n++
		}
	}
	if n == 0 {
		fmt.Fprintln(a.out, "No WAL is archived.\n→ pgkeep receiver status")
		return
	}
	fmt.Fprintln(a.out, t.Render())
}

func walGapsCommand(a *app) *cobra.Command {
	var p printed
	c := &cobra.Command{
		Use: "gaps [SERVER]", Short: "List the WAL that is recorded as lost; exit code 8 when there is any", Args: cobra.MaximumNArgs(1), ValidArgsFunction: a.servers(),
		Long:    "A gap is WAL that no server and no repository has. No recovery can cross it; backups after it are not concerned.",
		Example: "  pgkeep wal gaps\n  pgkeep wal gaps orders.eu --json",
		RunE: func(c *cobra.Command, names []string) error {
			held, err := a.clusters(c.Context(), names)
			if err != nil {
				return err
			}
			var found []gapJSON
			for _, h := range held {
				for _, g := range h.Cluster.Gaps {
					found = append(found, gapJSON{Server: h.Cluster.Name, Repository: h.Repository, Gap: g})
				}
			}
			err = p.show(a, list(found), func() { a.showGaps(found) })
			if err == nil && len(found) > 0 {
				return exit{code: exitCheck}
			}
			return err
		},
	}
	p.flag(c, "the gaps")
	return c
}

type gapJSON struct {
	Server     string    `json:"server"`
	Repository string    `json:"repository"`
	Gap        state.Gap `json:"gap"`
}

func (a *app) showGaps(found []gapJSON) {
	if len(found) == 0 {
		fmt.Fprintln(a.out, "No gap is recorded.")
		return
	}
	t := a.newTable()
	t.AppendHeader(table.Row{"server", "repository", "timeline", "from", "to", "recorded", "why"})
	for _, g := range found {
		t.AppendRow(table.Row{g.Server, g.Repository, g.Gap.Timeline, g.Gap.From, g.Gap.To, plan.Moment(g.Gap.Recorded), g.Gap.Reason})
	}
	fmt.Fprintln(a.out, t.Render())
}
