package repository

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/wal"
)

// VerifyOptions go with Cluster.Examine.
type VerifyOptions struct {
	Level   state.VerifyLevel
	Sample  int           // percent of volumes and segments that a full look reads; 0: all
	Backups []string      // only these, and the WAL; empty: everything
	MaxAge  time.Duration // backups that were read whole within it are looked at quickly; 0: none
	MaxRate int64         // bytes a second that are read; 0: as fast as it goes
	Restart bool          // begin anew where an earlier look was broken off
	Every   time.Duration // between two notes of how far it is; 0: five minutes
	Now     func() time.Time
	Report  func(done, total int64) // bytes; nil: nobody is told

	step int // as depth's
}

func (o VerifyOptions) check() error {
	switch {
	case o.Level != state.VerifyQuick && o.Level != state.VerifyFull:
		return fmt.Errorf("verify: %q is no level", o.Level)
	case o.Sample < 0 || o.Sample > 100 || o.Sample > 0 && o.Level != state.VerifyFull:
		return fmt.Errorf("verify: %d %% is no sample of a %s look", o.Sample, o.Level)
	}
	for _, id := range o.Backups {
		if err := CheckBackupID(id); err != nil {
			return err
		}
	}
	return nil
}

// maxResume is how old a look that was broken off may be to be gone on with.
const maxResume = 14 * 24 * time.Hour

// Examine verifies what is kept of the cluster, says what each damage makes unrecoverable, and keeps the result as
// evidence. A look that was broken off, also by a kill, goes on where its last note stands when the same is asked for
// again. What was damaged before is read again at every level. The result is right also where the error says that it
// could not be kept.
func (c *Cluster) Examine(ctx context.Context, o VerifyOptions) (state.Verification, error) {
	if err := o.check(); err != nil {
		return state.Verification{}, err
	}
	if o.Every == 0 {
		o.Every = 5 * time.Minute
	}
	x := &examination{o: o, store: c}
	m := &metered{Store: c.repo.st, rate: o.MaxRate, now: o.Now, tell: x.progress}
	repo := *c.repo
	repo.st = m
	if b := c.repo.box; b != nil { // what is read is what is stored
		m.Store = b.Store
		repo.box = &box{Store: m, v: b.v, reload: b.reload}
		repo.st = repo.box
	}
	x.c, x.m = &Cluster{repo: &repo, key: c.key}, m
	if err := x.run(ctx); err != nil {
		return x.result, fmt.Errorf("verify %s: %w", c.key.Name, err)
	}
	return x.result, nil
}

// examination is one run of Examine.
type examination struct {
	o     VerifyOptions
	c     *Cluster // whose reads are counted and held back
	store *Cluster // that evidence is put through
	m     *metered
	total int64

	before  *state.Verification
	check   *clusterCheck
	result  state.Verification
	found   []Finding
	wrong   int
	written time.Time

	objects, bytes int64 // that the look which this one goes on with has read
}

func (x *examination) progress(bytes int64) {
	if x.o.Report != nil {
		x.o.Report(min(bytes, x.total), x.total)
	}
}

func (x *examination) run(ctx context.Context) error {
	before, err := x.store.Verified(ctx)
	if err != nil {
		return err
	}
	x.before = before
	if x.before == nil {
		x.before = &state.Verification{}
	}
	x.begin()
	if err := x.measure(ctx); err != nil {
		return err
	}
	if err := x.check.run(ctx); err != nil {
		return err
	}
	j := judgement{v: x.check, findings: x.found}
	if err := j.run(ctx); err != nil {
		return err
	}
	x.wrong += len(j.findings) - len(x.found)
	x.found, x.result.Chains, x.result.BadWAL = j.findings, brief(j.chains), j.bad()
	x.result.ReadWAL = x.readWAL()
	x.result.Ended = x.o.Now().UTC()
	return x.keep(ctx, nil)
}

// begin decides where the look begins.
func (x *examination) begin() {
	x.result = state.Verification{Kind: state.VerificationKind, Level: x.o.Level, Sample: x.o.Sample, Only: x.o.Backups, Began: x.o.Now().UTC()}
	x.written = x.result.Began
	d := &depth{full: x.o.Level == state.VerifyFull, sample: uint64(x.o.Sample), doubt: map[string]bool{}, step: x.o.step}
	x.check = newClusterCheck(x.c, d)
	b := x.before
	if b.Cursor != nil && b.Ended.IsZero() && !x.o.Restart && b.Level == x.o.Level && b.Sample == x.o.Sample && slices.Equal(b.Only, x.o.Backups) &&
		x.result.Began.Sub(b.Began) < maxResume && b.Wrong <= len(b.Damage) { // what it has found and not named would not be found again
		x.result.Began, x.objects, x.bytes = b.Began, b.Objects, b.Bytes
		x.check.from = *b.Cursor
	}
	d.seed = uint64(x.result.Began.UnixNano())
	for _, f := range b.Damage {
		d.doubt[f.Object] = true
	}
	x.check.only, x.check.mark, x.check.report = x.o.Backups, x.mark, x.take
	x.check.fresh = map[string]bool{}
	for _, k := range b.Backups {
		x.check.fresh[k.ID] = x.o.MaxAge > 0 && !k.Full.IsZero() && x.o.Now().Sub(k.Full) < x.o.MaxAge
	}
	x.check.done = x.backupDone
}

