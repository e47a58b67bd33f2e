// Command pgkeep keeps PostgreSQL recoverable: it reads what must be true, looks at what is true, plans the difference,
// shows it with reasons, and applies it.
//
// This package has one file for each command, listed in root.go; the exit codes are in exit.go. It decides nothing: it
// reads flags, asks hclspec, observe, plan and steps, and draws what they answer.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"syscall"
	"time"
	_ "time/tzdata" // schedules name time zones, and a bare machine may have none

	"golang.org/x/term"

	"github.com/pgkeep/pgkeep/state/repository/store/open"
)

// version is set by the linker; what is built without it is still a version, which required_version can be compared with.
var version = "0.1.0-dev"

// memoryLimit is where Go's collector begins to prefer time to memory, in bytes: no command is to take more than 192 MiB, and what
// lives is a good half of that at most. GOMEMLIMIT in the environment outranks it.
const memoryLimit = 144 << 20

func main() {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
	if len(os.Args) > 1 && os.Args[1] == "wal-get" {
		os.Exit(walGetMain(os.Args[2:], os.Exit)) // PostgreSQL reads its exit code: nothing else may come between
	}
	ctx, stop := interruptible(context.Background(), os.Exit)
	code := run(ctx, newApp(), os.Args[1:])
	stop()
	if code != walServed && code != walAbsent && slices.Contains(os.Args, "wal-get") {
		code = walFailed // a flag before the command that nobody knows
	}
	os.Exit(code)
}

// newApp gives the process's own surroundings.
func newApp() *app {
	a := &app{
		stores: &open.Stores{},
		in:     os.Stdin, out: os.Stdout, err: os.Stderr, env: environment(os.Environ()), now: time.Now, version: version,
		inTerminal: term.IsTerminal(int(os.Stdin.Fd())), outTerminal: term.IsTerminal(int(os.Stdout.Fd())),
		errTerminal: term.IsTerminal(int(os.Stderr.Fd())), width: 100,
	}
	if w, _, err := term.GetSize(int(os.Stdout.Fd())); err == nil && w > 0 {
		a.width = w
	}
	return a
}

// interruptible gives a context that ends at the first Ctrl-C or SIGTERM, tidily: nothing further begins, and what runs
// is told to stop. The second one ends the process at once.
func interruptible(ctx context.Context, exit func(int)) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		s, ok := <-signals
		if !ok {
			return
		}
		cancel(interrupted{s})
		if s, ok = <-signals; ok {
			exit(codeOfSignal(s))
		}
	}()
	return ctx, func() { signal.Stop(signals); close(signals); cancel(nil) }
}
