package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/store/open"
)

// app is what commands get of the process: files, environment, clock and the flags that all share.
type app struct {
	in                                   io.Reader
	out, err                             io.Writer
	inTerminal, outTerminal, errTerminal bool
	width                                int
	env                                  map[string]string
	now                                  func() time.Time
	version                              string

	dir      string
	vars     []string
	varFiles []string
	noColor  bool
	logLevel string
	lines    *lines       // of apply --json; nil: what happens is drawn
	stores   *open.Stores // all that this process opens shares max_rate; nil: nothing is shared

	sources  map[string]*hcl.File // of the configuration, to quote it; nil: none was loaded
	hindered map[string]bool      // what keeps blocks from being planned and was told already
}

// group is some commands under one heading of the help.
type group struct {
	id, title string
	commands  []*cobra.Command
}

// commands is every command.
func commands(a *app) []group {
	return []group{
		{"write", "Say what must be true:", []*cobra.Command{initCommand(a), validateCommand(a), fmtCommand(a), consoleCommand(a), schemaCommand(a)}},
		{"do", "Make it so:", []*cobra.Command{planCommand(a), applyCommand(a), agentCommand(a), receiverCommand(a), backupCommand(a), repairCommand(a), keyCommand(a)}},
		{"look", "Look:", []*cobra.Command{statusCommand(a), checkCommand(a), backupsCommand(a), verifyCommand(a), walCommand(a), showCommand(a), diffCommand(a), graphCommand(a), journalCommand(a), observeCommand(a)}},
		{"restore", "Get it back:", []*cobra.Command{recoverableCommand(a), recoverCommand(a), drillCommand(a), walGetCommand(a)}},
		{"rest", "Others:", []*cobra.Command{demoCommand(a), diagnoseCommand(a), versionCommand(a)}},
	}
}

const rootHelp = `pgkeep keeps PostgreSQL recoverable.

You write down in *.hcl files which servers there are, where their WAL and backups go, and how long they are kept.
pgkeep looks at the servers and repositories, plans what is missing, shows it with reasons, and applies it.`

const rootExample = `  pgkeep validate                     is the configuration right?
  pgkeep plan                         what would be done, and why
  pgkeep apply                        do it, after asking
  pgkeep status                       what can be restored, and what would be lost now
  pgkeep check                        is everything in order? exit code 8 when not
  pgkeep recover before_drop          restore what recovery "before_drop" says`

func rootCommand(a *app) *cobra.Command {
	root := &cobra.Command{
		Use: "pgkeep", Short: "Keeps PostgreSQL recoverable", Long: rootHelp, Example: rootExample,
		SilenceErrors: true, SilenceUsage: true,
	}
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	f := root.PersistentFlags()
	f.StringVarP(&a.dir, "dir", "C", ".", "directory of the configuration")
	f.StringArrayVar(&a.vars, "var", nil, "value of a variable, NAME=VALUE; can be repeated")
	f.StringArrayVar(&a.varFiles, "var-file", nil, "file of values, NAME = VALUE a line; can be repeated")
	f.BoolVar(&a.noColor, "no-color", false, "no colours on a terminal (as NO_COLOR)")
	f.StringVar(&a.logLevel, "log-level", "info", "debug, info, warn or error")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage("%s", err) })
	root.SetGlobalNormalizationFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		return pflag.NormalizedName(strings.Replace(name, "target-", "to-", 1)) // PostgreSQL says recovery_target_time
	})
	for _, g := range commands(a) {
		root.AddGroup(&cobra.Group{ID: g.id, Title: g.title})
		for _, c := range g.commands {
			c.GroupID = g.id
			root.AddCommand(c)
		}
	}
	root.SetHelpCommandGroupID("rest")
	root.SetCompletionCommandGroupID("rest")
	root.AddCommand(exitCodesTopic())
	root.InitDefaultCompletionCmd()
	onlyGroups(root)
	return root
}

// onlyGroups has each command that does nothing by itself show its help, or refuse a subcommand that it does not have: one
// that is mistyped in a script must not end with 0.
func onlyGroups(c *cobra.Command) {
	for _, sub := range c.Commands() {
		onlyGroups(sub)
	}
	if !c.HasSubCommands() || c.Runnable() {
		return
	}
	c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	c.Args = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		text := fmt.Sprintf("unknown command %q for %q.", args[0], c.CommandPath())
		c.SuggestionsMinimumDistance = 2
		if near := c.SuggestionsFor(args[0]); len(near) > 0 {
			text += " Did you mean " + strings.Join(near, " or ") + "?"
		}
		return usage("%s", text)
	}
}

// exitCodesTopic is shown by `pgkeep help exit-codes`.
func exitCodesTopic() *cobra.Command {
	return &cobra.Command{Use: "exit-codes", Short: "What the exit codes mean", Long: "Every command but wal-get ends with one of these:\n\n" + exitHelp}
}

// run is the whole program but for the process's exit.
func run(ctx context.Context, a *app, args []string) int {
	root := rootCommand(a) //nolint:contextcheck // cobra gives the context of ExecuteContext to the command that runs
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err != nil && isUsage(err) {
		err = usage("%s", err)
	}
	a.say(err)
	code := codeOf(ctx, err)
	if a.lines != nil {
		a.lines.exit(code)
	}
	return code
}

// isUsage tells the errors that cobra itself makes; everything else that this program returns is wrapped.
func isUsage(err error) bool {
	text := err.Error()
	for _, begin := range []string{"unknown command", "unknown flag", "unknown shorthand", "accepts ", "requires ", "required flag", "invalid argument", "if any flags", "none of the others", "at least one of the flags"} {
		if strings.HasPrefix(text, begin) {
			return !errors.As(err, new(exit))
		}
	}
	return false
}

// say prints an error, its code, and, last, what to do next.
func (a *app) say(err error) {
	var e exit
	if err == nil || errors.As(err, &e) && e.err == nil {
		return
	}
	if a.lines != nil {
		a.lines.fail(err)
		return
	}
	code := ""
	if c := state.CodeOf(err); c != "" {
		code = " [" + string(c) + "]"
	}
	fmt.Fprintf(a.err, "%s %s\n", a.paint(a.errTerminal, "1;31", "Error"+code+":"), err)
	if hint := state.HintOf(err); hint != "" {
		fmt.Fprintf(a.err, "→ %s\n", hint)
	}
}

func (a *app) paint(terminal bool, code, s string) string {
	if !a.color(terminal) {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

// color says whether colours are drawn: only on a terminal, and not when NO_COLOR is set.
func (a *app) color(terminal bool) bool {
	return terminal && !a.noColor && a.env["NO_COLOR"] == "" && a.env["TERM"] != "dumb"
}

func environment(pairs []string) map[string]string {
	out := map[string]string{}
	for _, p := range pairs {
		k, v, _ := strings.Cut(p, "=")
		out[k] = v
	}
	return out
}
