package repository

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/store"
)

// Finding is one thing wrong with what is stored.
type Finding = state.Damage

// check compares stored bytes with their line.
func (l sumLine) check(b []byte) error {
	switch sum := sha256.Sum256(b); {
	case int64(len(b)) != l.size:
		return fmt.Errorf("it is not the %d bytes that were written", l.size)
	case sum != l.sum:
		return errSum
	}
	return nil
}

var errSum = errors.New("its SHA-256 is not the one that was written")

// VerifyBackup looks at a committed backup. Quick: every object that its sums and references name is there with its
// size, and nothing else is. Full: every stored byte has the SHA-256 that was written, and every frame that its files
// lie in comes out of the reader that a restore uses. What is wrong is reported, and the look goes on; the error is for
// what kept it from looking.
func (c *Cluster) VerifyBackup(ctx context.Context, id string, full bool, report func(Finding)) error {
	_, err := c.verifyBackup(ctx, id, &depth{full: full}, resume{}, report)
	return err
}

// Verify is VerifyBackup of an open backup.
func (b *BackupReader) Verify(ctx context.Context, full bool, report func(Finding)) error {
	return b.c.VerifyBackup(ctx, b.rec.id, full, report)
}

// restorability is what a look at a backup tells of restoring it.
type restorability struct {
	why     error    // a restore would fail with this; nil: it can be restored, as far as was looked
	volumes []string // the keys of volumes that keep it from being restored
}

// verifyBackup is VerifyBackup, and tells whether the backup can be restored.
func (c *Cluster) verifyBackup(ctx context.Context, id string, d *depth, from resume, report func(Finding)) (restorability, error) {
	if err := CheckBackupID(id); err != nil {
		return restorability{}, err
	}
	v := &verification{c: c, id: id, depth: d, from: from, report: report}
	decided, err := c.readDecision(ctx, id)
	if err != nil {
		return restorability{why: err}, v.reportOr(ctx, c.key.commitFile(id), err)
	}
	if decided.Decision != decidedCommitted {
		return restorability{}, fmt.Errorf("verify backup %s: it is aborted", id)
	}
	if err := v.run(ctx, decided); err != nil {
		return restorability{}, fmt.Errorf("verify backup %s: %w", id, err)
	}
	return v.restore, nil
}

// verification is one look at a backup.
type verification struct {
	c        *Cluster
	id       string
	depth    *depth
	from     resume
	d        decision
	refersTo []string
	table    sumTable

	mu      sync.Mutex
	report  func(Finding)
	found   int
	restore restorability
}

func (v *verification) run(ctx context.Context, d decision) error {
	v.d = d
	if err := v.start(ctx); err != nil {
		return err
	}
	lines := v.depth.lines
	if lines == 0 {
		lines = tableLines
	}
	parts := partsOf(d, lines)
	for part := range parts {
		v.table = sumTable{part: part, parts: parts, lines: map[string]*tableLine{}}
		if err := v.lists(ctx); err != nil {
			return err
		}
		if err := v.look(ctx); err != nil {
			return err
		}
		if err := v.rest(ctx, false); err != nil {
			return err
		}
		if err := v.data(ctx); err != nil {
			return err
		}
		if err := v.rest(ctx, true); err != nil {
			return err
		}
	}
	return nil
}

// start checks START, which COMMIT names.
func (v *verification) start(ctx context.Context) error {
	key := v.c.key.startFile(v.id)
	body, err := v.c.readObject(ctx, key, maxRecord)
	if err == nil {
		if sum := sha256.Sum256(body); hex.EncodeToString(sum[:]) != v.d.StartSum {
			err = corrupt(key, errors.New("its SHA-256 is not the one that COMMIT names"))
		}
	}
	return v.reportOr(ctx, key, err)
}

// lists reads sums/ and refs/, and fills the table. What they name that lies in other backups is noted.
func (v *verification) lists(ctx context.Context) error {
	for _, part := range []struct {
		dir    string
		shards []shardSum
	}{{sumsDir, v.d.Sums}, {refsDir, v.d.Refs}} {
		for n, want := range part.shards {
			key := v.c.key.backupDir(v.id) + shardName(part.dir, n)
			body, err := v.c.readObject(ctx, key, want.Size)
			if err == nil {
				if sumErr := want.check(body); sumErr != nil {
					err = corrupt(key, sumErr)
				}
			}
			if err == nil {
				if bad := v.table.fill(body); bad != nil {
					err = corrupt(key, bad)
				}
			}
			if err := v.once(ctx, key, err); err != nil {
				return err
			}
		}
	}
	for name := range v.table.lines {
		if id, _, err := splitReference(name); err == nil && !slices.Contains(v.refersTo, id) {
			v.refersTo = append(v.refersTo, id)
		}
	}
	return nil
}

