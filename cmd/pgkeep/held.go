package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/observe"
)

// heldCluster is what one repository holds of one cluster.
type heldCluster struct {
	Repository string        `json:"repository"`
	Cluster    state.Cluster `json:"cluster"`
}

// clusters looks at the repositories only, and gives what they hold of the servers named. A repository that could not be
// seen is an error: a list without it would be false.
func (a *app) clusters(ctx context.Context, names []string) ([]heldCluster, error) {
	spec, err := a.load()
	if err != nil {
		return nil, err
	}
	seen := observe.World(ctx, spec, observe.Options{Now: a.now(), Env: a.env, Stores: a.stores, Only: func(k observe.Kind) bool { return k == observe.Repositories }})
	var out []heldCluster
	for _, label := range sorted(seen.Repositories) {
		r := seen.Repositories[label]
		if r.Unknown != nil {
			fmt.Fprintf(a.err, "Repository %s is unknown [%s]: %s\n", label, r.Unknown.Code, r.Unknown.Because)
			err = &state.Error{Code: r.Unknown.Code, Text: "the list is not complete", Hint: r.Unknown.Hint}
			continue
		}
		for _, name := range sorted(r.Clusters) {
			if len(names) > 0 && !slices.Contains(names, name) {
				continue
			}
			for _, c := range r.Clusters[name] {
				if u := c.Unknown; u != nil {
					fmt.Fprintf(a.err, "What repository %s holds of %s is unknown [%s]: %s\n", label, name, u.Code, u.Because)
					err = &state.Error{Code: u.Code, Text: "the list is not complete", Hint: u.Hint}
					continue
				}
				out = append(out, heldCluster{label, c})
			}
		}
	}
	if err == nil && len(names) > 0 && len(out) == 0 {
		if _, known := server(spec, names[0]); known != nil {
			return nil, known
		}
	}
	if len(out) > 0 && err != nil {
		a.say(err)
		return out, nil
	}
	return out, err
}

// foundBackup is one backup in one repository.
type foundBackup struct {
	Repository string          `json:"repository"`
	Server     string          `json:"server"`
	SystemID   string          `json:"system_id"`
	Usability  state.Usability `json:"usability"`
	Backup     state.Backup    `json:"backup"`
	// Verified is what the newest verification found of it; nil: it was never looked at.
	Verified *state.VerifiedBackup `json:"verified,omitempty"`
}

// find gives a backup in every repository that has it; empty server and repository mean any.
func (a *app) find(ctx context.Context, id, serverName, repository string) ([]foundBackup, error) {
	var names []string
	if serverName != "" {
		names = []string{serverName}
	}
	held, err := a.clusters(ctx, names)
	if err != nil {
		return nil, err
	}
	var out []foundBackup
	for _, h := range held {
		for _, b := range h.Cluster.Backups {
			if b.ID == id && (repository == "" || repository == h.Repository) {
				out = append(out, foundBackup{h.Repository, h.Cluster.Name, h.Cluster.SystemID, h.Cluster.Usability(b), b, verifiedBackup(h.Cluster, b.ID)})
			}
		}
	}
	if len(out) == 0 {
		return nil, &state.Error{Code: state.CodeAbsent, Text: fmt.Sprintf("no repository has a backup %q", id), Hint: "pgkeep backups list"}
	}
	return out, nil
}
