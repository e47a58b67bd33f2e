package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/pgkeep/pgkeep/state"
)

// The exit codes of every command but wal-get, which has its own.
const (
	exitOK          = 0
	exitError       = 1
	exitChanges     = 2 // plan --detailed-exitcode: there is something to do
	exitUnformatted = 3 // fmt --check: a file would change
	exitStale       = 4 // the world is not what the plan saw, and no step ran
	exitIncomplete  = 5 // apply left something undone
	exitLocked      = 6 // another pgkeep is at it
	exitNotApproved = 7 // something waits for a name
	exitCheck       = 8 // a check or objective fails
	exitUsage       = 64
	exitInterrupted = 130 // by Ctrl-C, tidily
	exitTerminated  = 143 // by SIGTERM, tidily
)

// exitHelp is the last part of `pgkeep help exit-codes`.
const exitHelp = `  0    done, or nothing to do
  1    an error
  2    plan --detailed-exitcode: there is something to do
  3    fmt --check: a file would change
  4    the world is not what the plan saw; no step ran
  5    apply left something undone; the table, or "Not planned", says what
  6    another pgkeep is at it
  7    something waits for a name (--auto-approve, --yes)
  8    a check or an objective fails, or the plan has a step that --fail-on forbids: then nothing was done
  64   the command line is wrong
  130  interrupted tidily by Ctrl-C; 143 by SIGTERM`

// exit is an error with the code that the process ends with. Without err everything was said already.
type exit struct {
	code int
	err  error
}

// Error gives the cause.
func (e exit) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

// Unwrap gives the cause.
func (e exit) Unwrap() error { return e.err }

// usage is a mistake on the command line.
func usage(format string, args ...any) error {
	return exit{exitUsage, &state.Error{Text: fmt.Sprintf(format, args...), Hint: "see pgkeep COMMAND --help"}}
}

// interrupted is the cause of a context that a signal ended.
type interrupted struct{ signal os.Signal }

// Error names the signal.
func (i interrupted) Error() string { return "interrupted (" + i.signal.String() + ")" }

func codeOfSignal(s os.Signal) int {
	if s == syscall.SIGTERM {
		return exitTerminated
	}
	return exitInterrupted
}

// codeOf gives the exit code of a command that returned err.
func codeOf(ctx context.Context, err error) int {
	if err == nil {
		return exitOK
	}
	var i interrupted
	if errors.As(context.Cause(ctx), &i) {
		return codeOfSignal(i.signal)
	}
	var e exit
	if errors.As(err, &e) {
		return e.code
	}
	switch state.CodeOf(err) {
	case state.CodeLocked:
		return exitLocked
	case state.CodeStale:
		return exitStale
	}
	return exitError
}
