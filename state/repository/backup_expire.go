package repository

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/store"
)

// Tomb marks a committed backup as to be deleted: from now on it is no parent and not listed as committed. Its volumes
// and WAL stay for 24 hours and as long as a hold or another backup needs them; Sweep removes them. A TOMB is never
// withdrawn. A held backup is refused. A corrupt one, of which nobody can tell whether it is whole, goes this way too.
func (c *Cluster) Tomb(ctx context.Context, id string, now time.Time) error {
	if err := CheckBackupID(id); err != nil {
		return err
	}
	r, err := c.readBackup(ctx, id)
	if err != nil {
		return fmt.Errorf("delete backup %s: %w", id, err)
	}
	stored, err := c.storeTime(ctx)
	if err != nil {
		return fmt.Errorf("delete backup %s: %w", id, err)
	}
	held := r.hold(endsAt(now, stored))
	switch {
	case r.tombBad != nil:
		return fmt.Errorf("delete backup %s: %w", id, r.tombBad)
	case r.tomb != nil, !r.begun() && !r.corrupt():
		return nil // gone, or on its way
	case r.corrupt(): // by name: somebody looked and gave it up
	case r.decided == nil && r.complete:
		return c.giveUp(ctx, id, now)
	case r.decided == nil:
		return &state.Error{
			Code: state.CodeStale, Text: fmt.Sprintf("backup %s is still being written", id),
			Hint: "a backup without decision is removed by remove-incomplete once its writer is dead: pgkeep plan",
		}
	}
	if held != nil {
		return &state.Error{
			Code: state.CodeStale, Text: fmt.Sprintf("backup %s is held: %s", id, holdText(held)),
			Hint: fmt.Sprintf("pgkeep backups release %s", id),
		}
	}
	err = c.putRecord(ctx, c.key.tombFile(id), tombRecord{Format: backupFormat, ID: id, At: beginsAt(now, stored).UTC()})
	if err != nil && !errors.Is(err, store.ErrExists) {
		return fmt.Errorf("delete backup %s: %w", id, err)
	}
	return nil
}

// giveUp deletes, by name, a backup with all its data and without decision: it is decided `aborted`, so that a writer that
// lives after all fails, and a decision that was lost cannot come back; what it left is then removed as any aborted one's is. When
// its writer was faster, the backup is committed, and somebody may use it: it stays.
func (c *Cluster) giveUp(ctx context.Context, id string, now time.Time) error {
	got, err := c.AbortBackup(ctx, id, "given up by name, with all its data and no decision", now)
	if err != nil || got == state.BackupAborted {
		return err
	}
	return &state.Error{
		Code: state.CodeStale, Text: fmt.Sprintf("backup %s was committed by its writer a moment ago", id), Hint: "pgkeep backups",
	}
}

func holdText(h *holdRecord) string {
	until := "for ever"
	if !h.Expires.IsZero() {
		until = "until " + h.Expires.Format(time.RFC3339)
	}
	if h.Reason == "" {
		return until
	}
	return fmt.Sprintf("%s (%q)", until, h.Reason)
}

// RemoveAborted removes what an aborted backup left and gives the bytes freed. Nothing refers to it: it was never
// committed. START goes first, the decision last. One that others name all the same was cut and has lost that decision: it stays.
// Nobody begins to name it after the look, because it is not `cut`.
func (c *Cluster) RemoveAborted(ctx context.Context, id string) (int64, error) {
	if err := CheckBackupID(id); err != nil {
		return 0, err
	}
	d, err := c.readDecision(ctx, id)
	if errors.Is(err, store.ErrNotExist) {
		there, statErr := c.exists(ctx, c.key.startFile(id))
		if statErr != nil || !there {
			return 0, statErr // removed before
		}
		return 0, &state.Error{Code: state.CodeStale, Text: fmt.Sprintf("backup %s is not decided", id), Hint: "pgkeep plan"}
	}
	if err != nil {
		return 0, fmt.Errorf("remove backup %s: %w", id, err)
	}
	left := false
	if d.Decision == decidedCut {
		if left, err = c.leftOfCut(ctx, id); err != nil {
			return 0, fmt.Errorf("remove backup %s: %w", id, err)
		}
	}
	if d.Decision == decidedCut && !left {
		return 0, &state.Error{Code: state.CodeStale, Text: fmt.Sprintf("backup %s is kept for another one to go on with", id), Hint: "pgkeep plan"}
	}
	if d.Decision != decidedAborted && !left {
		return 0, &state.Error{Code: state.CodeStale, Text: fmt.Sprintf("backup %s is committed", id), Hint: "pgkeep backups delete " + id}
	}
	by, err := c.namedBy(ctx, id)
	if err != nil {
		return 0, fmt.Errorf("remove backup %s: %w", id, err)
	}
	if by != "" {
		return 0, &state.Error{
			Code: state.CodeCorrupt, Text: fmt.Sprintf("backup %s reads volumes of %s, so nothing of that is removed although it is aborted", by, id),
			Hint: "delete " + by + " first: pgkeep backups delete " + by,
		}
	}
	return c.remove(ctx, id)
}

