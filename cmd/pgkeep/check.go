package main

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
)

func checkCommand(a *app) *cobra.Command {
	var asJSON bool
	var repository string
	c := &cobra.Command{
		Use: "check [SERVER...]", Short: "Is everything in order? Exit code 8 when not", ValidArgsFunction: a.servers(),
		Long: `Looks at connection, privileges, settings, slot, receiver, system identifier, spool, repositories, backups, their ages and
number, and the WAL between them. Lists what is in order, then what is wrong and what to run next. Warnings alone end with
0, errors with 8.`,
		Example: "  pgkeep check\n  pgkeep check orders.eu\n  pgkeep check --repository main",
		RunE: func(c *cobra.Command, names []string) error {
			spec, err := a.load()
			if err != nil {
				return err
			}
			if names, err = checked(spec, names, repository); err != nil {
				return err
			}
			seen := a.look(c.Context(), spec, nil)
			p, err := a.plan(c.Context(), spec, seen, plan.Options{})
			if err != nil {
				return err
			}
			if repository != "" {
				names = []string{"repository." + repository}
			}
			good := slices.DeleteFunc(p.Checked(spec, seen), func(f plan.Finding) bool { return !concerns(f, names) })
			findings := slices.DeleteFunc(slices.Clone(p.Findings), func(f plan.Finding) bool { return !concerns(f, names) })
			findings = append(findings, unseen(seen, names, findings)...)
			if asJSON {
				err = writeJSON(a.out, append(good, findings...))
			} else {
				a.showGood(good)
				a.verdict(spec, findings, names)
			}
			if err == nil && slices.ContainsFunc(findings, func(f plan.Finding) bool { return f.Severity == plan.Error }) {
				return exit{code: exitCheck}
			}
			return err
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print what is in order and what is not as JSON")
	c.Flags().StringVar(&repository, "repository", "", "check this repository only")
	return c
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

// showGood lists what is in order, by subject.
func (a *app) showGood(good []plan.Finding) {
	for _, f := range good {
		fmt.Fprintf(a.out, "%s %s %s\n", a.paint(a.outTerminal, "32", "OK"), f.Subject, f.Text)
	}
}

func (a *app) verdict(spec *hclspec.Spec, findings []plan.Finding, names []string) {
	a.showFindings(findings, nil)
	bad, warned := 0, 0
	for _, f := range findings {
		if f.Severity == plan.Error {
			bad++
		} else {
			warned++
		}
	}
	if len(findings) > 0 {
		fmt.Fprintln(a.out)
	}
	what := counted(len(spec.Servers), "server") + " and " + counted(len(spec.Repositories), "repository")
	if len(names) > 0 {
		what = names[0]
		if len(names) > 1 {
			what = counted(len(names), "server")
		}
	}
	if bad == 0 {
		fmt.Fprintf(a.out, "Checked %s: %s.\n", what, a.paint(a.outTerminal, "32", "in order")+warnings(warned))
		return
	}
	fmt.Fprintf(a.out, "Checked %s: %s%s.\n", what, a.paint(a.outTerminal, "31", counted(bad, "error")), warnings(warned))
}

func warnings(n int) string {
	if n == 0 {
		return ""
	}
	return ", " + counted(n, "warning")
}
