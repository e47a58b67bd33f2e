package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/observe"
)

// gapPatience bounds how long apply waits until the repositories know of a gap that a receiver met.
const gapPatience = 10 * time.Second

// again looks once more after a plan that made slots anew: whether the server still has all WAL after ours is known only
// once the receiver has asked for it. Where it has not, a backup is what is left to do, and it is done now. One such
// round is all: what it leaves, the next apply finds.
func (a *app) again(ctx context.Context, spec *hclspec.Spec, o order, before error) error {
	var left exit
	servers := slotsAnew(o.plan)
	if len(servers) == 0 || ctx.Err() != nil || before != nil && !(errors.As(before, &left) && left.code == exitIncomplete) {
		return before
	}
	a.awaitGaps(ctx, spec, servers)
	p, err := a.plan(ctx, spec, a.look(ctx, spec, nil), o.plan.Options)
	if err != nil {
		return errors.Join(before, err)
	}
	bridges := func(s plan.Step) bool {
		b, ok := s.Action.(plan.TakeBackup)
		return ok && slices.Contains(servers, b.Server)
	}
	if !slices.ContainsFunc(p.Steps, bridges) {
		return before
	}
	a.sayBetween("A slot was made anew, and the server no longer had all WAL: this is left to do.")
	o.plan = p
	if err := a.carryOut(ctx, spec, o); err != nil {
		return err
	}
	return a.sayLeft(ctx, spec, p.Options)
}

// sayLeft says what a plan holds after the second round: the backup that it took may let others go, which nobody was shown.
func (a *app) sayLeft(ctx context.Context, spec *hclspec.Spec, opt plan.Options) error {
	p, err := a.plan(ctx, spec, a.look(ctx, spec, nil), opt)
	if err != nil || len(p.Steps) == 0 {
		return err
	}
	names := make([]string, 0, len(p.Steps))
	for i := range p.Steps {
		names = append(names, plan.Verb(p.Steps[i].Action)+" "+p.Steps[i].ID)
	}
	a.sayBetween("This is left for the next apply: " + strings.Join(names, ", ") + ".")
	return nil
}

// sayBetween tells a sentence between two plans, as text or for programs.
func (a *app) sayBetween(text string) {
	if a.lines != nil {
		a.lines.say(text)
		return
	}
	fmt.Fprint(a.out, "\n"+text+"\n\n")
}

// slotsAnew gives the servers that get a slot and no backup in a plan: they were protected before.
func slotsAnew(p *plan.Plan) []string {
	var out []string
	for _, s := range p.Steps {
		switch act := s.Action.(type) {
		case plan.CreateSlot:
			out = append(out, act.Server)
		case plan.ReplaceSlot:
			out = append(out, act.Server)
		case plan.TakeBackup:
			out = slices.DeleteFunc(out, func(name string) bool { return name == act.Server })
		}
	}
	return out
}

// awaitGaps waits while a receiver tells of a gap that is not yet in the repositories.
func (a *app) awaitGaps(ctx context.Context, spec *hclspec.Spec, servers []string) {
	ctx, done := context.WithTimeout(ctx, gapPatience)
	defer done()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		seen := observe.World(ctx, spec, observe.Options{Now: a.now(), Env: a.env, Stores: a.stores, Only: func(k observe.Kind) bool { return k == observe.Spools }})
		told := func(name string) bool {
			p := seen.Receivers[name].Problem
			return p != nil && p.Code == state.CodeGap
		}
		if !slices.ContainsFunc(servers, told) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
