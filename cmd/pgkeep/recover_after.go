package main

import (
	"fmt"
	"path/filepath"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/steps/recovery"
)

// afterRestore says how to start what was restored.
func (a *app) afterRestore(r hclspec.Recovery) {
	d := r.Destination
	if d.PrimaryConninfo != "" {
		fmt.Fprintf(a.out, "\nRestored into %s. Start it%s, and it follows %s:\n→ %s start\n", d.Path, asOwner(d), d.PrimaryConninfo, control(d))
		return
	}
	fmt.Fprintf(a.out, "\nRestored into %s. Start it%s, and it recovers to the target:\n→ %s start\n", d.Path, asOwner(d), control(d))
	a.sayLeftOut(d.Path)
}

func asOwner(d hclspec.Destination) string {
	if d.Owner == "" {
		return ""
	}
	return " as " + d.Owner
}

// control gives the beginning of a pg_ctl command.
func control(d hclspec.Destination) string {
	return filepath.Join(d.BinDir, "pg_ctl") + " -D " + d.Path
}

// afterStart says where the server that was started stands, and how to go on with it.
func (a *app) afterStart(p *plan.Plan) error {
	for i := range p.Steps {
		if act, ok := p.Steps[i].Action.(plan.RecoverTo); ok {
			reached, err := recovery.Started(act.Route)
			if err != nil || reached == nil {
				return err
			}
			a.sayReached(act.Route, reached)
		}
	}
	return nil
}

func (a *app) sayReached(route plan.Route, reached *recovery.Reached) {
	d := route.Destination
	fmt.Fprintf(a.out, "\nRecovered into %s: %s.\n", d.Path, reached.Text())
	if reached.Stopped != "" {
		fmt.Fprintf(a.out, "PostgreSQL says: %s\n", reached.Stopped)
	}
	fmt.Fprintf(a.out, "Its log: %s\n", recovery.LogFile(d.Path))
	socket, port := recovery.Address(d.Path)
	if port == 0 {
		if reached.Outcome == recovery.AtShutdown {
			fmt.Fprintf(a.out, "It shuts down at the target each time it is started. To open it, let it be promoted there:\n"+
				"→ echo \"recovery_target_action = 'promote'\" >> %s\n", filepath.Join(d.Path, "postgresql.auto.conf"))
		}
		fmt.Fprintf(a.out, "→ %s start%s\n", control(d), commented("start it"+asOwner(d)))
		return
	}
	fmt.Fprintf(a.out, "→ psql -h %s -p %d -U postgres postgres%s\n", socket, port, commented("look at it"))
	if reached.Outcome == recovery.AtPause {
		fmt.Fprintf(a.out, "→ select pg_wal_replay_resume();%s\n", commented("there: end recovery, so that it can be written to"))
	}
	fmt.Fprintf(a.out, "→ %s stop%s\n", control(d), commented("stop it"+asOwner(d)))
	a.sayLeftOut(d.Path)
}

func commented(text string) string { return "    # " + text }
