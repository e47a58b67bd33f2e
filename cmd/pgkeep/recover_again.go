package main

import (
	"fmt"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/steps/recovery"
)

// goOn lets a recovery whose server is on its way to the target go on as it was planned when it was restored. A plan of
// now may end at a later moment, or begin with a newer backup, and would be another recovery in the same directory.
func goOn(p *plan.Plan) error {
	for i := range p.Steps {
		s := &p.Steps[i]
		act, ok := s.Action.(plan.RecoverTo)
		if !ok || !act.Start {
			continue
		}
		old, err := recovery.Unfinished(act.Route)
		if err != nil || old == nil {
			return err
		}
		act.Route = *old
		s.Action = act
		s.Effect = fmt.Sprintf("backup %s is restored in %s already; its server goes on to %s, where the WAL of that recovery ends", old.Backup, old.Destination.Path, old.End)
		s.Because = append(s.Because, plan.Reason{Code: "goes-on", Text: "it was begun and has not reached its target yet"})
	}
	return nil
}
