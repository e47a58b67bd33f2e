package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/plan/render"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

func statusCommand(a *app) *cobra.Command {
	var out printed
	var metrics bool
	c := &cobra.Command{
		Use: "status [SERVER...]", Short: "What can be restored, and what would be lost now", ValidArgsFunction: a.servers(),
		Long: `The first line of each server says to which moments it can be restored and what would be lost if it died now. Then come
its receiver, its slot and its repositories. What could not be seen is "unknown", with the reason. With --metrics the drills,
objectives and recoverable moments of all servers are written in the text format of Prometheus, for the textfile collector of
node_exporter or a scrape.`,
		Example: "  pgkeep status\n  pgkeep status orders.eu\n  pgkeep status --json\n  pgkeep status --metrics > pgkeep.prom.new && mv pgkeep.prom.new /var/lib/node_exporter/pgkeep.prom",
		RunE: func(c *cobra.Command, names []string) error {
			if metrics && (out.json || len(names) > 0) {
				return usage("--metrics is of all servers and takes neither names nor --json")
			}
			spec, err := a.load()
			if err != nil {
				return err
			}
			for _, n := range names {
				if _, err := server(spec, n); err != nil {
					return err
				}
			}
			seen := a.look(c.Context(), spec, nil)
			p, err := a.plan(c.Context(), spec, seen, plan.Options{})
			if err != nil {
				return err
			}
			if metrics {
				return render.Metrics(a.out, p, p.DrillStandings(spec, seen))
			}
			told := statusJSON{Observation: seen, Windows: p.Windows, Objectives: p.Objectives, Findings: p.Findings, NextDue: p.NextDue, Steps: len(p.Steps)}
			return out.show(a, told, func() {
				a.showWindows(p, names)
				a.showCut(p, names)
				a.showReceivers(seen, names)
				a.showRepositories(seen)
				a.showVerifications(seen, names)
				a.showStatusDrills(p, seen, names)
				a.showFindings(p.Findings, names)
				if len(p.Steps) > 0 {
					fmt.Fprintf(a.out, "\n%s\n→ pgkeep plan\n", p.Summary())
				}
			})
		},
	}
	out.flag(c, "what was seen")
	c.Flags().BoolVar(&metrics, "metrics", false, "print drills, objectives and recoverable moments as Prometheus text (docs/drills.md)")
	return c
}

// statusJSON is the form of `status --json`; fields are only ever added.
type statusJSON struct {
	Observation state.Observation `json:"observation"`
	Windows     []plan.Window     `json:"windows"`
	Objectives  []plan.Objective  `json:"objectives,omitempty"`
	Findings    []plan.Finding    `json:"findings"`
	NextDue     []plan.Due        `json:"next_due"`
	Steps       int               `json:"steps"` // that a plan would have now
}

func (a *app) showWindows(p *plan.Plan, names []string) {
	many := map[string]int{}
	for _, w := range p.Windows {
		many[w.Server]++
	}
	for _, w := range p.Windows {
		if len(names) > 0 && !slices.Contains(names, w.Server) {
			continue
		}
		for _, line := range render.WindowSentences(w, many[w.Server] > 1) {
			fmt.Fprintln(a.out, line)
		}
	}
	for _, o := range p.Objectives {
		if len(names) > 0 && !slices.Contains(names, o.Server) {
			continue
		}
		for _, line := range o.Sentences() {
			fmt.Fprintln(a.out, line)
		}
	}
}

// showCut tells of cut backups that are kept for another one to go on with.
func (a *app) showCut(p *plan.Plan, names []string) {
	for _, n := range p.NotDone {
		if n.Kept() && (len(names) == 0 || slices.ContainsFunc(names, func(name string) bool { return n.Owner == "server."+name })) {
			fmt.Fprintln(a.out, n.Why.Text+".")
		}
	}
}

