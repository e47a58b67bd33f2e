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

// grace is for how long a backup's volumes and WAL outlive its TOMB: restores that cannot write a HOLD rely on it.
const grace = 24 * time.Hour

// record is what the small objects of one backup say.
type record struct {
	id       string
	start    *Start    // nil: START is not there
	decided  *decision // nil: no decision
	tomb     *tombRecord
	holds    []holdRecord // the newest of each holder
	lastHold int          // the highest number there is
	remains  bool         // anything at all is under the prefix; an empty directory is not
}

// visible tells whether the backup exists for a reader: START, committed, no TOMB. A COMMIT without START is garbage.
func (r record) visible() bool { return r.committed() && r.tomb == nil }

func (r record) committed() bool {
	return r.start != nil && r.decided != nil && r.decided.Decision == decidedCommitted
}

// open tells whether a writer may still be at work: everything that START names is spared.
func (r record) open() bool { return r.start != nil && r.decided == nil }

// hold gives the hold that lasts longest at the moment now; nil when none is unexpired.
func (r record) hold(now time.Time) *holdRecord {
	var best *holdRecord
	for i := range r.holds {
		h := &r.holds[i]
		if h.Released || !h.Expires.IsZero() && !now.Before(h.Expires) {
			continue
		}
		if best == nil || h.Expires.IsZero() || !best.Expires.IsZero() && h.Expires.After(best.Expires) {
			best = h
		}
	}
	return best
}

// live tells whether volumes that this backup refers to must stay: it is committed, and not yet 24 hours past its TOMB
// or held.
func (r record) live(now time.Time) bool {
	return r.committed() && (r.tomb == nil || now.Before(r.tomb.At.Add(grace)) || r.hold(now) != nil)
}

// Backups lists the cluster's backups, oldest first. An undecided one is `running`: whether its writer lives is for the
// caller to find out (WriterAlive). What is left of a backup without START is garbage and not listed.
func (c *Cluster) Backups(ctx context.Context) ([]state.Backup, error) {
	ids, err := c.backupIDs(ctx)
	if err != nil {
		return nil, err
	}
	var out []state.Backup
	for _, id := range ids {
		r, err := c.readBackup(ctx, id)
		if err != nil {
			return nil, err
		}
		if r.start != nil {
			out = append(out, r.describe())
		}
	}
	return out, nil
}

// backupIDs lists every prefix under b/ that is named like a backup, garbage included, oldest first.
func (c *Cluster) backupIDs(ctx context.Context) ([]string, error) {
	var ids []string
	dir := c.key.backupsDir()
	for info, err := range c.repo.Store().List(ctx, dir, "", true) {
		if err != nil {
			return nil, fmt.Errorf("list backups: %w", err)
		}
		id := strings.TrimSuffix(strings.TrimPrefix(info.Key, dir), "/")
		if info.Prefix && CheckBackupID(id) == nil {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids, nil
}

// readBackup reads the small objects of one backup. Objects that vanish while it looks are taken as absent.
func (c *Cluster) readBackup(ctx context.Context, id string) (record, error) {
	r := record{id: id}
	dir := c.key.backupDir(id)
	newest := map[string]holdRecord{}
	for info, err := range c.repo.Store().List(ctx, dir, "", true) {
		if err != nil {
			return record{}, fmt.Errorf("list backup %s: %w", id, err)
		}
		r.remains = true
		if info.Prefix {
			continue
		}
		if err := c.readPart(ctx, &r, newest, strings.TrimPrefix(info.Key, dir)); err != nil && !errors.Is(err, store.ErrNotExist) {
			return record{}, fmt.Errorf("read backup %s: %w", id, err)
		}
	}
	for _, h := range newest {
		r.holds = append(r.holds, h)
	}
	slices.SortFunc(r.holds, func(a, b holdRecord) int { return a.Number - b.Number })
	return r, nil
}

// readPart reads one small object into r.
func (c *Cluster) readPart(ctx context.Context, r *record, newest map[string]holdRecord, name string) error {
	switch name {
	case startName:
		s, err := c.readStart(ctx, r.id)
		if err == nil {
			r.start = &s
		}
		return err
	case decisionName:
		d, err := c.readDecision(ctx, r.id)
		if err == nil {
			r.decided = &d
		}
		return err
	case tombName:
		t, err := c.readTomb(ctx, r.id)
		if err == nil {
			r.tomb = &t
		}
		return err
	}
	n, ok := numberOf(name, holdPrefix)
	if !ok {
		return nil
	}
	var h holdRecord
	key := c.key.holdFile(r.id, n)
	if err := c.readRecord(ctx, key, &h); err != nil {
		return err
	}
	if h.ID != r.id || h.Number != n {
		return corrupt(key, fmt.Errorf("it is hold %d of backup %s", h.Number, h.ID))
	}
	r.lastHold = max(r.lastHold, n)
	if h.Number > newest[h.Holder].Number {
		newest[h.Holder] = h
	}
	return nil
}

// readTomb reads TOMB.json and checks that it is this backup's.
func (c *Cluster) readTomb(ctx context.Context, id string) (tombRecord, error) {
	var t tombRecord
	key := c.key.tombFile(id)
	if err := c.readRecord(ctx, key, &t); err != nil {
		return tombRecord{}, err
	}
	if t.ID != id {
		return tombRecord{}, corrupt(key, fmt.Errorf("it is the TOMB of backup %s", t.ID))
	}
	return t, nil
}

// describe gives the facts as the rest of pgkeep knows them. START must be there.
func (r record) describe() state.Backup {
	s := r.start
	b := state.Backup{
		ID: s.ID, State: state.BackupRunning, Kind: s.Kind, Version: s.Version, Timeline: s.Timeline, Redo: s.Redo,
		Start: s.Start, Began: s.Began, FromStandby: s.FromStandby, Parent: s.Parent, Host: s.Host, Schedule: s.Schedule,
		Refs: slices.Clone(s.Names),
	}
	if d := r.decided; d != nil {
		b.State, b.Stop, b.Ended, b.Failure = d.state(), d.Stop, d.Ended, d.Why
		b.DataBytes, b.StoredBytes = d.DataBytes, d.StoredBytes
		b.Refs = slices.Clone(d.RefersTo)
		if b.State == state.BackupDamaged {
			b.Failure = d.damage()
		}
	}
	if r.tomb != nil {
		b.State, b.Tombed = state.BackupDeleted, r.tomb.At
	}
	if h := r.newestHold(); h != nil {
		b.Hold = &state.Hold{Holder: h.Holder, Reason: h.Reason, Expires: h.Expires}
	}
	return b
}

// newestHold gives the longest hold that was not released; the reader compares its expiry with a clock.
func (r record) newestHold() *holdRecord { return r.hold(time.Time{}) }

// damage says in one sentence what is wrong with a damaged backup.
func (d decision) damage() string {
	var pages int64
	var paths []string
	for _, p := range d.Damaged {
		pages += p.Count
		paths = append(paths, p.Path)
	}
	if pages == 0 {
		return "the server found page checksum failures: " + d.DamageText
	}
	return fmt.Sprintf("%d pages of the server fail their checksum, in %s", pages, strings.Join(paths, ", "))
}
