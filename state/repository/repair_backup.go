package repository

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/pgkeep/pgkeep/state"
)

// ofBackup decides how an object of a backup is to be healed.
func (h *healing) ofBackup(ctx context.Context, id, name string, f state.Damage) (*healing, error) {
	if r, err := h.c.readBackup(ctx, id); err != nil {
		return nil, err
	} else if !r.remains { // it was removed since
		h.sound = func(context.Context, *Cluster) error { return nil }
		return h, nil
	}
	switch {
	case name == startName:
		return h.ofStart(ctx, id)
	case name == decisionName:
		return h.ofDecision(id), nil
	case strings.HasPrefix(name, sumsDir), strings.HasPrefix(name, refsDir):
		return h.ofList(ctx, id, name)
	case strings.HasPrefix(name, verifyPrefix): // what an earlier look found is told by the next one
		h.sound = func(ctx context.Context, in *Cluster) error { var v Verification; return in.readRecord(ctx, h.key, &v) }
		h.rebuild = func(context.Context) error { return nil }
		return h, nil
	case name == "", name == tombName, strings.HasPrefix(name, holdPrefix):
		return nil, nil //nolint:nilnil // each repository has its own
	}
	line, err := h.c.lineOf(ctx, id, name, f.Hurts)
	if errors.Is(err, errNotNamed) {
		return nil, nil //nolint:nilnil // a stranger
	}
	if err != nil && !isCorrupt(err) && !isAbsent(err) {
		return nil, err
	}
	if err != nil {
		h.sound = func(context.Context, *Cluster) error { return err } // the list that would prove it is damaged itself
		return h, nil
	}
	h.sound = func(ctx context.Context, in *Cluster) error { _, err := in.provedObject(ctx, h.key, line); return err }
	h.fetch = func(ctx context.Context, in *Cluster) ([]byte, error) { return in.provedObject(ctx, h.key, line) }
	return h, nil
}

// lineOf gives what this repository's own lists say of an object: those of its backup, else those of the backups that read it.
func (c *Cluster) lineOf(ctx context.Context, id, name string, readers []string) (sumLine, error) {
	var found *sumLine
	find := func(want string) func(sumLine) error {
		return func(l sumLine) error {
			if l.name == want {
				found = &l
			}
			return nil
		}
	}
	d, err := c.readDecision(ctx, id)
	if err == nil {
		err = c.readSums(ctx, id, sumsDir, d.Sums, find(name))
	}
	for _, reader := range readers {
		if found != nil || reader == id || !strings.HasPrefix(name, volumeDir) {
			continue
		}
		if r, readErr := c.readDecision(ctx, reader); readErr == nil {
			_ = c.readSums(ctx, reader, refsDir, r.Refs, find(referenceName(id, name))) // another one may tell
		}
	}
	switch {
	case found != nil:
		return *found, nil
	case err != nil:
		return sumLine{}, err
	}
	return sumLine{}, errNotNamed
}

// ofStart: COMMIT names START. Only one that was written in the same pass has the same.
func (h *healing) ofStart(ctx context.Context, id string) (*healing, error) {
	d, err := h.c.readDecision(ctx, id)
	if isCorrupt(err) || isAbsent(err) {
		bad := corrupt(h.key, errors.New("COMMIT.json, which would prove it, cannot be read either"))
		h.sound = func(context.Context, *Cluster) error { return bad }
		return h, nil
	}
	if err != nil {
		return nil, err
	}
	h.limit = maxRecord
	h.sound = func(ctx context.Context, in *Cluster) error {
		_, sum, err := in.readStartSum(ctx, id)
		if err == nil && sum != d.StartSum {
			err = corrupt(h.key, errors.New("its SHA-256 is not the one that COMMIT names"))
		}
		return err
	}
	return h, nil
}

// ofDecision: a decision is healed when the backup was decided elsewhere, and the lists here are those that this decision names.
// It names START of this repository, as every copy's does.
func (h *healing) ofDecision(id string) *healing {
	c := h.c
	h.sound = func(ctx context.Context, in *Cluster) error {
		_, err := in.readDecision(ctx, id)
		return err
	}
	h.fetch = func(ctx context.Context, in *Cluster) ([]byte, error) {
		d, err := in.readDecision(ctx, id)
		if err != nil {
			return nil, err
		}
		_, sum, err := c.readStartSum(ctx, id)
		if err != nil {
			return nil, err
		}
		if d.state() != state.BackupCommitted {
			return nil, errors.New("it is not committed there")
		}
		for dir, shards := range map[string][]shardSum{sumsDir: d.Sums, refsDir: d.Refs} {
			for n, want := range shards {
				key := c.key.backupDir(id) + shardName(dir, n)
				body, err := c.readObject(ctx, key, want.Size)
				if err == nil {
					err = want.check(body)
				}
				if err != nil {
					return nil, fmt.Errorf("it names other lists than those that are here: %s: %w", key, err)
				}
			}
		}
		d.StartSum = sum
		return encodeRecord(d)
	}
	return h
}

// ofList: COMMIT names the shards of sums/ and refs/.
func (h *healing) ofList(ctx context.Context, id, name string) (*healing, error) {
	d, err := h.c.readDecision(ctx, id)
	if err != nil && !isCorrupt(err) && !isAbsent(err) {
		return nil, err
	}
	dir, digits, _ := strings.Cut(name, "/")
	n, bad := strconv.Atoi(digits)
	shards := map[string][]shardSum{sumsDir: d.Sums, refsDir: d.Refs}[dir+"/"]
	if bad != nil || err == nil && (n < 0 || n >= len(shards)) {
		return nil, nil //nolint:nilnil // a stranger
	}
	if err != nil {
		h.sound = func(context.Context, *Cluster) error { return err }
		return h, nil
	}
	want := shards[n]
	h.limit = want.Size
	h.sound = func(ctx context.Context, in *Cluster) error {
		body, err := in.readObject(ctx, h.key, want.Size)
		if err != nil {
			return missing(h.key, err)
		}
		if sum := sha256.Sum256(body); hex.EncodeToString(sum[:]) != want.SHA256 {
			return corrupt(h.key, errSum)
		}
		return nil
	}
	return h, nil
}
