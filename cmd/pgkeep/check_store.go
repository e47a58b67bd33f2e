package main

import (
	"context"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/state/repository/store/open"
)

// locks says that the lock was tried.
func locks(r *hclspec.Repository) string {
	if r.ObjectLock.Mode == "" {
		return ""
	}
	return "keeps what is locked, "
}

// tried tries the stores of repositories with a URL: what only a write shows, and only an answer's date. Of one that could
// not be reached just now it is said already.
func tried(ctx context.Context, spec *hclspec.Spec, seen state.Observation, names []string) []plan.Finding {
	var out []plan.Finding
	for i := range spec.Repositories {
		r := &spec.Repositories[i]
		u := seen.Repositories[r.Name].Unknown
		if r.URL == "" || u != nil && u.Code != state.CodeAbsent || !concerns(plan.Finding{Subject: r.Address}, names) {
			continue
		}
		err := open.Check(ctx, r.URL)
		if err == nil && r.ObjectLock.Mode != "" {
			err = open.CheckLock(ctx, r.URL, r.ObjectLock.Mode == "compliance", time.Now())
		}
		if err = repository.Explain(err); err == nil {
			out = append(out, plan.Finding{
				Severity: plan.OK, Subject: r.Address,
				Text: "store: it can be written, puts only what is not there, " + locks(r) + "and its clock is right; a recovering machine needs credentials for it too, for the user that PostgreSQL runs as",
			})
			continue
		}
		out = append(out, plan.Finding{Severity: plan.Error, Code: state.CodeOf(err), Subject: r.Address, Text: err.Error(), Hint: state.HintOf(err)})
	}
	return out
}
