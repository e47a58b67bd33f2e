package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/plan/render"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/steps"
)

func drillShowCommand(a *app) *cobra.Command {
	var p printed
	var markdown bool
	var last int
	c := &cobra.Command{
		Use: "show [NAME]", Short: "What drills have shown: the evidence, for people, auditors and scripts", Args: cobra.MaximumNArgs(1), ValidArgsFunction: a.drills(),
		Long: `Reads the evidence of drills from the repositories: what was recovered, to which moment, how long each part took, what amcheck and
the checks said, and the rows that were counted. The newest drill, or with --last the newest N of them, of NAME or of all.`,
		Example: "  pgkeep drill show\n  pgkeep drill show weekly --last 12 --markdown > evidence.md\n  pgkeep drill show weekly --json",
		RunE: func(c *cobra.Command, args []string) error {
			if markdown && p.json {
				return usage("--markdown or --json, not both")
			}
			if last < 1 {
				return usage("--last counts from 1")
			}
			spec, err := a.load()
			if err != nil {
				return err
			}
			name := ""
			if len(args) == 1 {
				name = args[0]
			}
			bind, err := a.bindOptions()
			if err != nil {
				return err
			}
			all, unseen := a.allDrills(c, spec, steps.Bind(spec, bind), name)
			all = newestPerDrill(all, last)
			if len(all) == 0 && unseen != nil {
				return unseen
			}
			if unseen != nil {
				fmt.Fprintf(a.err, "Not all repositories answered, so that newer drills may be missing here: %s\n", oneLine(unseen.Error()))
			}
			err = p.show(a, list(all), func() {
				if markdown {
					err = render.Drills(a.out, all)
					return
				}
				a.showDrills(a.out, all, name)
			})
			return err
		},
	}
	p.flag(c, "the evidence")
	c.Flags().BoolVar(&markdown, "markdown", false, "as a Markdown document, for auditors")
	c.Flags().IntVar(&last, "last", 1, "of each drill the newest N")
	return c
}

// allDrills reads the evidence in every repository, newest first. The error is of a repository that did not answer.
func (a *app) allDrills(c *cobra.Command, spec *hclspec.Spec, world steps.World, name string) (all []state.Drill, unseen error) {
	for i := range spec.Repositories {
		found, err := world.Drills.Evidence(c.Context(), spec.Repositories[i].Name)
		if err != nil {
			unseen = err
			continue
		}
		for _, d := range found {
			if name == "" || d.Drill == name {
				all = append(all, d)
			}
		}
	}
	slices.SortStableFunc(all, func(x, y state.Drill) int { return y.Ended.Compare(x.Ended) })
	return all, unseen
}

// newestPerDrill leaves the newest n of each drill of each server.
func newestPerDrill(all []state.Drill, n int) []state.Drill {
	count := map[string]int{}
	return slices.DeleteFunc(all, func(d state.Drill) bool {
		key := d.Server + " " + d.Drill
		count[key]++
		return count[key] > n
	})
}

func (a *app) showDrills(w io.Writer, all []state.Drill, name string) {
	if len(all) == 0 {
		fmt.Fprintf(w, "No drill was made yet.\n→ pgkeep drill %s\n", name)
		return
	}
	for i, d := range all {
		if i > 0 {
			fmt.Fprintln(w)
		}
		verdict := a.paint(a.outTerminal, "32", "passed")
		if !d.Passed {
			verdict = a.paint(a.outTerminal, "31", "FAILED")
		}
		fmt.Fprintf(w, "%s of %s %s on %s, on %s: backup %s in repository %s, %s\n", d.Drill, d.Server, verdict, plan.Moment(d.Ended), d.Host, d.Backup, d.Repository, drillReach(d))
		for _, f := range d.Failures {
			fmt.Fprintf(w, "  %s %s\n", a.paint(a.outTerminal, "31", "ERROR ["+string(state.CodeDrill)+"]"), oneLine(f))
		}
		fmt.Fprintf(w, "  recovery: %s\n", drillTimes(d))
		fmt.Fprintf(w, "  amcheck: %s\n", drillAmcheck(d.Amcheck))
		for _, c := range d.Checks {
			fmt.Fprintf(w, "  check %s in %s: %s\n", c.Name, c.Database, drillAnswer(c))
		}
		if n := len(d.Rows); n > 0 {
			fmt.Fprintf(w, "  rows: counted in %s\n", counted(n, "table"))
		}
		for _, n := range d.Notes {
			fmt.Fprintf(w, "  note: %s\n", oneLine(n))
		}
	}
}

