package repository

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/store"
)

// Finding is one thing wrong with a backup.
type Finding struct {
	Object string     `json:"object"` // key in the store
	Code   state.Code `json:"code"`
	Text   string     `json:"text"`
}

// check compares stored bytes with their line.
func (l sumLine) check(b []byte) error {
	switch sum := sha256.Sum256(b); {
	case int64(len(b)) != l.size:
		return fmt.Errorf("it is not the %d bytes that were written", l.size)
	case sum != l.sum:
		return errors.New("its SHA-256 is not the one that was written")
	}
	return nil
}

// VerifyBackup proves a committed backup's stored bytes: every object that its sums and references name is there with
// its size (quick) or its SHA-256 (full), and nothing else is. What is wrong is reported, and the look goes on; the error
// is for what kept it from looking.
func (c *Cluster) VerifyBackup(ctx context.Context, id string, full bool, report func(Finding)) error {
	if err := CheckBackupID(id); err != nil {
		return err
	}
	v := &verification{c: c, id: id, full: full, report: report, expected: map[string]bool{}}
	d, err := c.readDecision(ctx, id)
	if err != nil {
		return v.reportOr(ctx, c.key.commitFile(id), err)
	}
	if d.Decision != decidedCommitted {
		return fmt.Errorf("verify backup %s: it is aborted", id)
	}
	if err := v.run(ctx, d); err != nil {
		return fmt.Errorf("verify backup %s: %w", id, err)
	}
	return nil
}

// Verify is VerifyBackup of an open backup.
func (b *BackupReader) Verify(ctx context.Context, full bool, report func(Finding)) error {
	return b.c.VerifyBackup(ctx, b.rec.id, full, report)
}

// verification is one run of Verify.
type verification struct {
	c        *Cluster
	id       string
	full     bool
	report   func(Finding)
	sizes    map[string]int64 // of what the store has under the prefix
	expected map[string]bool
}

func (v *verification) run(ctx context.Context, d decision) error {
	if err := v.list(ctx); err != nil {
		return err
	}
	if err := v.records(ctx, d); err != nil {
		return err
	}
	for _, part := range []struct {
		dir    string
		shards []shardSum
	}{{sumsDir, d.Sums}, {refsDir, d.Refs}} {
		for n, want := range part.shards {
			if err := v.lines(ctx, shardName(part.dir, n), want); err != nil {
				return err
			}
		}
	}
	for name := range v.sizes {
		if !v.expected[name] {
			v.find(v.c.key.backupDir(v.id)+name, state.CodeCorrupt, "no list of sums names this object")
		}
	}
	return nil
}

// list notes the size of everything under the backup's prefix.
func (v *verification) list(ctx context.Context) error {
	v.sizes = map[string]int64{}
	dir := v.c.key.backupDir(v.id)
	for info, err := range v.c.repo.Store().List(ctx, dir, "", false) {
		if err != nil {
			return fmt.Errorf("list %s: %w", dir, err)
		}
		v.sizes[strings.TrimPrefix(info.Key, dir)] = info.Size
	}
	return nil
}

