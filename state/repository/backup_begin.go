package repository

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/seal"
	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/wal"
)

// Intent is what a writer announces before it writes a backup.
type Intent struct {
	ID        string // the same in every repository; see NewBackupID
	Kind      string // KindFull or KindIncremental
	Label     string
	Schedule  string // which ordered it; empty: by hand or first
	Host      string // the machine that writes, where its lock can be looked at
	Machine   string // its identity; empty: not known, and its lock says nothing
	Lock      string // where the lock lies (LockPlace); empty: no lock is held
	Leased    bool   // the writer renews its Lease
	Checksums string // the server's data_checksums; empty: not known
	Program   string // "pgkeep 0.1.0"
	Parent    string // of an incremental that is not continued
	// Continues are the cut backups with which a continued backup goes on, in whatever repository, and Cut those of them that it may
	// refer to in this one. A continued backup is incremental, has no parent, and refers to nothing else.
	Continues   []string
	Cut         []string
	Version     int // server_version_num
	Timeline    wal.Timeline
	Start       wal.LSN
	Redo        wal.LSN // where recovery begins; WAL from here on is spared
	FromStandby bool
	Now         time.Time
}

// NewBackupID makes an id from the moment, the kind and a random number: 20260210T211617Z-F-7f3a0c12.
func NewBackupID(now time.Time, kind string, random uint32) string {
	letter := "F"
	if kind == KindIncremental {
		letter = "I"
	}
	return fmt.Sprintf("%s-%s-%08x", now.UTC().Format("20060102T150405Z"), letter, random)
}

// BackupWriter writes one backup into one repository. Its objects come from a BackupStream.
type BackupWriter struct {
	c        *Cluster
	start    Start
	startSum string
}

// ID gives the backup's id.
func (w *BackupWriter) ID() string { return w.start.ID }

// Cluster gives the cluster that the backup is written into.
func (w *BackupWriter) Cluster() *Cluster { return w.c }

// Codec gives what the repository compresses with: writers of one codec share a stream.
func (w *BackupWriter) Codec() seal.Codec { return w.c.repo.Compression().Normal() }

// BeginBackup announces a backup: it puts START, naming every backup whose volumes may be referred to, and only then
// looks whether the parent still stands. An expirer that put its TOMB before we looked is seen here; one that comes
// later lists our START. So it is with cut backups that it goes on with. When one is gone, or the redo lies before WAL that may be pruned already, the
// backup is decided `aborted` and the error has CodeStale: begin again with another parent, or a full.
func (c *Cluster) BeginBackup(ctx context.Context, in Intent) (*BackupWriter, error) {
	w, err := c.announce(ctx, in)
	if err != nil {
		return nil, fmt.Errorf("begin backup %s: %w", in.ID, err)
	}
	err = c.checkParent(ctx, in.Parent)
	for _, id := range in.Cut {
		if err == nil {
			err = c.checkCut(ctx, id)
		}
	}
	if err == nil {
		err = c.checkFloor(ctx, in)
	}
	if err != nil {
		_, abortErr := c.AbortBackup(ctx, in.ID, err.Error(), in.Now)
		return nil, errors.Join(fmt.Errorf("begin backup %s: %w", in.ID, err), abortErr)
	}
	return w, nil
}

// announce puts START.
func (c *Cluster) announce(ctx context.Context, in Intent) (*BackupWriter, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	names, err := c.namesOf(ctx, in.Parent)
	if err != nil {
		return nil, err
	}
	names = append(names, in.Cut...)
	s := Start{
		Format: backupFormat, ID: in.ID, Kind: in.Kind, Label: in.Label, Schedule: in.Schedule, Host: in.Host,
		Machine: in.Machine, Lock: in.Lock, Leased: in.Leased, Checksums: in.Checksums, Program: in.Program, Parent: in.Parent, Continues: in.Continues, Names: names, Version: in.Version, Timeline: in.Timeline,
		Start: in.Start, Redo: in.Redo, FromStandby: in.FromStandby, Began: in.Now.UTC(),
	}
	if err := c.putRecord(ctx, c.key.startFile(in.ID), s); err != nil {
		return nil, err
	}
	body, err := encodeRecord(s)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(body)
	return &BackupWriter{c: c, start: s, startSum: hex.EncodeToString(sum[:])}, nil
}