// namedBy gives a backup that reads, or may come to read, volumes of another one; empty: none does.
func (c *Cluster) namedBy(ctx context.Context, id string) (string, error) {
	ids, err := c.backupIDs(ctx)
	if err != nil {
		return "", err
	}
	for _, other := range ids {
		if other == id {
			continue
		}
		r, err := c.readBackup(ctx, other)
		if err != nil {
			return "", err
		}
		open := r.start != nil && r.decided == nil && slices.Contains(r.start.Names, id)
		reads := r.decided != nil && !r.aborted() && slices.Contains(r.decided.RefersTo, id)
		if open || reads {
			return other, nil
		}
	}
	return "", nil
}

// Sweep removes what no live backup refers to and no open START names, of backups that are past their TOMB by 24 hours
// and not held, and what is left of removals that were cut short. It gives the bytes freed. Leases of which no backup is left go too.
//
// The crash and race argument: it looks twice. What may go was seen with its TOMB in the first look. Whoever refers to
// such a backup either put START before the TOMB, and is seen in the second look, or looked at the parent after START,
// saw the TOMB and gave up. A TOMB that only the second look sees makes nothing free: its children may have come between.
//
// now is a time that is not ahead of the world's (plan.DeletionClock); it never counts as later than the newest time
// seen in the store. A *LockedError tells that some of it is locked still; all else went.
func (c *Cluster) Sweep(ctx context.Context, now time.Time) (int64, error) {
	stored, err := c.storeTime(ctx)
	if err != nil {
		return 0, fmt.Errorf("sweep: %w", err)
	}
	now = endsAt(now, stored)
	if err := c.dropOrphans(ctx); err != nil {
		return 0, fmt.Errorf("sweep: %w", err)
	}
	dead, err := c.deadBackups(ctx, now)
	if err != nil {
		return 0, fmt.Errorf("sweep: %w", err)
	}
	if len(dead) == 0 {
		return 0, nil
	}
	needs, err := c.lookForNeeds(ctx, dead, now)
	if err != nil {
		return 0, fmt.Errorf("sweep: %w", err)
	}
	var freed int64
	var locked error
	for _, id := range slices.Sorted(needs.mayGo()) {
		n, err := c.sweepOne(ctx, id, needs, now)
		freed += n
		var until *LockedError
		if errors.As(err, &until) {
			locked = laterLock(locked, fmt.Errorf("sweep backup %s: %w", id, err))
			continue
		}
		if err != nil {
			return freed, fmt.Errorf("sweep backup %s: %w", id, err)
		}
	}
	return freed, locked
}

// deadBackups is the first look: backups past their TOMB and grace, and prefixes that hold something but no START, unless
// a decision says that it was committed: START is the first object put and goes only after TOMB is there, so it was
// removed. (An empty prefix may be a directory made for a START that is on its way.)
func (c *Cluster) deadBackups(ctx context.Context, now time.Time) (map[string]bool, error) {
	ids, err := c.backupIDs(ctx)
	if err != nil {
		return nil, err
	}
	dead := map[string]bool{}
	for _, id := range ids {
		r, err := c.readBackup(ctx, id)
		if err != nil {
			return nil, err
		}
		if r.mayGo(now) {
			dead[id] = true
		}
	}
	return dead, nil
}

// lookForNeeds is the second look: which volumes of dead backups others need, and whom an open START names.
func (c *Cluster) lookForNeeds(ctx context.Context, dead map[string]bool, now time.Time) (*needs, error) {
	ids, err := c.backupIDs(ctx)
	if err != nil {
		return nil, err
	}
	n := &needs{dead: dead, volumes: map[string]map[string]bool{}, named: map[string]bool{}, held: map[string]bool{}}
	for _, id := range ids {
		r, err := c.readBackup(ctx, id)
		if err != nil {
			return nil, err
		}
		switch {
		case r.open(now), r.decidedBad != nil && r.live(now):
			n.held[id] = true
			if r.start == nil {
				return nil, needsUnknown(r)
			}
			for _, name := range r.start.Names {
				n.named[name] = true
			}
		case r.decided != nil && !r.aborted() && (!dead[id] || r.live(now)): // also without START: a disk may have lost it since the first look
			n.held[id] = true
			if err := c.addReferences(ctx, r, n); err != nil {
				return nil, err
			}
		}
	}
	return n, nil
}