// measure tells how much there is to read.
func (x *examination) measure(ctx context.Context) error {
	if x.o.Level != state.VerifyFull || x.o.Report == nil {
		return nil
	}
	backups, err := x.store.Backups(ctx)
	if err != nil && !untrusted(err) {
		return err
	}
	for _, b := range backups {
		if (len(x.o.Backups) == 0 || slices.Contains(x.o.Backups, b.ID)) && !x.check.fresh[b.ID] && b.ID >= x.check.from.Backup {
			x.total += b.StoredBytes
		}
	}
	ranges, err := x.store.WALRanges(ctx)
	for _, r := range ranges {
		x.total += r.Bytes
	}
	if x.o.Sample > 0 {
		x.total = x.total * int64(x.o.Sample) / 100
	}
	if err != nil && ctx.Err() != nil {
		return err
	}
	return nil // what keeps it from being measured is found by the look
}

// take notes a finding.
func (x *examination) take(f Finding) {
	x.wrong++
	if len(x.found) < 10*maxFindings {
		x.found = append(x.found, f)
	}
}

// backupDone keeps what a full look at one backup has found beside it.
func (x *examination) backupDone(ctx context.Context, id string, found []Finding) error {
	now := x.o.Now().UTC()
	r := Verification{ID: id, At: now, Full: true, Took: now.Sub(x.result.Began), Findings: found, Wrong: len(found)}
	return x.store.RecordVerification(ctx, r)
}

// mostMissing is how many missing stretches evidence names, for all backups together; of each at least one.
const mostMissing = 8000

// brief leaves of each chain the first stretches that are missing, for evidence has a bound and their number grows with the square
// of the backups.
func brief(chains []state.Chain) []state.Chain {
	for i := range chains {
		c := &chains[i]
		n := min(len(c.Missing), max(1, mostMissing/len(chains)))
		c.Missing, c.MoreMissing = c.Missing[:n], len(c.Missing)-n
	}
	return chains
}

// mark keeps how far the look is, now and then.
func (x *examination) mark(ctx context.Context, at state.VerifyCursor) error {
	if x.o.Now().Sub(x.written) < x.o.Every {
		return nil
	}
	x.written = x.o.Now()
	return x.keep(ctx, &at)
}

// keep puts the evidence. An unfinished look says what was known before it, and what it has found so far.
func (x *examination) keep(ctx context.Context, at *state.VerifyCursor) error {
	x.check.mu.Lock()
	e := x.evidence(at)
	x.check.mu.Unlock()
	when := x.afterAll(ctx, x.o.Now().UTC())
	for {
		err := x.store.PutEvidence(ctx, when, e)
		if !errors.Is(err, store.ErrExists) {
			x.result = e
			return err
		}
		when = when.Add(1)
	}
}

// afterAll gives a moment that no evidence of a verification is later than: what a machine whose clock was ahead has put hides
// nothing newer. What cannot be read here leaves the moment as it is.
func (x *examination) afterAll(ctx context.Context, when time.Time) time.Time {
	keys, err := x.store.noteKeys(ctx, x.store.key.evidenceDir(), when)
	if err != nil {
		return when
	}
	for i, key := range slices.Backward(keys) {
		var v state.Verification
		n, err := x.store.readNote(ctx, key)
		if err == nil && json.Unmarshal(n.Entry, &v) == nil && v.Kind == state.VerificationKind && !n.At.Before(when) {
			return n.At.Add(1)
		}
		if len(keys)-i > maxEvidence {
			break
		}
	}
	return when
}

func (x *examination) evidence(at *state.VerifyCursor) state.Verification {
	e := x.result
	e.Cursor, e.Quick, e.Full = at, x.before.Quick, x.before.Full
	objects, bytes := x.m.counts()
	e.Objects, e.Bytes = x.objects+objects, x.bytes+bytes
	e.Damage, e.Wrong = slices.Clone(x.found), x.wrong
	for _, f := range x.before.Damage {
		again := slices.ContainsFunc(x.found, func(o Finding) bool { return o.Object == f.Object })
		if !again && (at != nil || !x.looked(f.Object)) {
			e.Damage, e.Wrong = append(e.Damage, f), e.Wrong+1
		}
	}
	e.Wrong += x.unnamed()
	e.Damage = e.Damage[:min(len(e.Damage), 100)]
	if at != nil {
		e.BadWAL, e.Chains, e.ReadWAL = x.before.BadWAL, x.before.Chains, x.before.ReadWAL
	}
	if at == nil && len(x.o.Backups) == 0 {
		e.Quick = state.Look{Began: e.Began, Ended: e.Ended}
		if e.Level == state.VerifyFull {
			e.Full = state.Look{Began: e.Began, Ended: e.Ended, Sample: e.Sample}
		}
	}
	e.Backups = x.verified(at)
	for i := range e.Damage {
		e.Damage[i].Text = shortened(e.Damage[i].Text)
	}
	for i := range e.Backups {
		e.Backups[i].Why = shortened(e.Backups[i].Why)
	}
	return e
}