func (in Intent) check() error {
	for _, id := range append([]string{in.ID}, slices.Concat(in.Continues, in.Cut)...) {
		if err := CheckBackupID(id); err != nil {
			return err
		}
	}
	switch {
	case in.Kind != KindFull && in.Kind != KindIncremental:
		return fmt.Errorf("%q is not a kind of backup", in.Kind)
	case (in.Kind == KindIncremental) != (in.Parent != "" || len(in.Continues) > 0), in.Parent != "" && len(in.Continues) > 0:
		return fmt.Errorf("a %s backup with parent %q that continues %v", in.Kind, in.Parent, in.Continues)
	case in.Redo == 0 || in.Redo > in.Start:
		return fmt.Errorf("redo position %s of a backup that starts at %s", in.Redo, in.Start)
	case in.Now.IsZero():
		return errors.New("no time given")
	}
	return nil
}

// namesOf gives what a child of parent may refer to: the parent, and what the parent refers to. Naming the parent alone
// would let an expirer take a grandparent's volumes between our START and our COMMIT.
func (c *Cluster) namesOf(ctx context.Context, parent string) ([]string, error) {
	if parent == "" {
		return nil, nil
	}
	if err := CheckBackupID(parent); err != nil {
		return nil, err
	}
	d, err := c.readDecision(ctx, parent)
	if errors.Is(err, store.ErrNotExist) {
		return nil, parentGone(parent, "is gone")
	}
	if err != nil {
		return nil, fmt.Errorf("read parent %s: %w", parent, err)
	}
	names := append([]string{parent}, d.RefersTo...)
	slices.Sort(names)
	return slices.Compact(names), nil
}

// checkParent looks, after START was put, whether the parent is visible and sound.
func (c *Cluster) checkParent(ctx context.Context, parent string) error {
	if parent == "" {
		return nil
	}
	stands, err := c.stands(ctx, parent)
	if err != nil {
		return err
	}
	if !stands {
		return parentGone(parent, "is being deleted")
	}
	d, err := c.readDecision(ctx, parent)
	if err != nil {
		return err
	}
	if d.state() != state.BackupCommitted {
		return parentGone(parent, "is "+string(d.state()))
	}
	if _, err := c.readStart(ctx, parent); err != nil {
		return parentGone(parent, "cannot be trusted: "+err.Error())
	}
	return nil
}

func parentGone(parent, why string) error {
	return &state.Error{
		Code: state.CodeStale, Text: fmt.Sprintf("parent %s %s", parent, why),
		Hint: "plan again: another parent or a full backup is chosen",
	}
}

// stands tells whether a committed backup has START and no TOMB. TOMB is looked for first: a removal takes START first
// and TOMB last, so whoever finds no TOMB because all is gone finds no START either. The other order would believe in a
// backup that was removed between the two looks.
func (c *Cluster) stands(ctx context.Context, id string) (bool, error) {
	tombed, err := c.exists(ctx, c.key.tombFile(id))
	if err != nil || tombed {
		return false, err
	}
	return c.exists(ctx, c.key.startFile(id))
}

// checkFloor refuses a backup whose redo lies before the newest usable backup's: WAL that old may be pruned at any moment. A
// standby's may be old; so is one's of a server that was set back, or a former primary. Backups within 24 hours of their TOMB count, because a prune may have been planned while they stood.
func (c *Cluster) checkFloor(ctx context.Context, in Intent) error {
	newest, err := c.newestUsable(ctx, in.ID, in.Now)
	if err != nil || newest == nil {
		return err
	}
	older := in.Redo < newest.Redo && (in.FromStandby || in.Timeline == newest.Timeline)
	if in.Timeline >= newest.Timeline && !older {
		return nil // a primary that was recovered to before that backup begins a branch of its own, whose WAL is its own too
	}
	return &state.Error{
		Code: state.CodeStale,
		Text: fmt.Sprintf("the redo position %s on timeline %d lies before that of backup %s (%s on timeline %d): WAL from there may be pruned",
			in.Redo, in.Timeline, newest.ID, newest.Redo, newest.Timeline),
		Hint: "run CHECKPOINT on the primary, wait until the standby has replayed it, and take the backup again",
	}
}