func drillReach(d state.Drill) string {
	text := "to the " + map[string]string{"latest": "newest moment", "immediate": "end of the backup", "random": "position " + d.TargetLSN.String() + ", chosen by chance"}[d.Target]
	if !d.LastTime.IsZero() {
		text += ", the last transaction of " + plan.Moment(d.LastTime)
	}
	return text
}

func drillTimes(d state.Drill) string {
	if d.RTO == 0 {
		return "it did not come to its end"
	}
	fetch := d.Recovery() - d.Seconds("start", "replay")
	return fmt.Sprintf("%s = %s to restore + %s to start + %s to replay", seconds(d.RTO), seconds(fetch), seconds(d.Seconds("start")), seconds(d.Seconds("replay")))
}

// seconds writes a short time with a decimal.
func seconds(s float64) string {
	if s < 10 {
		return fmt.Sprintf("%.1f s", s)
	}
	return plan.Span(time.Duration(s * float64(time.Second)))
}

func drillAmcheck(c state.DrillAmcheck) string {
	if c.Indexes+c.Tables == 0 {
		if c.Skipped == "" {
			return "not asked"
		}
		return c.Skipped
	}
	found := "no damage"
	if c.Findings > 0 {
		found = counted(c.Findings, "damaged relation")
	}
	text := fmt.Sprintf("%d indexes and %d tables in %s, %s", c.Indexes, c.Tables, counted(c.Databases, "database"), found)
	if c.Skipped != "" {
		text += "; " + c.Skipped
	}
	return text
}

func drillAnswer(c state.Answer) string {
	switch {
	case c.Error != "":
		return "failed: " + oneLine(c.Error)
	case !c.Passed:
		return fmt.Sprintf("gave %q and not %q", c.Got, c.Expect)
	}
	return fmt.Sprintf("gave %q, as expected", c.Got)
}

// showStatusDrills says when each server was last drilled, and what came of it.
func (a *app) showStatusDrills(p *plan.Plan, seen state.Observation, names []string) {
	first := true
	for _, label := range sorted(seen.Repositories) {
		clusters := seen.Repositories[label].Clusters
		for _, name := range sorted(clusters) {
			if len(names) > 0 && !slices.Contains(names, name) {
				continue
			}
			told := map[string]bool{}
			for _, c := range clusters[name] {
				for _, d := range c.Drills {
					if told[d.Drill] {
						continue
					}
					told[d.Drill] = true
					if first {
						fmt.Fprintln(a.out)
					}
					first = false
					fmt.Fprintf(a.out, "%s in %s was drilled (%s) %s: %s\n", name, label, d.Drill, plan.Moment(d.Ended), drillVerdict(d)+dueAgain(p, name, d.Drill))
				}
			}
		}
	}
}

// dueAgain says that a drill that was made is due again; empty: it is not.
func dueAgain(p *plan.Plan, server, name string) string {
	for _, s := range p.Steps {
		if act, ok := s.Action.(plan.Drill); ok && act.Drill == name && act.Route.Server == server {
			return "; due again since " + plan.Moment(act.Since)
		}
	}
	return ""
}

func drillVerdict(d state.Drill) string {
	if !d.Passed {
		return "FAILED: " + oneLine(steps.DrillFailure(d))
	}
	return "passed; recovered in " + strings.TrimSpace(drillTimes(d))
}
