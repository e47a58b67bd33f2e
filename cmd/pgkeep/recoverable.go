package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/plan/render"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/observe"
)

// recoverableVersion is the number of the JSON form of `recoverable --json`.
const recoverableVersion = 1

// recoverableAsk is what `recoverable` is asked.
type recoverableAsk struct {
	printed
	server, at, timeline string
}

// recoverableJSON is the form of `recoverable --json`; fields are only ever added.
type recoverableJSON struct {
	Version      int                   `json:"version"`
	Now          time.Time             `json:"now"`
	Server       string                `json:"server"`
	Repositories []plan.Recoverability `json:"repositories"`
	At           *recoverableAt        `json:"at,omitempty"`
}

// recoverableAt is the answer to --at.
type recoverableAt struct {
	Time time.Time `json:"time"`
	state.TargetFact
}

func recoverableCommand(a *app) *cobra.Command {
	var ask recoverableAsk
	c := &cobra.Command{
		Use: "recoverable", Short: "Draw to which moments a server can be recovered, and why there are gaps", Args: cobra.NoArgs,
		Long: `Draws the moments to which a server can be recovered, for each of its repositories and each timeline that has moments of its
own: "#" is proved (a full verification has read backup and WAL), "=" is there, "." cannot be recovered. Below each bar every
stretch is named with its evidence, and every gap with its cause.

With --at the archived WAL is searched as for a recovery: the last transaction before that moment and the first after it, or
why it cannot be recovered and the nearest moments that can. Exit code 8: that moment, or anything at all, cannot be recovered.`,
		Example: "  pgkeep recoverable --server orders\n  pgkeep recoverable --server orders --at 2026-02-10T21:16:17Z\n  pgkeep recoverable --server orders --json",
		RunE:    func(c *cobra.Command, _ []string) error { return a.recoverable(c.Context(), ask) },
	}
	f := c.Flags()
	f.StringVar(&ask.server, "server", "", "stored name of the server; not needed where there is one")
	f.StringVar(&ask.at, "at", "", "a moment, with its offset, that is to be proved")
	f.StringVar(&ask.timeline, "timeline", "", "with --at: latest (default) or a number")
	ask.flag(c, "what can be recovered")
	return c
}

func (a *app) recoverable(ctx context.Context, ask recoverableAsk) error {
	spec, err := a.load()
	if err != nil {
		return err
	}
	name, err := ask.whose(spec)
	if err != nil {
		return err
	}
	target, err := ask.target(name)
	if err != nil {
		return err
	}
	looks := observe.Options{Now: a.now(), Env: a.env}
	seen := observe.World(ctx, spec, looks)
	out := recoverableJSON{Version: recoverableVersion, Now: looks.Now.UTC(), Server: name, Repositories: plan.Recoverable(spec, seen, looks.Now, name)}
	if target != nil {
		out.At = &recoverableAt{Time: target.Target.Time.UTC(), TargetFact: observe.TargetOf(ctx, spec, seen, *target, looks)}
	}
	err = ask.show(a, out, func() {
		if err := render.RecoverableText(a.out, out.Repositories, render.TextOptions{Width: a.width, Color: a.color(a.outTerminal)}); err != nil {
			a.say(err)
		}
		if out.At != nil {
			a.drawAt(out.At)
		}
	})
	if err != nil || out.recoverable() {
		return err
	}
	return exit{code: exitCheck}
}

// recoverable tells whether what was asked for can be recovered.
func (r *recoverableJSON) recoverable() bool {
	if r.At != nil {
		return r.At.Unknown == nil && r.At.Reachable
	}
	for _, x := range r.Repositories {
		if len(x.Lines) > 0 {
			return true
		}
	}
	return false
}

func (ask *recoverableAsk) whose(spec *hclspec.Spec) (string, error) {
	if ask.server == "" && len(spec.Servers) == 1 {
		return spec.Servers[0].Name, nil
	}
	if ask.server == "" {
		return "", usage("--server says whose moments are meant")
	}
	s, err := server(spec, ask.server)
	if err != nil {
		return "", err
	}
	return s.Name, nil
}

// target gives the recovery to the moment that is asked for; nil: none is.
func (ask *recoverableAsk) target(name string) (*hclspec.Recovery, error) {
	if ask.at == "" {
		if ask.timeline != "" {
			return nil, usage("--timeline goes with --at")
		}
		return nil, nil //nolint:nilnil // nothing was asked for
	}
	r, err := hclspec.NewRecovery(hclspec.RecoveryText{Server: name, Time: ask.at, Timeline: ask.timeline, Path: "/nowhere"}, time.Local)
	if err != nil {
		return nil, usage("%s", err)
	}
	r.Name = "at"
	return &r, nil
}

func (a *app) drawAt(at *recoverableAt) {
	text, hint := plan.TargetText(hclspec.Target{Time: at.Time, Inclusive: true}, at.TargetFact)
	fmt.Fprintf(a.out, "\n%s\n", text)
	if hint != "" {
		fmt.Fprintf(a.out, "→ %s\n", hint)
	}
}
