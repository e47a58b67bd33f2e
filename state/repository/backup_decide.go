package repository

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/store"
)

// AbortBackup decides `aborted` unless the backup is decided already, and gives what it is now: BackupAborted, or
// BackupCommitted or BackupDamaged when its writer was first, or BackupCut when somebody goes on with it. From then on a writer that wakes up late fails.
func (c *Cluster) AbortBackup(ctx context.Context, id, why string, now time.Time) (state.BackupState, error) {
	if err := CheckBackupID(id); err != nil {
		return "", err
	}
	d, err := c.decide(ctx, decision{
		Format: backupFormat, ID: id, Decision: decidedAborted, Why: why, Decided: now.UTC(), Ended: now.UTC(),
	})
	if err == nil && d.Decision == decidedCut {
		var left bool
		if left, err = c.leftOfCut(ctx, id); left {
			return state.BackupAborted, err
		}
	}
	if err != nil {
		return "", fmt.Errorf("abort backup %s: %w", id, err)
	}
	return d.state(), nil
}

// leftOfCut tells of a backup that is decided `cut` whether it was removed before that: its START is gone.
func (c *Cluster) leftOfCut(ctx context.Context, id string) (bool, error) {
	begun, err := c.exists(ctx, c.key.startFile(id))
	return err == nil && !begun, err
}

// decide puts a decision and gives the one that stands: ours, or the one that was there first.
func (c *Cluster) decide(ctx context.Context, d decision) (decision, error) {
	key := c.key.commitFile(d.ID)
	putter := c
	if d.Decision != decidedCommitted {
		putter = c.passing()
	}
	err := putter.putRecord(ctx, key, d)
	if err == nil {
		return d, nil
	}
	if !errors.Is(err, store.ErrExists) {
		return decision{}, err
	}
	return c.readDecision(ctx, d.ID)
}

// readDecision reads COMMIT.json and checks that it is this backup's.
func (c *Cluster) readDecision(ctx context.Context, id string) (decision, error) {
	var d decision
	key := c.key.commitFile(id)
	if err := c.readRecord(ctx, key, &d); err != nil {
		return decision{}, err
	}
	switch {
	case d.ID != id:
		return decision{}, corrupt(key, fmt.Errorf("it is the decision of backup %s", d.ID))
	case d.Format > backupFormat && (d.Format != cutFormat || d.Decision != decidedCut):
		return decision{}, newerFormat(key, d.Format)
	case d.Decision != decidedCommitted && d.Decision != decidedAborted && d.Decision != decidedCut:
		return decision{}, corrupt(key, fmt.Errorf("it decides %q", d.Decision))
	}
	return d, nil
}

// readStart reads START.json and checks that it is this backup's.
func (c *Cluster) readStart(ctx context.Context, id string) (Start, error) {
	s, _, err := c.readStartSum(ctx, id)
	return s, err
}

// readStartSum is readStart, and gives the SHA-256 of the object, as COMMIT names it.
func (c *Cluster) readStartSum(ctx context.Context, id string) (s Start, sum string, err error) {
	key := c.key.startFile(id)
	b, err := c.readObject(ctx, key, maxRecord)
	if err != nil {
		return Start{}, "", err
	}
	if err := decodeRecord(b, &s); err != nil {
		return Start{}, "", corrupt(key, err)
	}
	if s.ID != id {
		return Start{}, "", corrupt(key, fmt.Errorf("it is the START of backup %s", s.ID))
	}
	if s.Format > backupFormat {
		return Start{}, "", newerFormat(key, s.Format)
	}
	digest := sha256.Sum256(b)
	return s, hex.EncodeToString(digest[:]), nil
}

func newerFormat(key string, format int) error {
	return &state.Error{
		Code: state.CodeNewerFormat,
		Text: fmt.Sprintf("object %s has format %d; this pgkeep reads up to %d", key, format, backupFormat),
		Hint: "use the newer pgkeep that wrote it",
	}
}

// state gives what the decision alone says.
func (d decision) state() state.BackupState {
	switch {
	case d.Decision == decidedAborted:
		return state.BackupAborted
	case d.Decision == decidedCut:
		return state.BackupCut
	case d.damaged():
		return state.BackupDamaged
	}
	return state.BackupCommitted
}

func (d decision) damaged() bool { return d.DamageText != "" || len(d.Damaged) > 0 }
