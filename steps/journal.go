package steps

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"time"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
)

// journal keeps what was applied where it was applied to. Nothing is kept of an apply that changed and tried nothing. An
// interrupted apply is kept too.
func (a *applier) journal(ctx context.Context, p *plan.Plan, began time.Time, r Result) error {
	entry := JournalEntry{
		Began: began.UTC(), Ended: a.o.Now().UTC(), Who: a.o.Who, Version: a.o.Version, Exit: r.Exit(),
		Digest: planDigest(p),
	}
	tried := false
	for _, s := range r.Steps {
		tried = tried || s.Outcome == OutcomeDone || s.Outcome == OutcomeFailed || s.Err != nil
		step := JournalStep{ID: s.Step.ID, Action: plan.Verb(s.Step.Action), Outcome: s.Outcome, Note: s.Note, Seconds: s.Elapsed.Seconds()}
		if s.Err != nil {
			step.Code, step.Error = string(state.CodeOf(s.Err)), s.Err.Error()
		}
		entry.Steps = append(entry.Steps, step)
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

// planDigest names what was applied: the SHA-256 of every step's id and action.
func planDigest(p *plan.Plan) string {
	h := sha256.New()
	for i := range p.Steps {
		action, err := json.Marshal(p.Steps[i].Action)
		if err != nil {
			return "" // the entry tells of the steps all the same
		}
		h.Write([]byte(p.Steps[i].ID + "\n" + plan.Verb(p.Steps[i].Action) + "\n" + string(action) + "\n"))
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}
