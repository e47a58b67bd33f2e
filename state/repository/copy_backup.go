package repository

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/store"
)

// CopyIntent says which backup is copied, and who does it, as START of the copy will.
type CopyIntent struct {
	ID      string // the same in both repositories
	Host    string // the machine that copies, where its lock can be looked at
	Machine string // its identity; empty: not known, and its lock says nothing
	Lock    string // where the lock lies (LockPlace); empty: no lock is held
	Program string // "pgkeep 0.1.0"
	Now     func() time.Time
	Report  func(done, total int64) // bytes; nil: nobody is told. Called by several goroutines, one at a time
}

// Copied says what became of a copy.
type Copied struct {
	Bytes   int64 // that were put, those of records not counted
	Kept    int64 // that an earlier copier, which was killed, had put, and that were proved
	Already bool  // the repository had the backup before
	// Alone says that the copy refers to no other backup although its original does: the volumes that it reads of others were
	// copied into it.
	Alone bool
}

// copyHold is for how long the original is held, so that what a copy reads is not deleted. A copy that was killed leaves its
// hold, which the next copy into the same repository replaces.
const copyHold = 48 * time.Hour

// CopyBackup copies a committed, sound backup into another repository, under the same id. The copy is a backup being
// written and obeys the same protocol: START first, then all that it holds, each object proved by the SHA-256 that the
// original's lists have of it, COMMIT last. When it fails, `aborted` is decided, or its START and its free lock tell the
// next plan. The original is held meanwhile.
//
// What a copier of this machine that was killed has left, under the lock that the caller holds now, is gone on with: its START stays,
// and objects that are there are read and proved instead of put.
//
// An incremental backup refers to the same volumes when the other repository has them, byte for byte, in backups that stand
// there; else they are copied along and the copy stands alone.
//
// The error has CodeStale when the original is not there, or something of that id is in the other repository already;
// CodeCorrupt when the original is damaged.
func CopyBackup(ctx context.Context, from, to *Cluster, in CopyIntent) (Copied, error) {
	if err := copyable(from, to); err != nil {
		return Copied{}, fmt.Errorf("copy backup %s: %w", in.ID, err)
	}
	if err := CheckBackupID(in.ID); err != nil {
		return Copied{}, err
	}
	c := &backupCopy{from: from, to: to, in: in}
	if err := c.run(ctx); err != nil {
		return c.copied, fmt.Errorf("copy backup %s: %w", in.ID, err)
	}
	return c.copied, nil
}

// copyable tells whether anything can be copied. What is encrypted is decrypted and encrypted anew, with the keys of the other repository: lists
// of sums are of what was sealed, so the copy is the same backup. That takes the data key.
func copyable(from, to *Cluster) error {
	switch {
	case from.key != to.key:
		return fmt.Errorf("%s of system %s is not %s of system %s", from.key.Name, from.key.SystemID, to.key.Name, to.key.SystemID)
	case from.repo.ID() == to.repo.ID():
		return fmt.Errorf("both are repository %s", to.repo.ID())
	case !from.repo.ReadsData():
		return &state.Error{
			Code: state.CodeNoKey, Text: fmt.Sprintf("what repository %s holds cannot be copied from here: no identity here reads its data", from.repo.ID()),
			Hint: "run pgkeep where an identity of one of its data_recipients is; a new base backup goes into both",
		}
	}
	return nil
}

// ensureLike is Ensure for facts of another repository. A major version of 0 is one that was not known when it was written.
func (c *Cluster) ensureLike(ctx context.Context, f ClusterFacts) error {
	there, err := c.Facts(ctx)
	if err == nil && (there.Major == 0 || f.Major == 0) && there.SegmentSize == f.SegmentSize && there.PageSize == f.PageSize {
		return nil
	}
	return c.Ensure(ctx, f)
}

// backupCopy is one run of CopyBackup.
type backupCopy struct {
	from, to *Cluster
	in       CopyIntent
	original record
	reads    map[volumeKey]sumLine // volumes of others that the original reads
	w        *BackupWriter
	begun    *record      // what a copier that was killed has left; nil: nothing
	absent   atomic.Int32 // how many objects it was found not to have left, since the last one that it has
	copied   Copied

	telling     sync.Mutex
	done, total int64
}

