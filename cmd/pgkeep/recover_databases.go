package main

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/steps/recovery"
)

// chosenDatabases refuses names that the backup of a planned recovery does not have, and says what is left out.
func (a *app) chosenDatabases(ctx context.Context, spec *hclspec.Spec, p *plan.Plan) error {
	for i := range p.Steps {
		act, ok := p.Steps[i].Action.(plan.RecoverTo)
		if !ok || len(act.Route.Destination.Databases) == 0 {
			continue
		}
		if err := a.sayChosen(ctx, spec, &act.Route); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) sayChosen(ctx context.Context, spec *hclspec.Spec, r *plan.Route) error {
	repo, closeStore, err := openRepository(ctx, spec, r.Repository)
	if err != nil {
		return err
	}
	defer closeStore()
	b, err := repo.Cluster(r.Server, r.SystemID).OpenBackup(ctx, r.Backup)
	if err != nil {
		return err
	}
	left, bytes, err := recovery.Choose(ctx, b, r.Destination.Databases)
	if err != nil {
		return err
	}
	var names []string
	for _, d := range left {
		names = append(names, printable(d.Name))
	}
	fmt.Fprintf(a.err, "Of the %s in the backup %s are left out: %s.\n", plan.Size(r.DataBytes), plan.Size(bytes), orNone(names))
	return nil
}

// sayLeftOut says which databases cannot be used, and how they go.
func (a *app) sayLeftOut(path string) {
	left, err := recovery.LeftOut(path)
	if err != nil || len(left) == 0 { // the restore itself has read it
		return
	}
	fmt.Fprintln(a.out, "Databases that were left out cannot be used; drop them when recovery has ended:")
	for _, d := range left {
		fmt.Fprintln(a.out, "→ "+printable(d.Drop()))
	}
	if recovery.IgnoresInvalidPages(path) {
		fmt.Fprintf(a.out, "Then take ignore_invalid_pages out of %s, and start the server again.\n", filepath.Join(path, "postgresql.auto.conf"))
	}
}
