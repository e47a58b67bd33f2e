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

// record is what the small objects of one backup say. An object that is there and cannot be trusted is not absent: its
// error is kept, and what it would have said counts in the way that keeps most.
type record struct {
	id         string
	start      *Start    // nil: START is not there, or bad
	startSum   string    // SHA-256 of START, as COMMIT names it
	decided    *decision // nil: no decision, or bad
	tomb       *tombRecord
	startBad   error
	decidedBad error
	tombBad    error
	holds      []holdRecord // the newest of each holder
	lastHold   int          // the highest number there is
	remains    bool         // anything at all is under the prefix; an empty directory is not
	complete   bool         // the server's manifest came, which it sends after all data
}

// begun tells whether START is there, readable or not.
func (r record) begun() bool { return r.start != nil || r.startBad != nil }

// visible tells whether the backup exists for a reader: START, committed, no TOMB.
func (r record) visible() bool { return r.committed() && r.tomb == nil && r.tombBad == nil }

// committed tells whether it can be read: both records are there and whole.
func (r record) committed() bool {
	return r.start != nil && r.decided != nil && r.decided.Decision == decidedCommitted
}

func (r record) aborted() bool { return r.decided != nil && r.decided.Decision == decidedAborted }

// cut tells whether its writer did not finish it, and another backup may go on with it or has.
func (r record) cut() bool { return r.decided != nil && r.decided.Decision == decidedCut }

// continuable tells whether a backup that begins now may go on with it.
func (r record) continuable() bool {
	return r.cut() && r.start != nil && r.tomb == nil && r.tombBad == nil
}

// leftOfCut tells of the decision `cut` alone: somebody decided late, when the backup was removed already. It is garbage, as a late `aborted` is.
func (r record) leftOfCut() bool { return r.cut() && !r.begun() }

// state gives what the objects say. known is false for what is left of a backup that was removed, and for nothing.
//
// A decision `committed` without START and TOMB is no garbage: a removal takes START only after TOMB is there, so START
// was lost, and the data may be whole. (A writer that slept while its backup was aborted and removed leaves the same, if
// it dies right after its late put. The two cannot be told apart, so both are left for a human.)
func (r record) state() (s state.BackupState, known bool) {
	switch {
	case r.tombBad != nil && !r.aborted():
		return state.BackupCorrupt, true
	case r.tomb != nil:
		return state.BackupDeleted, r.begun()
	case r.aborted():
		return state.BackupAborted, r.begun()
	case r.leftOfCut():
		return "", false
	case r.decidedBad != nil, r.startBad != nil, r.start == nil && r.decided != nil:
		return state.BackupCorrupt, true
	case r.start == nil:
		return "", false
	case r.decided != nil:
		return r.decided.state(), true
	}
	return state.BackupRunning, true
}

func (r record) corrupt() bool {
	s, _ := r.state()
	return s == state.BackupCorrupt
}

// why says what makes it corrupt.
func (r record) why() error {
	switch {
	case r.tombBad != nil:
		return r.tombBad
	case r.startBad != nil:
		return r.startBad
	case r.decidedBad != nil:
		return r.decidedBad
	}
	return errStartLost
}

var errDecisionLost = errors.New("COMMIT.json is not there although all data of the backup is, and its writer went away as one does after its decision")

var errStartLost = errors.New("START.json is gone although COMMIT.json says that the backup is committed and nobody deleted it")

// expired tells whether its TOMB is 24 hours old and nothing holds it. No restore reads one that was cut: it has no grace.
func (r record) expired(now time.Time) bool {
	return r.tomb != nil && (r.cut() || !now.Before(r.tomb.At.Add(grace))) && r.hold(now) == nil
}

// open tells whether a writer may still be at work: everything that START names is spared.
func (r record) open(now time.Time) bool {
	return r.begun() && r.decided == nil && r.decidedBad == nil && !r.expired(now)
}

// live tells whether it and the volumes that it refers to must stay: it is, or may be, committed, and not yet 24 hours
// past its TOMB or held.
func (r record) live(now time.Time) bool {
	switch {
	case r.aborted():
		return false
	case r.tombBad != nil:
		return true
	case r.tomb != nil:
		return !r.expired(now)
	case r.leftOfCut():
		return false
	}
	return r.decided != nil || r.decidedBad != nil
}