// longestText is how many bytes of an explanation evidence keeps: it has a bound, and an explanation may repeat what somebody planted.
const longestText = 1000

func shortened(s string) string {
	if len(s) <= longestText {
		return s
	}
	return strings.ToValidUTF8(s[:longestText], "") + "…"
}

// readWAL gives the whole segments that are known to have been read and to be sound.
func (x *examination) readWAL() []wal.Range {
	have := x.before.ReadWAL
	if x.o.Level == state.VerifyFull && x.o.Sample == 0 {
		have = nil
		for t, w := range x.check.seenWAL {
			for _, r := range w.runs {
				have = append(have, wal.Range{Timeline: t, From: wal.Segment{Number: r.first}.Start(x.check.z), To: wal.Segment{Number: r.last}.End(x.check.z)})
			}
		}
	}
	var out []wal.Range
	for _, r := range wal.Merge(have) {
		out = append(out, wal.Missing(r, x.result.BadWAL)...)
	}
	return out
}

// unnamed counts what an earlier look has found and not named, so that one which does not read everything cannot look whether
// it is still so.
func (x *examination) unnamed() int {
	if x.o.Level == state.VerifyFull && x.o.Sample == 0 && x.o.MaxAge == 0 && len(x.o.Backups) == 0 {
		return 0
	}
	return max(0, x.before.Wrong-len(x.before.Damage))
}

// looked tells whether the look that has ended was at this object too.
func (x *examination) looked(key string) bool {
	k := x.c.key
	if len(x.o.Backups) == 0 {
		return true
	}
	if len(key) > len(k.walDir()) && (key[:len(k.walDir())] == k.walDir() || key[:len(k.indexDir())] == k.indexDir()) {
		return key[:len(k.historyDir())] != k.historyDir()
	}
	return slices.ContainsFunc(x.o.Backups, func(id string) bool {
		dir := k.backupDir(id)
		return len(key) >= len(dir) && key[:len(dir)] == dir
	})
}

// verified says of each backup when it was looked at.
func (x *examination) verified(at *state.VerifyCursor) []state.VerifiedBackup {
	all := map[string]state.VerifiedBackup{}
	for _, b := range x.before.Backups {
		if at != nil || len(x.o.Backups) > 0 && !slices.Contains(x.o.Backups, b.ID) {
			all[b.ID] = b
		}
	}
	old := map[string]state.VerifiedBackup{}
	for _, b := range x.before.Backups {
		old[b.ID] = b
	}
	for _, k := range x.check.kept {
		if at != nil && at.Timeline == 0 && k.ID >= at.Backup {
			continue
		}
		why := x.check.cannot[k.ID]
		if was := old[k.ID]; why == nil && was.Damaged && (at != nil || x.unnamed() > 0) {
			all[k.ID] = was // that it is sound again is known in the end, and where every damage was looked at again
			continue
		}
		b := state.VerifiedBackup{ID: k.ID, Quick: x.result.Began, Full: old[k.ID].Full, Restorable: true}
		if x.o.Level == state.VerifyFull && x.o.Sample == 0 && !x.check.fresh[k.ID] {
			b.Full = x.result.Began
		}
		if why != nil {
			b.Restorable, b.Why = false, why.Error()
			b.Damaged = at != nil || slices.ContainsFunc(x.found, func(f Finding) bool { return slices.Contains(f.Hurts, k.ID) })
		}
		all[k.ID] = b
	}
	return slices.SortedFunc(maps.Values(all), func(a, b state.VerifiedBackup) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
}

// BackupIDs lists what is below the cluster and is named like a backup, whatever has become of it, oldest first.
func (c *Cluster) BackupIDs(ctx context.Context) ([]string, error) {
	if err := c.key.Check(); err != nil {
		return nil, fmt.Errorf("list backups: %w", err)
	}
	return c.backupIDs(ctx)
}

// maxEvidence is how many pieces of evidence are read to find one of a verification.
const maxEvidence = 500

// Verified gives what the newest evidence of a verification says; nil: there is none. Evidence that cannot be read is passed over.
func (c *Cluster) Verified(ctx context.Context) (*state.Verification, error) {
	keys, err := c.noteKeys(ctx, c.key.evidenceDir(), time.Time{})
	if err != nil {
		return nil, err
	}
	for i, key := range slices.Backward(keys) {
		if len(keys)-i > maxEvidence {
			break
		}
		n, err := c.readNote(ctx, key)
		switch {
		case ctx.Err() != nil:
			return nil, fmt.Errorf("read evidence: %w", context.Cause(ctx))
		case unanswered(err): // an older one would say that what was found damaged since is sound
			return nil, fmt.Errorf("read evidence: %w", err)
		case err != nil:
			continue
		}
		var v state.Verification
		if err := json.Unmarshal(n.Entry, &v); err == nil && v.Kind == state.VerificationKind {
			return &v, nil
		}
	}
	return nil, nil //nolint:nilnil // there is none
}
