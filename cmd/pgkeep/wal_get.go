package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/pgkeep/pgkeep/steps/recovery"
)

// The exit codes of wal-get. PostgreSQL takes every code up to 125 as "that WAL does not exist" and ends recovery; the
// restore_command that pgkeep writes turns 10 into that, and everything else into a failure that PostgreSQL stops at.
const (
	walServed = 0
	walAbsent = 10
	walFailed = 255
)

const walGetHelp = `wal-get gives PostgreSQL one file of the archive. It is called by the restore_command that pgkeep recover writes:

  pgkeep wal-get --route FILE %f %p

Exit codes: 0 served; 10 not in the archive, as far as every repository could tell; 255 anything else, also a wrong
command line, so that PostgreSQL never takes a failure for the end of the WAL.`

// walGetCommand stands in the list for its help; main calls walGetMain before cobra sees the arguments.
func walGetCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "wal-get --route FILE NAME INTO", Short: "Give PostgreSQL one file of the archive (restore_command)", Long: walGetHelp,
		Hidden: true, DisableFlagParsing: true,
		RunE: func(c *cobra.Command, args []string) error {
			return exit{code: walGet(c.Context(), args, a.err)}
		},
	}
}

// walGetMain is the process that PostgreSQL starts. A second signal ends it at once, by exit.
func walGetMain(args []string, exit func(int)) int {
	ctx, stop := interruptible(context.Background(), func(int) { exit(walFailed) })
	defer stop()
	return walGet(ctx, args, os.Stderr)
}

// walGet ends with 0, 10 or 255, whatever happens.
func walGet(ctx context.Context, args []string, errs io.Writer) (code int) {
	defer func() {
		if p := recover(); p != nil {
			fmt.Fprintf(errs, "pgkeep wal-get: broke off: %v\n", p)
			code = walFailed
		}
	}()
	f := flag.NewFlagSet("wal-get", flag.ContinueOnError)
	f.SetOutput(errs)
	f.Usage = func() { _, _ = io.WriteString(errs, walGetHelp+"\n") }
	var o recovery.WALGetOptions
	f.StringVar(&o.Route, "route", "", "")
	after := f.String("ahead", "", "") // wal-get starts itself with it
	if err := f.Parse(args); err != nil {
		return walFailed
	}
	if *after != "" && f.NArg() == 0 {
		_ = recovery.FetchAhead(ctx, o.Route, *after) // whoever asks for the segment is told why it cannot be had
		return walServed
	}
	if f.NArg() != 2 || o.Route == "" {
		fmt.Fprintln(errs, "pgkeep wal-get: wants --route FILE, the file's name and where to write it")
		return walFailed
	}
	o.Name, o.Into = f.Arg(0), f.Arg(1)
	o.Program, _ = os.Executable() // without it nothing is fetched ahead
	o.Waiting = func(err error) {  // not in the words of the last line, by which a drill knows why a file could not be had
		fmt.Fprintf(errs, "pgkeep wal-get waits for %s: %s\n", o.Name, err)
	}
	code, err := recovery.WALGet(ctx, o)
	if err != nil {
		fmt.Fprintf(errs, "pgkeep wal-get: %s: %s\n", o.Name, err)
	}
	if code != walServed && code != walAbsent || code == walServed && err != nil {
		return walFailed
	}
	return code
}