func (c *backupCopy) run(ctx context.Context) error {
	if there, err := c.there(ctx); there || err != nil {
		c.copied.Already = there
		return err
	}
	err := c.bring(ctx)
	if err != nil && c.w == nil && c.begun != nil { // nobody else decides about what was left: this copier lets go of its lock
		err = (&BackupWriter{c: c.to, start: *c.begun.start, startSum: c.begun.startSum}).settle(ctx, err, c.in.Now(), c.to.AbortBackup)
	}
	return err
}

// bring copies, and decides.
func (c *backupCopy) bring(ctx context.Context) error {
	release, err := c.hold(ctx)
	if err != nil {
		return err
	}
	defer release()
	if err := c.look(ctx); err != nil {
		return err
	}
	facts, err := c.from.Facts(ctx)
	if err != nil {
		return err
	}
	if err := c.to.ensureLike(ctx, facts); err != nil {
		return err
	}
	if err := c.choose(ctx); err != nil {
		return err
	}
	if err := c.announce(ctx); err != nil {
		return err
	}
	endLease := c.w.keepLease(ctx, c.in.Now)
	defer endLease()
	d, err := c.fill(ctx)
	if err == nil {
		err = c.checkReads(ctx) // against disks and people, as every backup is
	}
	if err == nil {
		err = context.Cause(ctx)
	}
	if err == nil {
		d.By, d.Decided = c.in.Host, c.in.Now().UTC()
		err = c.w.commit(ctx, d)
	}
	if err != nil {
		return c.w.settle(ctx, err, c.in.Now(), c.to.AbortBackup)
	}
	return nil
}

// there tells whether the copy is there already. Anything else under that id keeps it from being made: what an aborted try
// left must be removed first, because its writer may still decide.
func (c *backupCopy) there(ctx context.Context) (bool, error) {
	r, err := c.to.readBackup(ctx, c.in.ID)
	if err != nil || !r.remains {
		return false, err
	}
	if r.visible() {
		return true, nil
	}
	if c.continues(r) {
		c.begun = &r
		return false, nil
	}
	what := "something without START"
	if b, ok := r.describe(); ok {
		what = "a backup that is " + string(b.State)
	}
	return false, &state.Error{
		Code: state.CodeStale, Text: fmt.Sprintf("%s of that id is in the other repository", what),
		Hint: "look again: pgkeep plan; what a try that failed has left is removed first",
	}
}

// continues tells whether what is there was left by a copier of the same original that this one can stand in for: one under the same lock,
// which the caller holds, so that it is dead.
func (c *backupCopy) continues(r record) bool {
	s := r.start
	return s != nil && c.in.Machine != "" && c.in.Lock != "" && r.decided == nil && r.decidedBad == nil && r.tomb == nil && r.tombBad == nil &&
		s.CopyOf == c.from.repo.ID() && s.Machine == c.in.Machine && s.Host == c.in.Host && s.Lock == c.in.Lock
}

// hold keeps the original and what it reads. Where it cannot be written to, 24 hours after a TOMB must do.
func (c *backupCopy) hold(ctx context.Context) (release func(), err error) {
	now := c.in.Now()
	h := state.Hold{Holder: c.holder(), Reason: "being copied by " + c.in.Host, Expires: now.Add(copyHold)}
	err = c.from.Hold(ctx, c.in.ID, h, now)
	switch state.CodeOf(err) {
	case state.CodePermission, state.CodeDiskFull, state.CodeNoKey:
		return func() {}, nil //nolint:nilerr // as above
	}
	if err != nil {
		return nil, err
	}
	return func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTime)
		defer cancel()
		_ = c.from.ReleaseBy(end, c.in.ID, h.Holder, c.in.Now()) // it expires
	}, nil
}

// holder names the hold of a copier: by repository and machine, because copiers of two machines may race and the one that loses must
// not release what the other one needs; on one machine they have a lock.
func (c *backupCopy) holder() string {
	sum := sha256.Sum256([]byte(c.in.Host + "\x00" + c.in.Machine + "\x00" + c.in.Lock))
	return "copy-" + c.to.repo.ID() + "-" + hex.EncodeToString(sum[:8])
}