func (c *Cluster) newestUsable(ctx context.Context, except string, now time.Time) (*state.Backup, error) {
	backups, err := c.Backups(ctx)
	if err != nil {
		return nil, err
	}
	backups = slices.DeleteFunc(backups, func(b state.Backup) bool { return b.ID == except || b.Stop == 0 })
	if len(backups) == 0 {
		return nil, nil
	}
	seen := state.Cluster{}
	if seen.WAL, err = c.WALRanges(ctx); err != nil {
		return nil, err
	}
	if seen.Gaps, err = c.Gaps(ctx); err != nil {
		return nil, err
	}
	var newest *state.Backup
	for i := range backups {
		b := &backups[i]
		if b.State == state.BackupDeleted && b.Stop != 0 && now.Before(b.Tombed.Add(grace)) {
			b.State = state.BackupCommitted
		}
		if seen.Usability(*b) != state.Usable {
			continue
		}
		if newest == nil || b.Timeline > newest.Timeline || b.Timeline == newest.Timeline && b.Redo > newest.Redo {
			newest = b
		}
	}
	return newest, nil
}

// Abort decides `aborted`. It is an error when `committed` was decided before.
func (w *BackupWriter) Abort(ctx context.Context, why string, now time.Time) error {
	got, err := w.c.AbortBackup(ctx, w.start.ID, why, now)
	if err == nil && got != state.BackupAborted {
		err = fmt.Errorf("abort backup %s: it is %s already", w.start.ID, got)
	}
	return err
}

// settleTime bounds a decision that is made after the work was called off.
const settleTime = time.Minute

// deciding is AbortBackup or CutBackup.
type deciding func(ctx context.Context, id, why string, now time.Time) (state.BackupState, error)

// settle makes the decision sure after a failure: `aborted` or `cut`, unless a COMMIT whose answer was lost is there after all,
// which is success.
func (w *BackupWriter) settle(ctx context.Context, cause error, now time.Time, decide deciding) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTime) // the cause is often that ctx ended
	defer cancel()
	got, err := decide(ctx, w.start.ID, firstLine(cause), now)
	if err != nil {
		return errors.Join(cause, err)
	}
	if got == state.BackupAborted || got == state.BackupCut {
		return cause
	}
	stands, err := w.c.exists(ctx, w.c.key.startFile(w.start.ID))
	if err == nil && stands {
		return nil
	}
	return errors.Join(cause, err)
}

// firstLine bounds what is kept of an error in a decision.
func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line[:min(len(line), 2000)]
}

// commit decides `committed` and then looks whether its own START still stands: a writer that slept while its backup was
// aborted and removed, and perhaps copied here from another repository since, finds the decision's key free again. It takes
// its COMMIT back: nobody was told of that backup, and a copy that is not decided by its own writer is not listed as committed.
func (w *BackupWriter) commit(ctx context.Context, d decision) error {
	d.StartSum = w.startSum
	if err := w.lockReferred(ctx, d); err != nil {
		return fmt.Errorf("commit backup %s: %w", d.ID, err)
	}
	got, err := w.c.decide(ctx, d)
	if err != nil {
		return fmt.Errorf("commit backup %s: %w", d.ID, err)
	}
	if got.Decision != decidedCommitted {
		return &state.Error{
			Code: state.CodeStale, Text: fmt.Sprintf("backup %s was decided aborted by another: %s", d.ID, got.Why),
			Hint: "take the backup again",
		}
	}
	if got.StartSum != w.startSum {
		return superseded(d.ID)
	}
	_, sum, err := w.c.readStartSum(ctx, d.ID)
	switch {
	case err == nil && sum == w.startSum:
		return nil
	case err == nil:
		err = superseded(d.ID)
	case isAbsent(err):
		err = &state.Error{
			Code: state.CodeStale, Text: fmt.Sprintf("backup %s was aborted and removed by another while it was written", d.ID),
			Hint: "take the backup again", Err: store.ErrNotExist,
		}
	default:
		return err
	}
	_ = w.c.repo.Store().Delete(ctx, w.c.key.commitFile(d.ID)) // ours, and of no use; if it stays, it is listed as corrupt
	return err
}

// superseded is the error for a writer that slept while its backup was aborted, removed, and copied here from another repository.
func superseded(id string) error {
	return &state.Error{
		Code: state.CodeStale, Text: fmt.Sprintf("backup %s was aborted, removed and begun again by another while it was written", id),
		Hint: "look again: pgkeep plan",
	}
}
