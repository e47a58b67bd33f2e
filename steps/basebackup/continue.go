package basebackup

import (
	"context"
	"slices"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository"
)

// PostgreSQL cannot go on with a base backup whose stream was cut: the stream begins anew. What was stored of the one that was cut need not be
// stored again: the new one refers to its pages where they have the same hash, as an incremental backup does to its parent's. So it is an
// incremental one that has no parent. Which pages are referred to is decided by content alone.
//
// A backup that may be continued marks how far it has come (repository.CutBackup): a full one, and one that is continued. What an
// incremental one on a parent stores is little, and is stored again.

const (
	// markEvery is how many bytes of volumes are stored between two marks of a backup at first.
	markEvery = 64 << 20
	// maxContinued bounds how many cut backups are held open.
	maxContinued = 3
)

// continuing is what a backup knows of the cut ones with which it goes on.
type continuing struct {
	ids  []string
	cut  [][]*repository.Parent // of each destination; none: nothing of them is there
	copy []string               // of each destination: those of one copy have the same bytes of all
}

// findCut decides which of the cut backups that were asked for there are to go on with. One whose writer is dead and which is not decided is decided
// `cut` here. Whatever is amiss with one only means that less is stored already.
func (t *taking) findCut(ctx context.Context) error {
	if t.o.Kind == repository.KindIncremental || len(t.o.Continues) == 0 {
		return nil
	}
	c := &continuing{cut: make([][]*repository.Parent, len(t.dst)), copy: make([]string, len(t.dst))}
	open := map[string]*repository.Parent{}
	for i, dst := range t.dst {
		for _, id := range t.decideCut(ctx, dst) {
			p, err := dst.OpenCut(ctx, id)
			if err != nil || len(c.cut[i]) > 0 && p.Seed() != c.cut[i][0].Seed() {
				continue
			}
			if same := open[p.Copy()]; same != nil {
				p = same // its lists are held once
			}
			open[p.Copy()] = p
			c.cut[i] = append(c.cut[i], p)
			c.copy[i] += p.Copy() + "\n"
			if !slices.Contains(c.ids, id) {
				c.ids = append(c.ids, id)
			}
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if len(c.ids) > 0 {
		t.continued = c
	}
	return nil
}

// decideCut gives those of the backups that were asked for which are decided `cut` in a destination, by now.
func (t *taking) decideCut(ctx context.Context, dst *repository.Cluster) (ids []string) {
	local := repository.LockedWriters(t.o.LockDir, t.o.Host, t.o.Machine)
	backups, err := dst.Writers(ctx, local, t.o.Now())
	if err != nil {
		return nil
	}
	for _, id := range t.o.Continues[:min(len(t.o.Continues), maxContinued)] {
		at := slices.IndexFunc(backups, func(b state.Backup) bool { return b.ID == id })
		if at < 0 {
			continue
		}
		is := backups[at].State
		if is == state.BackupAbandoned && backups[at].Reusable > 0 {
			if is, err = dst.CutBackup(ctx, id, "its writer died", t.o.Now()); err != nil {
				continue
			}
		}
		if is == state.BackupCut {
			ids = append(ids, id)
		}
	}
	return ids
}

// intent adds to what is announced in a destination.
func (c *continuing) intent(in repository.Intent, at int) repository.Intent {
	if c == nil {
		return in
	}
	in.Continues, in.Cut = c.ids, nil
	for _, p := range c.cut[at] {
		in.Cut = append(in.Cut, p.ID())
	}
	return in
}

// options adds to how a destination's stream works.
func (c *continuing) options(o repository.StreamOptions, at int) repository.StreamOptions {
	if c == nil {
		return o
	}
	o.Continued, o.Cut = true, c.cut[at]
	return o
}

// distance is how much is stored before the backup first marks how far it has come; 0: it never does.
func (t *taking) distance() int64 {
	switch {
	case t.parent != nil:
		return 0
	case t.o.MarkEvery > 0:
		return t.o.MarkEvery
	}
	return markEvery
}
