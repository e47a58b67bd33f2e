package steps

import (
	"context"
	"slices"
	"time"

	"github.com/pgkeep/pgkeep/plan"
)

// journal keeps what was applied where it was applied to. Nothing is kept of an apply that changed and tried nothing. An
// interrupted apply is kept too.
func (a *applier) journal(ctx context.Context, began time.Time, r Result) error {
	entry := JournalEntry{Began: began.UTC(), Ended: a.o.Now().UTC(), Who: a.o.Who, Version: a.o.Version}
	tried := false
	for _, s := range r.Steps {
		tried = tried || s.Outcome == OutcomeDone || s.Outcome == OutcomeFailed || s.Err != nil
		entry.Steps = append(entry.Steps, JournalStep{
			ID: s.Step.ID, Action: plan.Verb(s.Step.Action), Outcome: s.Outcome, Note: s.Note, Seconds: s.Elapsed.Seconds(),
		})
		if server := serverOf(s.Step.Action); server != "" && !slices.Contains(entry.Servers, server) {
			entry.Servers = append(entry.Servers, server)
		}
		for _, label := range repositoriesOf(s.Step.Action) {
			if !slices.Contains(entry.Repositories, label) {
				entry.Repositories = append(entry.Repositories, label)
			}
		}
	}
	if !tried || a.world.Journal == nil {
		return nil
	}
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer stop()
	return a.world.Journal.Write(ctx, entry)
}
