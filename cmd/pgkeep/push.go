package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/steps"
)

// pushPatience bounds how long a recovery waits for the server's last WAL to reach the repositories.
const pushPatience = 10 * time.Second

// pushFirst brings WAL of a recovery's server that is only on this machine, or still on its way, into the repositories,
// so that what follows sees it there. Where that fails it says so and the recovery is planned with what is archived.
func (a *app) pushFirst(ctx context.Context, spec *hclspec.Spec, r hclspec.Recovery) {
	known := func(s hclspec.Server) bool { return s.Name == r.Server }
	if r.Target.Immediate || !slices.ContainsFunc(spec.Servers, known) {
		return
	}
	bind, err := a.bindOptions()
	if err != nil {
		return // told again by what needs it
	}
	ctx, done := context.WithTimeout(ctx, pushPatience)
	defer done()
	p, err := steps.PushWAL(ctx, spec, r.Server, bind)
	switch {
	case state.CodeOf(err) == state.CodeOtherHost:
	case err != nil:
		fmt.Fprintf(a.err, "The last WAL of %s could not be archived: %s\n", r.Server, err)
		if hint := state.HintOf(err); hint != "" {
			fmt.Fprintf(a.err, "→ %s\n", hint)
		}
	case p.Server:
		fmt.Fprintf(a.out, "WAL of %s is archived up to %s, all that the server has.\n\n", r.Server, p.Held)
	case p.Beyond != 0:
		fmt.Fprintf(a.err, "WAL of %s is archived up to %s; the server has more, up to %s, and no receiver runs here to bring it.\n→ pgkeep apply starts it\n\n", r.Server, p.Held, p.Beyond)
	case p.Held != 0:
		fmt.Fprintf(a.out, "WAL of %s is archived up to %s, all that its spool has.\n\n", r.Server, p.Held)
	}
}
