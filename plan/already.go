package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
)

// Already is something that was asked for by name and is done: nothing is planned for it.
type Already struct {
	What  string `json:"what"`
	Text  string `json:"text"` // the evidence
	Hint  string `json:"hint,omitempty"`
	Owner string `json:"owner,omitempty"` // the beginning of the ids of the steps that did it
}

// Request is a digest of what is asked of a recovery: server, target and destination. The way there, which another plan may
// find otherwise, is not in it.
func (r *Route) Request() string {
	d := r.Destination
	d.WAL, d.Overwrite = "", false // decided anew by each plan, and of what was there before
	b, err := json.Marshal([]any{r.Server, r.Target, d})
	if err != nil { // plain values only: cannot be
		b = fmt.Appendf(nil, "%+v", r)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// restored tells whether a restore was completed in the destination, which then gets no other: this very recovery is done,
// and another one is refused. A start that is asked for goes on with what was restored, and is looked at by its step.
func (b *builder) restored(rec hclspec.Recovery, refuse func(refusal, string)) bool {
	d := b.seen.Recoveries[rec.Name]
	if b.opt.Start || rec.Destination.Overwrite || d.Unknown != nil || d.Restored == nil || d.Restored.Request == "" {
		return false
	}
	path, done := rec.Destination.Path, *d.Restored
	again := fmt.Sprintf("to do it again, remove %s and %s.pgkeep, or name another directory", path, path)
	if d.Running {
		again = "to do it again, name another directory: a PostgreSQL server runs in this one"
	}
	asked := Route{Server: rec.Server, Target: rec.Target, Destination: rec.Destination}
	if done.Request != asked.Request() || b.opt.Backup != "" && b.opt.Backup != done.Backup {
		refuse(refusal{state.CodeDestination, fmt.Sprintf("%s holds a complete restore of backup %s, begun %s, for another recovery or by another pgkeep", path, done.Backup, Moment(done.Began)), again}, "")
		return true
	}
	text := fmt.Sprintf("backup %s was restored into %s, begun %s, to recover to %s", done.Backup, path, Moment(done.Began), targetText(rec.Target))
	if rec.Target.Latest {
		text += " as it was then"
	}
	if d.Running {
		text += "; a PostgreSQL server runs there"
	}
	b.plan.Already = append(b.plan.Already, Already{What: "recover " + rec.Name, Text: text, Hint: again, Owner: "recovery." + rec.Name})
	return true
}
