package steps

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/observe"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/state/spool"
	"github.com/pgkeep/pgkeep/steps/recovery"
)

type realRecoveries struct{ real }

func (r realRecoveries) Restored(_ context.Context, _ string, route plan.Route) (bool, error) {
	return recovery.Restored(route)
}

func (r realRecoveries) Restore(ctx context.Context, a plan.RecoverTo, report func(done, total int64)) (string, error) {
	var d detours
	err := r.fromAny(ctx, a, &d, func(from opened) error {
		evidence, err := recovery.Restore(ctx, recovery.Options{
			Route:   a.Route,
			Backup:  from.backup,
			Holder:  from.cluster,
			Places:  r.places(a.Route),
			Spool:   r.spoolHere(a.Route),
			Program: r.o.Program,
			Now:     r.o.Now,
			Report:  report,
		})
		if err != nil {
			return err
		}
		evidence.Recovery = a.Recovery
		if text := d.Text(); text != "" {
			evidence.Notes = append(evidence.Notes, text)
		}
		if err := from.cluster.PutEvidence(ctx, evidence.Ended, evidence); err != nil && !onlyReads(err) {
			return fmt.Errorf("keep the evidence of the recovery: %w", err)
		}
		return nil
	})
	return d.Text(), err
}

// Destination looks for programs of the version that the backup's cluster has.
func (r realRecoveries) Destination(ctx context.Context, route plan.Route) (state.Destination, error) {
	return observe.Destination(ctx, route.Destination, 0)
}

// Started reads what the last start left beside the data directory.
func (r realRecoveries) Started(_ context.Context, route plan.Route) (bool, string, error) {
	reached, err := recovery.Started(route)
	if err != nil || reached == nil || reached.Unmet() != "" {
		return false, "", err
	}
	return true, reached.Text(), nil
}

func (r realRecoveries) Ours(_ context.Context, route plan.Route) (bool, error) {
	return recovery.Ours(route)
}

func (r realRecoveries) Startable(ctx context.Context, route plan.Route, major int) error {
	_, err := recovery.Startable(ctx, route.Destination, major)
	return err
}

// Start starts the server, and keeps the evidence of a target that was reached.
func (r realRecoveries) Start(ctx context.Context, name string, a plan.RecoverTo, report func(done, total int64, r Replay)) error {
	roles := r.roles(a.Route.Server)
	if owner := a.Route.Destination.Owner; owner != "" && !slices.Contains(roles, owner) {
		roles = append(roles, owner)
	}
	reached, evidence, err := recovery.Start(ctx, recovery.StartOptions{
		Route: a.Route, Major: a.Major, Now: r.o.Now, Roles: roles, Checks: a.Checks,
		Report: func(p recovery.Replay) { report(p.Done, p.Total, Replay{p.LSN, p.Commit, p.Rate, p.Left}) },
	})
	if err != nil {
		return err
	}
	repo, err := r.openPlanned(ctx, a.Route.Repository, a)
	if err != nil {
		return err
	}
	evidence.Recovery = name
	if err := repo.Cluster(a.Route.Server, a.Route.SystemID).PutEvidence(ctx, evidence.Ended, evidence); err != nil && !onlyReads(err) {
		return fmt.Errorf("keep the evidence of the recovery: %w", err)
	}
	return wrongAnswers(a.Route, reached)
}

// wrongAnswers is the error of a recovery that reached its target, and did not bring back what it should.
func wrongAnswers(route plan.Route, reached recovery.Reached) error {
	why := reached.Unmet()
	if why == "" {
		return nil
	}
	socket, port := recovery.Address(route.Destination.Path)
	return &state.Error{
		Code: state.CodeCheck,
		Text: fmt.Sprintf("the server in %s is at its target, and does not answer as it must: %s", route.Destination.Path, why),
		Hint: fmt.Sprintf("it runs; look at it: psql -h %s -p %d; the same command asks again", socket, port),
	}
}

// onlyReads tells whether nothing was written because this machine has no signing key: who may only read an encrypted repository restores from it
// all the same, and leaves no evidence.
func onlyReads(err error) bool { return errors.Is(err, repository.ErrNoSigningKey) }

type realSpools struct{ real }

func (r realSpools) Look(_ context.Context, server string) (state.Spool, error) {
	dir, err := r.spoolOf(server)
	if err != nil || dir == "" {
		return state.Spool{}, err
	}
	facts, err := spool.Look(dir, server)
	return facts.Spool, err
}

// spoolHere gives the directory of the cluster's WAL in the server's spool, when that is on this machine; WAL that no
// repository has yet is read from there.
func (r realRecoveries) spoolHere(route plan.Route) string {
	dir, err := r.spoolOf(route.Server)
	if err != nil {
		return ""
	}
	return filepath.Join(dir, route.Server, route.SystemID)
}

// places gives the route's repository first, then the server's others that are on this machine.
func (r realRecoveries) places(route plan.Route) []recovery.Place {
	var out []recovery.Place
	for _, label := range r.near(route) {
		if x, err := r.repository(label); err == nil {
			out = append(out, recovery.Place{Label: x.Name, Path: x.Path, URL: x.URL, Encryption: x.Encryption.ReadOnly()})
		}
	}
	return out
}