// look reads the original.
func (c *backupCopy) look(ctx context.Context) error {
	r, err := c.from.readBackup(ctx, c.in.ID)
	if err != nil {
		return err
	}
	b, _ := r.describe()
	switch {
	case r.corrupt():
		return &state.Error{Code: state.CodeCorrupt, Text: "the original cannot be trusted", Hint: "pgkeep verify", Err: r.why()}
	case !r.visible():
		return &state.Error{Code: state.CodeStale, Text: "the original is not there, not committed or being deleted", Hint: "look again: pgkeep plan"}
	case b.State != state.BackupCommitted:
		return &state.Error{Code: state.CodeCorrupt, Text: "the original is damaged: " + b.Failure, Hint: "take a new backup: pgkeep backup"}
	}
	why, err := c.from.knownDamage(ctx, c.in.ID)
	if err != nil {
		return err
	}
	if why != "" {
		return &state.Error{Code: state.CodeCorrupt, Text: "the original was found damaged: " + why, Hint: "pgkeep repair heals it where another repository has it whole"}
	}
	c.original, c.reads = r, map[volumeKey]sumLine{}
	return c.from.volumesOf(ctx, r, func(k volumeKey, l sumLine) error {
		if k.backup != r.id {
			c.reads[k] = l
		}
		return nil
	})
}

// announce puts START: the original's, by another writer. As BeginBackup does, it looks only then whether what is referred
// to stands.
func (c *backupCopy) announce(ctx context.Context) error {
	s := *c.original.start
	s.Format, s.Host, s.Machine, s.Lock, s.Leased, s.Program = backupFormat, c.in.Host, c.in.Machine, c.in.Lock, true, c.in.Program
	s.CopyOf, s.Names = c.from.repo.ID(), nil
	if !c.copied.Alone {
		s.Names = c.original.decided.RefersTo
	}
	if c.begun != nil {
		return c.goOn(ctx, s)
	}
	body, err := encodeRecord(s)
	if err != nil {
		return err
	}
	if err := c.to.putRecord(ctx, c.to.key.startFile(s.ID), s); err != nil {
		if errors.Is(err, store.ErrExists) {
			return &state.Error{Code: state.CodeStale, Text: "another writes it there at this moment", Hint: "look again: pgkeep plan", Err: err}
		}
		return err
	}
	sum := sha256.Sum256(body)
	c.w = &BackupWriter{c: c.to, start: s, startSum: hex.EncodeToString(sum[:])}
	return c.checkNamed(ctx)
}

// goOn takes the START that is there for its own, when it says what its own would.
func (c *backupCopy) goOn(ctx context.Context, s Start) error {
	left := *c.begun.start
	c.w = &BackupWriter{c: c.to, start: left, startSum: c.begun.startSum}
	if left.Format != s.Format || left.Program != s.Program || left.Redo != s.Redo || left.Parent != s.Parent || !slices.Equal(left.Names, s.Names) {
		return c.w.settle(ctx, &state.Error{
			Code: state.CodeStale, Text: "the copy that was begun there was to be another", Hint: "look again: pgkeep plan; what it left is removed first",
		}, c.in.Now(), c.to.AbortBackup)
	}
	return c.checkNamed(ctx)
}

// checkNamed looks, after START, whether what it names stands.
func (c *backupCopy) checkNamed(ctx context.Context) error {
	for _, id := range c.w.start.Names {
		if err := c.to.checkParent(ctx, id); err != nil {
			return c.w.settle(ctx, err, c.in.Now(), c.to.AbortBackup)
		}
	}
	return nil
}

// checkReads makes sure, just before the decision, that all that is referred to is still there and not known to be damaged.
func (c *backupCopy) checkReads(ctx context.Context) error {
	if c.copied.Alone || len(c.reads) == 0 {
		return nil
	}
	want := make(map[volumeKey]int64, len(c.reads))
	for k, l := range c.reads {
		want[k] = l.size
	}
	return c.to.checkVolumes(ctx, want)
}

// keepLease renews the writer's lease until the function that it gives is called, which takes it away.
func (w *BackupWriter) keepLease(ctx context.Context, now func() time.Time) (end func()) {
	l := w.Lease()
	renewing, stop := context.WithCancel(ctx)
	var group sync.WaitGroup
	_ = l.Renew(renewing, now()) // it only prevents wasted work
	group.Go(func() {
		tick := time.NewTicker(LeaseRenewal)
		defer tick.Stop()
		for {
			select {
			case <-renewing.Done():
				return
			case <-tick.C:
				_ = l.Renew(renewing, now()) // the next try comes in time
			}
		}
	})
	return func() {
		stop()
		group.Wait()
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTime)
		defer cancel()
		_ = l.Release(ending) // what stays goes with the backup
	}
}
