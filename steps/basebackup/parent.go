package basebackup

import (
	"context"
	"errors"
	"fmt"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/state/wal"
)

// An incremental backup over a plain stream takes the whole stream as a full one does, and stores the pages whose hash is
// another than the parent's. Which pages are referred to is decided by content alone, so neither a wrong parent nor a
// server that was set back can make a wrong backup. What is asked of a parent here keeps chains readable for people, and
// the work from being in vain.

// parentage is what an incremental backup builds on.
type parentage struct {
	facts []repository.ParentFacts // of each destination; no ID: it takes no part, its outcome says why
	open  map[string]*repository.Parent
}

// findParent decides whether the backup is incremental. Where it cannot be, why says what keeps it from it, and it is full.
func (t *taking) findParent(ctx context.Context, conn *postgres.Replication) (why string, err error) {
	if t.o.Kind != repository.KindIncremental {
		return "", nil
	}
	p := &parentage{facts: make([]repository.ParentFacts, len(t.dst)), open: map[string]*repository.Parent{}}
	why, err = t.inspectParents(ctx, p)
	if why == "" && err == nil {
		why, err = ancestor(ctx, conn, p.any())
	}
	if why != "" || err != nil {
		return why, err
	}
	for i, f := range p.facts {
		if f.ID == "" || p.open[f.Copy] != nil {
			continue
		}
		opened, err := t.dst[i].OpenParent(ctx, f.ID, t.alike(p, i)...)
		switch {
		case unfit(err):
			return sentence(err), nil
		case ctx.Err() != nil:
			return "", err
		case err != nil: // it takes no part
			t.fail(i, err)
			p.facts[i] = repository.ParentFacts{}
		default:
			p.open[f.Copy] = opened
		}
	}
	if p.any().ID == "" {
		return "", t.failures()
	}
	t.parent = p
	return "", nil
}

// alike gives the other destinations that have the same bytes of the parent.
func (t *taking) alike(p *parentage, at int) []*repository.Cluster {
	var out []*repository.Cluster
	for i, f := range p.facts {
		if i != at && f.ID != "" && f.Copy == p.facts[at].Copy {
			out = append(out, t.dst[i])
		}
	}
	return out
}

// inspectParents looks at the parent in every destination. It must be in all that answer: a backup has one id everywhere,
// and one kind.
func (t *taking) inspectParents(ctx context.Context, p *parentage) (why string, err error) {
	for i, c := range t.dst {
		f, err := c.InspectParent(ctx, t.o.Parent)
		switch {
		case err == nil && f.Version/10000 != t.version/10000:
			return fmt.Sprintf("its parent %s is of PostgreSQL %d", f.ID, f.Version/10000), nil
		case err == nil:
			p.facts[i] = f
		case unfit(err):
			return sentence(err), nil
		case ctx.Err() != nil:
			return "", err
		default:
			t.fail(i, err)
		}
	}
	if p.any().ID == "" {
		return "", t.failures()
	}
	return "", nil
}

// unfit tells what a repository says of a parent from what kept it from looking.
func unfit(err error) bool {
	switch state.CodeOf(err) {
	case state.CodeStale, state.CodeCorrupt, state.CodeAbsent, state.CodeNewerFormat:
		return true
	}
	return false
}

// sentence gives the words of an error without those that say where it came from.
func sentence(err error) string {
	var e *state.Error
	if errors.As(err, &e) {
		return e.Text
	}
	return err.Error()
}

// any gives the facts of a destination that takes part; zero: none does.
func (p *parentage) any() repository.ParentFacts {
	for _, f := range p.facts {
		if f.ID != "" {
			return f
		}
	}
	return repository.ParentFacts{}
}

// ancestor looks whether the parent's end lies on the server's line of history, behind its WAL.
func ancestor(ctx context.Context, conn *postgres.Replication, f repository.ParentFacts) (why string, err error) {
	now, err := conn.IdentifySystem(ctx)
	if err != nil {
		return "", err
	}
	if f.Timeline == now.Timeline {
		if f.Stop > now.FlushLSN {
			return fmt.Sprintf("its parent %s ends at %s, and the server's WAL at %s", f.ID, f.Stop, now.FlushLSN), nil
		}
		return "", nil
	}
	forked := fmt.Sprintf("its parent %s ends at %s of timeline %d, which is not in the history of the server's timeline %d", f.ID, f.Stop, f.Timeline, now.Timeline)
	if now.Timeline < f.Timeline {
		return forked, nil
	}
	content, err := conn.TimelineHistory(ctx, now.Timeline)
	if err != nil {
		return "", err
	}
	h, err := wal.ParseHistory(now.Timeline, content)
	if err != nil || !h.Contains(f.Timeline, f.Stop) {
		return forked, nil //nolint:nilerr // a history that cannot be read has no ancestors
	}
	return "", nil
}

// kind gives what the backup is by now.
func (t *taking) kind() string {
	if t.parent != nil || t.continued != nil {
		return repository.KindIncremental
	}
	return repository.KindFull
}

// copyOfParent tells which destinations have the same bytes of the parent, or of what is continued.
func (t *taking) copyOfParent(at int) string {
	if t.continued != nil {
		return t.continued.copy[at]
	}
	if t.parent == nil {
		return ""
	}
	return t.parent.facts[at].Copy
}

// openParent gives the parent as a destination has it; nil: the backup is full.
func (t *taking) openParent(at int) *repository.Parent {
	if t.parent == nil {
		return nil
	}
	return t.parent.open[t.parent.facts[at].Copy]
}
