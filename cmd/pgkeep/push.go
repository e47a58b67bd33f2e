package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/steps"
)

// pushPatience bounds how long a recovery waits for the server's last WAL to reach the repositories.
const pushPatience = 10 * time.Second

// pushFirst brings WAL of a recovery's server that is only on this machine, or still on its way, into the repositories,
// so that what follows sees it there. Where that fails it says so and the recovery is planned with what is archived; but
// the latest moment is refused then, unless the loss of what comes after was accepted.
func (a *app) pushFirst(ctx context.Context, spec *hclspec.Spec, r hclspec.Recovery, acceptLoss bool) error {
	known := func(s hclspec.Server) bool { return s.Name == r.Server }
	if r.Target.Immediate || !slices.ContainsFunc(spec.Servers, known) {
		return nil
	}
	bind, err := a.bindOptions()
	if err != nil {
		return nil // told again by what needs it
	}
	ctx, done := context.WithTimeout(ctx, pushPatience)
	defer done()
	p, err := steps.PushWAL(ctx, spec, r.Server, bind)
	if state.CodeOf(err) == state.CodeOtherHost {
		return nil // the plan decides what that means
	}
	if short := fellShort(r.Server, p, err); short != nil {
		if r.Target.Latest && !acceptLoss {
			short.Text = "nothing was restored: " + short.Text
			short.Hint = strings.TrimPrefix(short.Hint+"; or accept the loss of what comes after with --accept-loss", "; or ")
			return exit{exitIncomplete, short}
		}
		fmt.Fprintln(a.err, short.Text)
		if short.Hint != "" {
			fmt.Fprintf(a.err, "→ %s\n", short.Hint)
		}
		fmt.Fprintln(a.err)
		return nil
	}
	switch {
	case p.Server:
		fmt.Fprintf(a.out, "WAL of %s is archived up to %s, all that the server has.\n\n", r.Server, p.Held)
	case p.Held != 0:
		fmt.Fprintf(a.out, "WAL of %s is archived up to %s, all that its spool has.\n\n", r.Server, p.Held)
	}
	return nil
}

// fellShort says what is known to be missing from the repositories after a push, and what they confirmed last; nil: nothing.
func fellShort(server string, p steps.Pushed, err error) *state.Error {
	held := "none of it is confirmed to be archived"
	if p.Held != 0 {
		held = "it is confirmed up to " + p.Held.String()
	}
	switch {
	case err != nil:
		return &state.Error{
			Code: state.CodeTarget, Hint: state.HintOf(err), Err: err,
			Text: fmt.Sprintf("the last WAL of %s could not be archived, %s: %s", server, held, err),
		}
	case p.Beyond != 0:
		return &state.Error{
			Code: state.CodeTarget, Hint: "pgkeep apply starts it",
			Text: fmt.Sprintf("of the WAL of %s, %s; the server has more, up to %s, and no receiver runs here to bring it", server, held, p.Beyond),
		}
	}
	return nil
}