// once reports what every part of a look finds again.
func (v *verification) once(ctx context.Context, key string, err error) error {
	if v.table.part > 0 {
		return nil
	}
	return v.reportOr(ctx, key, err)
}

// unlisted looks at what lies below the backup's prefix and is in no list: a record that proves itself, or a stranger.
func (v *verification) unlisted(ctx context.Context, name string) error {
	key := v.c.key.backupDir(v.id) + name
	hold := strings.HasPrefix(name, holdPrefix)
	switch {
	case name == startName, name == decisionName, v.isList(name), strings.HasPrefix(name, marksDir): // nobody reads marks of a committed backup
		return nil
	case name != tombName && !hold && !strings.HasPrefix(name, verifyPrefix):
		v.find(key, "no list of sums names this object")
		return nil
	}
	var r struct {
		ID     string `json:"id"`
		Number int    `json:"number"`
	}
	err := v.c.readRecord(ctx, key, &r)
	if isAbsent(err) {
		return nil // removed since it was listed
	}
	if err == nil && (r.ID != v.id || hold && v.c.key.holdFile(v.id, r.Number) != key) {
		err = corrupt(key, fmt.Errorf("it belongs to backup %s", r.ID))
	}
	return v.reportOr(ctx, key, err)
}

// isList tells whether a name is that of a shard that COMMIT names.
func (v *verification) isList(name string) bool {
	for dir, n := range map[string]int{sumsDir: len(v.d.Sums), refsDir: len(v.d.Refs)} {
		digits, ok := strings.CutPrefix(name, dir)
		if !ok {
			continue
		}
		for i := range n {
			if digits == shardName("", i) {
				return true
			}
		}
	}
	return false
}

// rest reads what the files do not lead to: the shards beforehand, and afterwards volumes that no file lies in.
func (v *verification) rest(ctx context.Context, volumes bool) error {
	for name, l := range v.table.lines {
		key := v.keyOf(name)
		if isVolume := strings.HasPrefix(name, volumeDir) || strings.HasPrefix(name, "../"); isVolume != volumes {
			continue
		}
		if l.read || !l.there || !v.depth.reads(key) || v.depth.known(key, l.sum) {
			continue
		}
		if err := v.reportOr(ctx, key, v.c.proveObject(ctx, key, sumLine{name: name, size: l.size, sum: l.sum})); err != nil {
			return err
		}
	}
	return nil
}

// proveObject reads a whole object and compares its SHA-256.
func (c *Cluster) proveObject(ctx context.Context, key string, l sumLine) error {
	if c.closed(key) {
		return c.proveSealed(ctx, key, l)
	}
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
		return corrupt(key, errSum)
	}
	return nil
}

func (v *verification) find(key, format string, args ...any) {
	v.add(Finding{Object: key, Code: state.CodeCorrupt, Text: fmt.Sprintf(format, args...)})
}

func (v *verification) add(f Finding) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.found++
	v.report(f)
}

func (v *verification) reportOr(ctx context.Context, key string, err error) error {
	return reportOr(ctx, v.add, key, err)
}

// reportOr reports an error that is about one object; one that ends the look is given back.
func reportOr(ctx context.Context, report func(Finding), key string, err error) error {
	find := func(code state.Code, text string) { report(Finding{Object: key, Code: code, Text: text}) }
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case unanswered(err):
		return err
	case errors.Is(err, store.ErrNotExist):
		find(state.CodeCorrupt, "it is missing")
	case state.CodeOf(err) != "":
		find(state.CodeOf(err), reasonOf(err))
	case errors.Is(err, fs.ErrPermission):
		find(state.CodePermission, err.Error())
	default:
		find(state.CodeIO, err.Error())
	}
	return nil
}

// unanswered tells whether a store was not reached at all: that says nothing about the object that was asked for.
func unanswered(err error) bool {
	return slices.Contains([]state.Code{state.CodeUnreachable, state.CodeTLS}, state.CodeOf(err))
}

// reasonOf leaves out that an object cannot be trusted, which is said of it already.
func reasonOf(err error) string {
	var e *state.Error
	if errors.As(err, &e) && e.Code == state.CodeCorrupt && e.Err != nil {
		return e.Err.Error()
	}
	return err.Error()
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
