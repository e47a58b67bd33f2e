package main

import (
	"context"
	"fmt"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/observe"
)

// awaitUsable looks at the repositories until the newest committed backup of each server can be restored, which is when
// the WAL that it needs is archived. When that takes longer than patience it ends with 8.
func (a *app) awaitUsable(ctx context.Context, spec *hclspec.Spec, servers []string, patience time.Duration) error {
	a.tellf("Waiting until the WAL of the backup is archived, at most %s.", plan.Span(patience))
	ctx, done := context.WithTimeoutCause(ctx, patience, errPatience)
	defer done()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	waiting := "no repository answered"
	for {
		seen := observe.World(ctx, spec, observe.Options{Now: a.now(), Env: a.env, Stores: a.stores, Only: func(k observe.Kind) bool { return k == observe.Repositories }})
		if ctx.Err() == nil { // a look that was cut short tells nothing
			waiting = stillWaiting(seen, servers)
		}
		if waiting == "" {
			a.tellf("The backup can be restored.")
			return nil
		}
		select {
		case <-ctx.Done():
			return exit{exitCheck, &state.Error{Code: state.CodeGap, Text: waiting, Hint: "pgkeep status; pgkeep receiver status", Err: context.Cause(ctx)}}
		case <-tick.C:
		}
	}
}

// errPatience is the cause of a wait that took too long.
var errPatience = fmt.Errorf("the time given by --wait is over")

// stillWaiting names a backup that cannot be restored yet; empty: there is none.
func stillWaiting(seen state.Observation, servers []string) string {
	for _, label := range sorted(seen.Repositories) {
		if u := seen.Repositories[label].Unknown; u != nil && u.Code != state.CodeOtherHost {
			return "repository " + label + " does not answer: " + u.Because
		}
		for _, name := range servers {
			for _, c := range seen.Repositories[label].Clusters[name] {
				var newest state.Backup
				for _, b := range c.Backups {
					if b.State == state.BackupCommitted && !b.Began.Before(newest.Began) {
						newest = b
					}
				}
				if newest.ID != "" && c.Usability(newest) != state.Usable {
					return fmt.Sprintf("backup %s of %s in repository %s cannot be restored yet: it is %s", newest.ID, name, label, c.Usability(newest))
				}
			}
		}
	}
	return ""
}