// records checks the small objects, each of which proves itself.
func (v *verification) records(ctx context.Context, d decision) error {
	v.expected[decisionName], v.expected[startName] = true, true
	key := v.c.key.startFile(v.id)
	body, err := v.c.readObject(ctx, key, maxRecord)
	if err == nil {
		if sum := sha256.Sum256(body); hex.EncodeToString(sum[:]) != d.StartSum {
			err = corrupt(key, errors.New("its SHA-256 is not the one that COMMIT names"))
		}
	}
	if err := v.reportOr(ctx, key, err); err != nil {
		return err
	}
	for name := range v.sizes {
		if err := v.smallRecord(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

func (v *verification) smallRecord(ctx context.Context, name string) error {
	hold := strings.HasPrefix(name, holdPrefix)
	if name != tombName && !hold && !strings.HasPrefix(name, verifyPrefix) {
		return nil
	}
	v.expected[name] = true
	var r struct {
		ID     string `json:"id"`
		Number int    `json:"number"`
	}
	key := v.c.key.backupDir(v.id) + name
	err := v.c.readRecord(ctx, key, &r)
	if err == nil && (r.ID != v.id || hold && v.c.key.holdFile(v.id, r.Number) != key) {
		err = corrupt(key, fmt.Errorf("it belongs to backup %s", r.ID))
	}
	return v.reportOr(ctx, key, err)
}

// lines checks one sums or refs shard, and everything that it names.
func (v *verification) lines(ctx context.Context, name string, want shardSum) error {
	v.expected[name] = true
	key := v.c.key.backupDir(v.id) + name
	body, err := v.c.readObject(ctx, key, want.Size)
	if err == nil {
		if sumErr := want.check(body); sumErr != nil {
			err = corrupt(key, sumErr)
		}
	}
	if err != nil {
		return v.reportOr(ctx, key, err)
	}
	return parseSums(body, func(l sumLine) error { return v.object(ctx, l) })
}

// object checks one object that a list names.
func (v *verification) object(ctx context.Context, l sumLine) error {
	key := v.c.key.backupDir(v.id) + l.name
	size, there := v.sizes[l.name]
	if other, volume, err := splitReference(l.name); err == nil {
		key = v.c.key.backupDir(other) + volume
		info, err := v.c.repo.Store().Stat(ctx, key)
		if err != nil && !errors.Is(err, store.ErrNotExist) {
			return v.reportOr(ctx, key, err)
		}
		size, there = info.Size, err == nil
	}
	v.expected[l.name] = true
	switch {
	case !there:
		v.find(key, state.CodeCorrupt, "it is missing")
		return nil
	case size != l.size:
		v.find(key, state.CodeCorrupt, fmt.Sprintf("it has %d bytes; %d were written", size, l.size))
		return nil
	case !v.full:
		return nil
	}
	return v.reportOr(ctx, key, v.c.proveObject(ctx, key, l))
}

// proveObject reads a whole object and compares its SHA-256.
func (c *Cluster) proveObject(ctx context.Context, key string, l sumLine) error {
	r, err := c.repo.Store().Get(ctx, key, 0, -1)
	if err != nil {
		return fmt.Errorf("get %s: %w", key, err)
	}
	h := sha256.New()
	n, err := io.Copy(h, r)
	if closeErr := r.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("get %s: %w", key, err)
	}
	if n != l.size || [sha256.Size]byte(h.Sum(nil)) != l.sum {
		return corrupt(key, errors.New("its SHA-256 is not the one that was written"))
	}
	return nil
}

func (v *verification) find(key string, code state.Code, text string) {
	v.report(Finding{Object: key, Code: code, Text: text})
}

func (v *verification) reportOr(ctx context.Context, key string, err error) error {
	return reportOr(ctx, v.report, key, err)
}

// reportOr reports an error that is about one object; one that ends the look is given back.
func reportOr(ctx context.Context, report func(Finding), key string, err error) error {
	find := func(code state.Code, text string) { report(Finding{Object: key, Code: code, Text: text}) }
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, store.ErrNotExist):
		find(state.CodeCorrupt, "it is missing")
	case state.CodeOf(err) != "":
		find(state.CodeOf(err), err.Error())
	case errors.Is(err, fs.ErrPermission):
		find(state.CodePermission, err.Error())
	default:
		find(state.CodeIO, err.Error())
	}
	return nil
}

// Verification is VERIFY-<time>.json: the result of one look.
type Verification struct {
	Format   int           `json:"format"`
	ID       string        `json:"id"`
	At       time.Time     `json:"at"`
	Full     bool          `json:"full"`
	Took     time.Duration `json:"took_ns"`
	Findings []Finding     `json:"findings,omitempty"` // the first hundred
	Wrong    int           `json:"wrong"`              // how many there were
}

// RecordVerification keeps the result of a look beside the backup.
func (c *Cluster) RecordVerification(ctx context.Context, r Verification) error {
	if err := CheckBackupID(r.ID); err != nil {
		return err
	}
	r.Format, r.At, r.Findings = backupFormat, r.At.UTC(), r.Findings[:min(len(r.Findings), 100)]
	if err := c.putRecord(ctx, c.key.verifyFile(r.ID, r.At), r); err != nil {
		return fmt.Errorf("record verification of %s: %w", r.ID, err)
	}
	return nil
}
