package steps

import (
	"context"
	"fmt"
	"time"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/host"
	"github.com/pgkeep/pgkeep/state/observe"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/state/wal"
	"github.com/pgkeep/pgkeep/steps/recovery"
)

type realDrills struct{ real }

func (r realDrills) cluster(ctx context.Context, label, server, systemID string) (*repository.Cluster, string, error) {
	repo, err := r.openRepository(ctx, label)
	if err != nil {
		return nil, "", fmt.Errorf("open repository %q: %w", label, err)
	}
	return repo.Cluster(server, systemID), repo.ID(), nil
}

func (r realDrills) Drilled(ctx context.Context, a plan.Drill) (*state.Drill, error) {
	c, id, err := r.cluster(ctx, a.Route.Repository, a.Route.Server, a.Route.SystemID)
	if err != nil {
		return nil, err
	}
	if a.RepositoryID != "" && a.RepositoryID != id {
		return nil, &state.Error{
			Code: state.CodeStale, Text: fmt.Sprintf("repository %q is another one now: its id is %s, and was %s", a.Route.Repository, id, a.RepositoryID), Hint: "look again: pgkeep plan",
		}
	}
	return newestOf(ctx, c, a.Drill, func(state.Drill) bool { return true })
}

func (r realDrills) Evidence(ctx context.Context, label string) ([]state.Drill, error) {
	repo, err := r.openRepository(ctx, label)
	if err != nil {
		return nil, err
	}
	keys, err := repo.Clusters(ctx)
	if err != nil {
		return nil, fmt.Errorf("repository %q: %w", label, err)
	}
	var out []state.Drill
	for _, k := range keys {
		found, err := repo.Cluster(k.Name, k.SystemID).Drills(ctx)
		if err != nil {
			return nil, fmt.Errorf("repository %q: %w", label, err)
		}
		out = append(out, found...)
	}
	return out, nil
}

// newestOf gives the newest drill of a name that is as it is wanted; nil: there is none.
func newestOf(ctx context.Context, c *repository.Cluster, name string, wanted func(state.Drill) bool) (*state.Drill, error) {
	all, err := c.Drills(ctx)
	if err != nil {
		return nil, err
	}
	for i := range all {
		if all[i].Drill == name && wanted(all[i]) {
			return &all[i], nil
		}
	}
	return nil, nil //nolint:nilnil // there is none
}

func (r realDrills) Room(_ context.Context, a plan.Drill) error {
	at := a.Route.Destination.Path
	space, err := host.SpaceAt(at)
	if err != nil {
		return err
	}
	if need := plan.DrillSpace(a.Route); space.Free < need {
		return &state.Error{
			Code: state.CodeDiskFull, Text: fmt.Sprintf("%s has %s free now, and the copy takes %s", at, plan.Size(space.Free), plan.Size(need)),
			Hint: "name a larger scratch directory, or make room there",
		}
	}
	return nil
}

func (r realDrills) Keep(ctx context.Context, d state.Drill) error {
	c, _, err := r.cluster(ctx, d.Repository, d.Server, d.SystemID)
	if err != nil {
		return err
	}
	return c.PutDrill(ctx, d)
}

func (r realDrills) Open(_ context.Context, a plan.Drill) (DrillPlace, error) {
	d := a.Route.Destination
	s, err := recovery.OpenScratch(d.Path, d.Owner, "drill "+a.Drill+" of "+a.Route.Server, r.o.Now())
	if err != nil {
		return nil, err
	}
	return realDrillPlace{Scratch: s, r: r, a: a}, nil
}

type realDrillPlace struct {
	*recovery.Scratch
	r realDrills
	a plan.Drill
}

func (p realDrillPlace) Left(context.Context) ([]LeftDrill, error) {
	left, err := p.Scratch.Left()
	out := make([]LeftDrill, len(left))
	for i, l := range left {
		out[i] = LeftDrill(l)
	}
	return out, err
}

