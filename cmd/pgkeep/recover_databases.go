package main

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
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

// sayChosen looks into the route's repository, and where the backup is damaged there into the server's others.
func (a *app) sayChosen(ctx context.Context, spec *hclspec.Spec, r *plan.Route) error {
	labels := []string{r.Repository}
	for _, s := range spec.Servers {
		if s.Name == r.Server {
			labels = append(labels, s.Repositories...)
		}
	}
	left, bytes, err := leftOutOf(ctx, spec, labels[0], r)
	for _, label := range labels[1:] {
		if state.CodeOf(err) != state.CodeCorrupt {
			break
		}
		if l, n, otherErr := leftOutOf(ctx, spec, label, r); otherErr == nil {
			left, bytes, err = l, n, nil
		}
	}
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

// leftOutOf gives the databases of the route's backup, as a repository has it, that the route leaves out, and how many bytes of files they have.
func leftOutOf(ctx context.Context, spec *hclspec.Spec, label string, r *plan.Route) ([]recovery.Database, int64, error) {
	repo, closeStore, err := openRepository(ctx, spec, label)
	if err != nil {
		return nil, 0, err
	}
	defer closeStore()
	b, err := repo.Cluster(r.Server, r.SystemID).OpenBackup(ctx, r.Backup)
	if err != nil {
		return nil, 0, err
	}
	return recovery.Choose(ctx, b, r.Destination.Databases)
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