// mayGo tells whether a sweep may remove it, for all that this record says: deleted a day ago, or left of a removal.
func (r record) mayGo(now time.Time) bool {
	return r.remains && !r.live(now) && !r.open(now) && (r.tomb != nil || !r.begun())
}

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

// Backups lists the cluster's backups, oldest first. An undecided one is `running`: whether its writer lives is for the
// caller to find out (Writers). What a removal of an aborted backup left is listed as aborted; what the removal of a
// deleted one left is not: Sweep takes it. One bad object makes its own backup `corrupt` and hides no other.
func (c *Cluster) Backups(ctx context.Context) ([]state.Backup, error) {
	return c.backups(ctx, func(record, *state.Backup) error { return nil })
}

// backups lists, and lets judge complete each description.
func (c *Cluster) backups(ctx context.Context, judge func(record, *state.Backup) error) ([]state.Backup, error) {
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
		b, ok := r.describe()
		if !ok {
			continue
		}
		if err := judge(r, &b); err != nil {
			return nil, err
		}
		out = append(out, b)
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
	r, err := c.readOnce(ctx, id)
	if err != nil || r.start != nil || r.startBad != nil || !r.corrupt() {
		return r, err
	}
	// Without START it may be a removal that was seen in its middle. TOMB goes last, after the decision: if there is no TOMB
	// now and afterwards still a decision, then nobody removes it.
	if tombed, err := c.exists(ctx, c.key.tombFile(id)); err != nil || tombed {
		return c.again(ctx, id, err)
	}
	if decided, err := c.exists(ctx, c.key.commitFile(id)); err != nil || !decided {
		return c.again(ctx, id, err)
	}
	return r, nil
}

func (c *Cluster) again(ctx context.Context, id string, err error) (record, error) {
	if err != nil {
		return record{}, err
	}
	return c.readOnce(ctx, id)
}

func (c *Cluster) readOnce(ctx context.Context, id string) (record, error) {
	r := record{id: id}
	dir := c.key.backupDir(id)
	newest := map[string]holdRecord{}
	for info, err := range c.repo.Store().List(ctx, dir, "", true) {
		if err != nil {
			return record{}, fmt.Errorf("list backup %s: %w", id, err)
		}
		r.remains = true
		if info.Prefix {
			r.complete = r.complete || info.Key == dir+manifestDir
			continue
		}
		if err := c.readPart(ctx, &r, newest, strings.TrimPrefix(info.Key, dir)); err != nil && !errors.Is(err, store.ErrNotExist) {
			return record{}, fmt.Errorf("read backup %s: %w", id, err)
		}
	}
	r.settleCopy(c.key.commitFile(id))
	operator := newest[""]
	for _, h := range newest {
		unread := strings.HasPrefix(h.Holder, unreadHolder)
		if unread && operator.Released && operator.Number > h.Number {
			continue // the operator let go of what cannot be read
		}
		r.holds = append(r.holds, h)
	}
	slices.SortFunc(r.holds, func(a, b holdRecord) int { return a.Number - b.Number })
	return r, nil
}

// settleCopy takes a decision for none that can be trusted when it is of another writer than START of a copy: one that slept
// while its own try was removed and the backup was copied here. It takes that decision back as soon as it looks.
func (r *record) settleCopy(key string) {
	if r.start == nil || r.start.CopyOf == "" || r.decided == nil || r.aborted() || r.decided.StartSum == r.startSum {
		return
	}
	r.decided, r.decidedBad = nil, corrupt(key, errors.New("it was decided by another writer than the one that copies the backup"))
}

// unreadHolder begins the name of the holder of a hold that cannot be read: it counts, for ever, until the operator
// releases the backup.
const unreadHolder = "unreadable-hold-"