// needsUnknown is the error for a backup that may refer to any other: nothing can be removed safely beside it.
func needsUnknown(r record) error {
	return &state.Error{
		Code: state.CodeCorrupt, Text: fmt.Sprintf("what backup %s refers to cannot be read, so nothing is removed", r.id),
		Hint: "restore the object from another repository, or give the backup up: pgkeep backups delete " + r.id, Err: r.why(),
	}
}

// addReferences adds the volumes of other backups that r reads. Where the list cannot be read, the decision still names
// those backups, and they stay whole.
func (c *Cluster) addReferences(ctx context.Context, r record, n *needs) error {
	err := c.readSums(ctx, r.id, refsDir, r.decided.Refs, func(s sumLine) error {
		other, volume, err := splitReference(s.name)
		if err != nil {
			return corrupt(c.key.backupDir(r.id)+refsDir, err)
		}
		n.add(other, volume)
		return nil
	})
	if !isCorrupt(err) && !isAbsent(err) {
		return err
	}
	for _, id := range r.decided.RefersTo {
		n.named[id] = true
	}
	return nil
}

// add notes a volume that is read. Only those of dead backups matter, so only those are remembered: a repository has
// millions.
func (n *needs) add(id, volume string) {
	if !n.dead[id] {
		return
	}
	if n.volumes[id] == nil {
		n.volumes[id] = map[string]bool{}
	}
	n.volumes[id][volume] = true
}

// needs is what the second look found.
type needs struct {
	dead    map[string]bool
	volumes map[string]map[string]bool // by backup: volumes that live backups read
	named   map[string]bool            // by open STARTs
	held    map[string]bool            // not dead after all: live or open in the second look
}

// mayGo gives the dead backups of which something may be removed.
func (n *needs) mayGo() func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for id := range n.dead {
			if !n.held[id] && !n.named[id] && !yield(id) {
				return
			}
		}
	}
}

// sweepOne removes one dead backup: whole, or all but the volumes that others need. It looks once more, just before: a
// backup that by now looks committed, by whatever came between, is left.
func (c *Cluster) sweepOne(ctx context.Context, id string, n *needs, now time.Time) (int64, error) {
	if r, err := c.readBackup(ctx, id); err != nil || !r.mayGo(now) {
		return 0, err
	}
	if len(n.volumes[id]) > 0 {
		return c.deleteObjects(ctx, id, func(name string) bool {
			small := name == startName || name == decisionName || name == tombName
			return !small && !n.volumes[id][name]
		})
	}
	return c.remove(ctx, id)
}

// remove takes everything of a backup: START first, in one call, so that it is gone for every reader; then the rest; the
// decision; TOMB last, so that at every moment a backup on its way out has a TOMB or no START.
func (c *Cluster) remove(ctx context.Context, id string) (int64, error) {
	if err := c.deleteKeys(ctx, c.key.startFile(id)); err != nil {
		return 0, fmt.Errorf("delete START: %w", err)
	}
	if err := c.dropLease(ctx, c.key.backupLease(id)); err != nil {
		return 0, err
	}
	freed, err := c.deleteObjects(ctx, id, func(name string) bool { return name != decisionName && name != tombName })
	if err != nil {
		return freed, err
	}
	for _, key := range []string{c.key.commitFile(id), c.key.tombFile(id)} {
		if err := c.deleteKeys(ctx, key); err != nil {
			return freed, fmt.Errorf("delete %s: %w", key, err)
		}
	}
	return freed, nil
}

// deleteBatch is how many keys go into one Delete.
const deleteBatch = 500

// deleteObjects deletes the objects of a backup that which picks by their name below its prefix. What is locked (*LockedError) does
// not keep the others; of those that go together with it the bytes are not counted.
func (c *Cluster) deleteObjects(ctx context.Context, id string, which func(name string) bool) (int64, error) {
	dir := c.key.backupDir(id)
	var keys []string
	var size, freed int64
	var locked error
	flush := func() error {
		if len(keys) == 0 {
			return nil
		}
		err := c.deleteKeys(ctx, keys...)
		var until *LockedError
		switch {
		case errors.As(err, &until):
			locked = laterLock(locked, fmt.Errorf("delete %d objects of %s: %w", len(keys), id, err))
		case err != nil:
			return fmt.Errorf("delete %d objects of %s: %w", len(keys), id, err)
		default:
			freed += size
		}
		keys, size = nil, 0
		return nil
	}
	for info, err := range c.repo.Store().List(ctx, dir, "", false) {
		if err != nil {
			return freed, fmt.Errorf("list %s: %w", dir, err)
		}
		if !which(strings.TrimPrefix(info.Key, dir)) {
			continue
		}
		keys, size = append(keys, info.Key), size+info.Size
		if len(keys) == deleteBatch {
			if err := flush(); err != nil {
				return freed, err
			}
		}
	}
	if err := flush(); err != nil {
		return freed, err
	}
	return freed, locked
}