func (p realDrillPlace) Remove(_ context.Context, id string) error { return p.Scratch.Remove(id) }
func (p realDrillPlace) Forget(_ context.Context, id string) error { return p.Scratch.Forget(id) }

func (p realDrillPlace) Begin(ctx context.Context) (Drilling, error) {
	route, name := p.a.Route, p.a.Drill
	very := plan.RecoverTo{Route: route, RepositoryIDs: map[string]string{route.Repository: p.a.RepositoryID}}
	repo, err := realRecoveries{p.r.real}.openPlanned(ctx, route.Repository, very)
	if err != nil {
		return nil, err
	}
	cluster := repo.Cluster(route.Server, route.SystemID)
	backup, broken := cluster.OpenBackup(ctx, route.Backup) // no other repository helps out: this one is drilled
	if broken != nil && state.CodeOf(broken) != state.CodeCorrupt {
		return nil, fmt.Errorf("open backup %s in repository %q: %w", route.Backup, route.Repository, broken)
	}
	before, err := newestOf(ctx, cluster, name, func(d state.Drill) bool { return len(d.Rows) > 0 && d.Target != "random" })
	if err != nil {
		return nil, err
	}
	x, err := p.r.repository(route.Repository)
	if err != nil {
		return nil, err
	}
	limit, err := time.ParseDuration(p.a.Timeout)
	if err != nil {
		return nil, fmt.Errorf("read the timeout of the drill: %w", err)
	}
	o := recovery.DrillOptions{
		Name: name, Route: route, Major: p.a.Major, Broken: broken, Holder: drillHold{cluster, "drill-" + name, limit},
		Place: recovery.Place{Label: x.Name, Path: x.Path, URL: x.URL, Encryption: x.Encryption.ReadOnly()}, Program: p.r.o.Program,
		Amcheck: p.a.Amcheck, Canaries: p.a.Canaries, MaxShrink: p.a.MaxShrink, Checks: p.a.Checks, Roles: p.r.roles(route.Server), Before: before,
		Names: func(ctx context.Context, want []wal.Relation) (map[wal.Relation]state.NamedRelation, error) {
			return observe.Names(ctx, backup, p.a.Major, want)
		},
		Who: p.r.o.Who, Host: p.r.o.Host, Version: p.r.o.Version, Now: p.r.o.Now,
	}
	if broken == nil {
		o.Backup = backup
	}
	run, err := p.Scratch.Begin(o)
	if run == nil {
		return nil, err
	}
	return &realDrilling{DrillRun: run, hold: drillHold{cluster, "drill-" + name, limit}}, err
}

// roles are those that the copy may know: the one that pgkeep connects as, and the usual superuser.
func (r real) roles(server string) []string {
	roles := []string{"postgres"}
	if info, err := r.conninfo(server); err == nil && info.User() != "postgres" {
		roles = append([]string{info.User()}, roles...)
	}
	return roles
}

// drillHold keeps a backup while it is drilled, under the drill's name: the next one replaces what a killed one left.
type drillHold struct {
	cluster *repository.Cluster
	name    string
	limit   time.Duration
}

// Hold holds for as long as the drill may take.
func (h drillHold) Hold(ctx context.Context, id string, hold state.Hold, now time.Time) error {
	hold.Holder, hold.Reason, hold.Expires = h.name, "drilled", now.Add(h.limit).UTC()
	return h.cluster.Hold(ctx, id, hold, now)
}

// realDrilling lets go of the backup when the copy is no longer needed.
type realDrilling struct {
	*recovery.DrillRun
	hold drillHold
}

// Stop ends the server, and the hold; a hold that stays ends by itself.
func (d *realDrilling) Stop(ctx context.Context) error {
	err := d.DrillRun.Stop()
	_ = d.hold.cluster.ReleaseBy(ctx, d.Route.Backup, d.hold.name, d.Now())
	return err
}

// Finish writes down what the drill came to.
func (d *realDrilling) Finish(context.Context) (state.Drill, error) { return d.DrillRun.Finish() }