// readPart reads one small object into r.
func (c *Cluster) readPart(ctx context.Context, r *record, newest map[string]holdRecord, name string) error {
	switch name {
	case startName:
		s, sum, err := c.readStartSum(ctx, r.id)
		r.startSum = sum
		return keep(&r.start, &r.startBad, s, err)
	case decisionName:
		d, err := c.readDecision(ctx, r.id)
		return keep(&r.decided, &r.decidedBad, d, err)
	case tombName:
		t, err := c.readTomb(ctx, r.id)
		return keep(&r.tomb, &r.tombBad, t, err)
	}
	n, ok := numberOf(name, holdPrefix)
	if !ok {
		return nil
	}
	h, err := c.readHold(ctx, r.id, n)
	if untrusted(err) {
		h, err = holdRecord{ID: r.id, Number: n, Holder: unreadHolder + name, Reason: err.Error()}, nil
	}
	if err != nil {
		return err
	}
	r.lastHold = max(r.lastHold, n)
	if h.Number > newest[h.Holder].Number {
		newest[h.Holder] = h
	}
	return nil
}

// keep files what was read, or why it cannot be trusted.
func keep[T any](into **T, bad *error, v T, err error) error {
	switch {
	case err == nil:
		*into = &v
	case untrusted(err):
		*bad = err
	default:
		return err
	}
	return nil
}

// untrusted tells errors of an object's content, which say nothing of others, from those of the store.
func untrusted(err error) bool {
	code := state.CodeOf(err)
	return code == state.CodeCorrupt || code == state.CodeNewerFormat
}

// readHold reads HOLD-<n>.json and checks that it is this backup's.
func (c *Cluster) readHold(ctx context.Context, id string, n int) (holdRecord, error) {
	var h holdRecord
	key := c.key.holdFile(id, n)
	if err := c.readRecord(ctx, key, &h); err != nil {
		return holdRecord{}, err
	}
	if h.ID != id || h.Number != n {
		return holdRecord{}, corrupt(key, fmt.Errorf("it is hold %d of backup %s", h.Number, h.ID))
	}
	return h, nil
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

// describe gives the facts as the rest of pgkeep knows them; false for what is not listed.
func (r record) describe() (state.Backup, bool) {
	b := state.Backup{ID: r.id}
	known := false
	if b.State, known = r.state(); !known && !r.cutShort() {
		return b, false
	}
	b.Kind, b.Began = partsOfID(r.id)
	if s := r.start; s != nil {
		b.Kind, b.Version, b.Timeline, b.Redo, b.Start, b.Began = s.Kind, s.Version, s.Timeline, s.Redo, s.Start, s.Began
		b.FromStandby, b.Parent, b.Host, b.Schedule, b.Refs = s.FromStandby, s.Parent, s.Host, s.Schedule, slices.Clone(s.Names)
	}
	if d := r.decided; d != nil {
		b.Stop, b.Ended, b.Failure, b.DataBytes, b.StoredBytes = d.Stop, d.Ended, d.Why, d.DataBytes, d.StoredBytes
		b.Refs = slices.Clone(d.RefersTo)
		if r.cut() {
			b.Reusable = d.StoredBytes
		}
		if c := d.Chain; c != nil {
			b.Chain = &state.BackupChain{Depth: c.Depth, Full: c.Full, Began: c.Began, ReferredBytes: c.Referred, LiveBytes: c.Live, Summaries: c.Summaries}
		}
		if d.damaged() {
			b.Failure = d.damage()
		}
		if r.start == nil {
			b.Timeline = d.Timeline
		}
	}
	switch {
	case !known:
		b.State, b.Failure, b.Reusable = state.BackupAborted, "its removal was cut short", 0
	case b.State == state.BackupCorrupt:
		b.Failure = r.why().Error()
	}
	if r.tomb != nil {
		b.Tombed = r.tomb.At
	}
	if h := r.newestHold(); h != nil {
		b.Hold = &state.Hold{Holder: h.Holder, Reason: h.Reason, Expires: h.Expires}
	}
	return b, true
}

// cutShort tells what the removal of an aborted backup left, or a writer that put on after it: remove-incomplete decides
// it `aborted` once more and removes it.
func (r record) cutShort() bool { return r.remains && !r.begun() && r.tomb == nil && r.tombBad == nil }

// partsOfID reads what the name of a backup tells when its START does not.
func partsOfID(id string) (kind string, began time.Time) {
	stamp, rest, _ := strings.Cut(id, "-")
	kind = KindFull
	if strings.HasPrefix(rest, "I") {
		kind = KindIncremental
	}
	began, err := time.Parse("20060102T150405Z", stamp)
	if err != nil { // CheckBackupID lets months of 99 pass
		return kind, time.Time{}
	}
	return kind, began
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
