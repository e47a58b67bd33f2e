package main

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/observe"
)

func checkCommand(a *app) *cobra.Command {
	var out printed
	var repository string
	c := &cobra.Command{
		Use: "check [SERVER...]", Short: "Is everything in order? Exit code 8 when not", ValidArgsFunction: a.servers(),
		Long: `Looks at connection, a replication connection of its own, privileges, settings, slot, receiver, system identifier, spool,
repositories, backups, their ages, sizes and number, and the WAL between them. A repository with a url is written to once: the
object .pgkeep-probe shows whether its store takes an object only if the name is free. One line for each: what is in order, then
warnings, then errors, with what to run next. Warnings alone end with 0, errors with 8.`,
		Example: "  pgkeep check\n  pgkeep check orders.eu\n  pgkeep check --repository main",
		RunE: func(c *cobra.Command, names []string) error {
			spec, err := a.load()
			if err != nil {
				return err
			}
			if names, err = checked(spec, names, repository); err != nil {
				return err
			}
			seen := observe.World(c.Context(), spec, observe.Options{Now: a.now(), Env: a.env, Stores: a.stores, Walsenders: true})
			p, err := a.plan(c.Context(), spec, seen, plan.Options{})
			if err != nil {
				return err
			}
			if repository != "" {
				names = []string{"repository." + repository}
			}
			p.Findings = append(p.Findings, tried(c.Context(), spec, seen, names)...)
			all := verdicts(spec, seen, p, names)
			err = out.show(a, list(all), func() { a.showVerdicts(spec, all, names) })
			if err == nil && slices.ContainsFunc(all, func(f plan.Finding) bool { return f.Severity == plan.Error }) {
				return exit{code: exitCheck}
			}
			return err
		},
	}
	out.flag(c, "what is in order and what is not")
	c.Flags().StringVar(&repository, "repository", "", "check this repository only")
	return c
}

// verdicts are what check says, in order: what is in order, then warnings, then errors, so that the worst stands last, where
// it is read first.
func verdicts(spec *hclspec.Spec, seen state.Observation, p *plan.Plan, names []string) []plan.Finding {
	all := p.Checked(spec, seen)
	for _, f := range p.Findings {
		worse := func(o plan.Finding) bool {
			return f.Severity == plan.Warning && o.Severity == plan.Error && o.Code == f.Code && o.Subject == f.Subject && o.Text == f.Text
		}
		if !slices.ContainsFunc(all, worse) { // what fails a check is not a warning beside it
			all = append(all, f)
		}
	}
	all = slices.DeleteFunc(all, func(f plan.Finding) bool { return !concerns(f, names) })
	all = append(all, unseen(seen, names, all)...)
	out := make([]plan.Finding, 0, len(all))
	for _, severity := range []plan.Severity{plan.OK, plan.Warning, plan.Error} {
		for _, f := range all {
			if f.Severity == severity {
				out = append(out, f)
			}
		}
	}
	return out
}

// checked makes stored names of what was named.
func checked(spec *hclspec.Spec, names []string, repository string) ([]string, error) {
	out := make([]string, 0, len(names))
	for _, n := range names {
		s, err := server(spec, n)
		if err != nil {
			return nil, err
		}
		out = append(out, s.Name)
	}
	if repository != "" && !slices.ContainsFunc(spec.Repositories, func(r hclspec.Repository) bool { return r.Name == repository }) {
		return nil, exit{exitUsage, &state.Error{Text: fmt.Sprintf("the configuration has no repository %q", repository), Hint: "pgkeep validate"}}
	}
	return out, nil
}

// unseen makes an error of everything that could not be looked at and that the plan does not speak of: what was not
// verified is not reported as good. That a repository is absent is not said, with the hint to create it, where the plan
// knows that it was there and is not mounted.
func unseen(seen state.Observation, names []string, said []plan.Finding) []plan.Finding {
	var out []plan.Finding
	add := func(subject string, u *state.Unknown) {
		f := plan.Finding{Severity: plan.Error, Subject: subject}
		if u == nil || u.Code == state.CodeOtherHost {
			return
		}
		f.Code, f.Text, f.Hint = u.Code, u.Because, u.Hint
		known := slices.ContainsFunc(said, func(s plan.Finding) bool {
			return s.Code == f.Code && s.Text == f.Text || s.Severity == plan.Error && s.Code == state.CodeNotMounted && s.Subject == f.Subject
		})
		if !known && concerns(f, names) {
			out = append(out, f)
		}
	}
	for _, n := range sorted(seen.Servers) {
		add(n, seen.Servers[n].Unknown)
	}
	for _, n := range sorted(seen.Repositories) {
		add("repository."+n, seen.Repositories[n].Unknown)
	}
	for _, n := range sorted(seen.Spools) {
		add(n, seen.Spools[n].Unknown)
	}
	return out
}

// showVerdicts prints a line for each verdict, beneath it what to run next, and at last how many there are.
func (a *app) showVerdicts(spec *hclspec.Spec, all []plan.Finding, names []string) {
	bad, warned := 0, 0
	for _, f := range all {
		label, color := "", ""
		switch f.Severity {
		case plan.OK:
			label, color = "OK", "32"
		case plan.Error:
			label, color = "ERROR ["+string(f.Code)+"]", "31"
			bad++
		case plan.Warning:
			label, color = "WARNING ["+string(f.Code)+"]", "33"
			warned++
		}
		fmt.Fprintf(a.out, "%s %s %s\n", a.paint(a.outTerminal, color, label), f.Subject, oneLine(f.Text))
		if f.Hint != "" {
			fmt.Fprintf(a.out, "  → %s\n", f.Hint)
		}
	}
	what := counted(len(spec.Servers), "server") + " and " + counted(len(spec.Repositories), "repository")
	if len(names) > 0 {
		what = names[0]
		if len(names) > 1 {
			what = counted(len(names), "server")
		}
	}
	verdict := a.paint(a.outTerminal, "32", "in order")
	if bad > 0 {
		verdict = a.paint(a.outTerminal, "31", counted(bad, "error"))
	}
	fmt.Fprintf(a.out, "Checked %s: %s%s.\n", what, verdict, warnings(warned))
}

// oneLine keeps a verdict on its line, and from the terminal what that would obey: names of tables are the users'.
func oneLine(s string) string {
	return strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) && !unicode.IsSpace(r) {
			return -1
		}
		return r
	}, s)), " ")
}

func warnings(n int) string {
	if n == 0 {
		return ""
	}
	return ", " + counted(n, "warning")
}