func (a *app) showReceivers(seen state.Observation, names []string) {
	t := a.newTable()
	t.AppendHeader(table.Row{"server", "postgresql", "receiver", "durable", "archived", "spool"})
	rows := 0
	for _, name := range sorted(seen.Servers) {
		if len(names) > 0 && !slices.Contains(names, name) {
			continue
		}
		r := seen.Receivers[name]
		t.AppendRow(table.Row{name, serverState(seen.Servers[name]), receiverState(r), position(r.Flushed), position(r.Archived), spoolState(seen.Spools[name])})
		rows++
	}
	if rows > 0 {
		fmt.Fprintf(a.out, "\n%s\n", t.Render())
	}
}

// position writes an LSN, and nothing for none.
func position(l wal.LSN) string {
	if l == 0 {
		return ""
	}
	return l.String()
}

func serverState(s state.Server) string {
	switch {
	case s.Unknown != nil:
		return "unknown: " + s.Unknown.Because
	case s.InRecovery:
		return fmt.Sprintf("%d.%d standby, timeline %d", s.Version/10000, s.Version%10000, s.Timeline)
	}
	return fmt.Sprintf("%d.%d, timeline %d", s.Version/10000, s.Version%10000, s.Timeline)
}

func receiverState(r state.Receiver) string {
	switch {
	case r.Unknown != nil:
		return "unknown: " + r.Unknown.Because
	case !r.Running:
		return "not running"
	case r.Problem != nil:
		return fmt.Sprintf("[%s] %s since %s", r.Problem.Code, r.Problem.Text, plan.Moment(r.Problem.Since))
	case !r.Streaming:
		return fmt.Sprintf("process %d, connecting", r.PID)
	case r.Agent:
		return fmt.Sprintf("streaming, in agent %d", r.PID)
	}
	return fmt.Sprintf("streaming, process %d", r.PID)
}

func spoolState(s state.Spool) string {
	if s.Unknown != nil {
		return "unknown"
	}
	if s.Total == 0 {
		return ""
	}
	return plan.Size(s.Used) + " used, " + plan.Size(s.Free) + " free"
}

func (a *app) showRepositories(seen state.Observation) {
	if len(seen.Repositories) == 0 {
		return
	}
	t := a.newTable()
	t.AppendHeader(table.Row{"repository", "location", "backups", "free"})
	for _, name := range sorted(seen.Repositories) {
		r := seen.Repositories[name]
		if r.Unknown != nil {
			t.AppendRow(table.Row{name, r.Location, "unknown: " + r.Unknown.Because})
			continue
		}
		backups := 0
		for _, clusters := range r.Clusters {
			for _, c := range clusters {
				backups += len(c.Backups)
			}
		}
		free := "no limit told"
		if r.Free >= 0 {
			free = plan.Size(r.Free)
		}
		t.AppendRow(table.Row{name, r.Location, backups, free})
	}
	fmt.Fprintf(a.out, "\n%s\n", t.Render())
}

// showFindings lists errors, then warnings, each with what to do.
func (a *app) showFindings(all []plan.Finding, names []string) {
	for _, severity := range []plan.Severity{plan.Error, plan.Warning} {
		for _, f := range all {
			if f.Severity != severity || !concerns(f, names) {
				continue
			}
			color := "33"
			if severity == plan.Error {
				color = "31"
			}
			fmt.Fprintf(a.out, "\n%s %s: %s\n", a.paint(a.outTerminal, color, strings.ToUpper(string(severity))+" ["+string(f.Code)+"]"), f.Subject, f.Text)
			if f.Hint != "" {
				fmt.Fprintf(a.out, "→ %s\n", f.Hint)
			}
		}
	}
}

// concerns tells whether a finding is about one of the servers named; with none named, all are.
func concerns(f plan.Finding, names []string) bool {
	if len(names) == 0 {
		return true
	}
	for _, n := range names {
		block, key, keyed := strings.Cut(n, ".")
		address := "server." + block
		if keyed {
			address += fmt.Sprintf("[%q]", key)
		}
		if f.Subject == n || f.Subject == address {
			return true
		}
	}
	return false
}

func sorted[T any](m map[string]T) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
