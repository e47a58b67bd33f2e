package basebackup

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/repository"
)

// Options say how to take the backup. The clock and the random number are arguments, so that a test decides them.
type Options struct {
	Server       string        // stored name, for messages
	Label        string        // as backup_label shows it; empty: the id
	Kind         string        // full, or empty for it, or incremental, which becomes full where the parent is not fit
	Parent       string        // of an incremental: the backup on which it builds, in every destination
	Continues    []string      // of a full one: cut backups, the best first, with what is stored of which it goes on, in those destinations that have them
	MarkEvery    int64         // bytes of volumes between two marks of how far it has come, at first; 0: 64 MiB
	Schedule     string        // which ordered it
	Checkpoint   string        // fast | spread
	MaxRate      int64         // bytes a second; 0: no bound
	Compression  string        // of the transfer: "" or none, else what PostgreSQL 15 and later take, "zstd:1"
	VerifyPages  bool          // check page checksums, in the server and here
	FromStandby  bool          // the server is a standby
	Host         string        // this machine, as START names it
	Machine      string        // its identity, as START names it; empty: not known, and the lock says nothing to others
	Program      string        // "pgkeep 0.1.0"
	LockDir      string        // where writers hold their locks; every pgkeep of this machine looks there
	Captured     []byte        // settings and hba rules as JSON; nil where the role could not read them
	Relations    []byte        // names of relations by relfilenode as JSON; nil: not known
	StallTimeout time.Duration // a repository that takes nothing for so long is given up; 0: 5 minutes
	Now          func() time.Time
	Random       func() uint32
	Report       func(Progress)     // nil: none; called at most four times a second
	Truncated    Truncated          // nil: an incremental is compared with its parent, whatever the server can tell
	Compare      string             // why an incremental is compared with its parent although the server could tell; empty: it may tell
	Budget       *repository.Budget // of the process; nil: its own memory does not count against others'
}

// Outcome is what became of the backup in one repository.
type Outcome struct {
	Repository string // its path, or its identity
	Committed  bool
	Err        error // of a repository in which it is not committed
}

// Result is what became of the backup.
type Result struct {
	ID       string
	Kind     string // full | incremental
	WhyFull  string // why it is full although an incremental was ordered
	Compared string // of an incremental: why the whole cluster was read and compared; empty: the server told which pages changed
	Referred int64  // of Bytes: what other backups' volumes have
	// Continued are the cut backups with which it went on: it is incremental then, although a full one was ordered.
	Continued []string
	Info      postgres.BackupResult
	Bytes     int64 // of the cluster's files
	Files     int64
	Stored    int64     // bytes put into each repository
	Received  int64     // bytes that came over the connection: with Options.Compression, compressed
	Outcomes  []Outcome // in the order of the destinations
	Damaged   []repository.DamagedPages
	Suspects  []repository.DamagedPages // failed only here, and it cannot be told whether a restore would have them so
	Renewed   int64                     // pages that failed only here and that the backup's own WAL writes anew: torn by a write, and harmless
}

// memory is what one Take holds: frames, volumes and compressors; of an incremental also what it knows of its parent.
const (
	memory       = 64 << 20
	parentMemory = 32 << 20
)

// decideTimeout bounds the decision after the caller's context has ended.
const decideTimeout = 30 * time.Second

// Take takes one base backup into every destination in one pass. The error is nil when at least one repository has
// it committed; Outcomes tells of each. When it is not nil, the backup is decided `aborted` wherever that was possible;
// where it was not, its START and its free lock tell the next plan.
func Take(ctx context.Context, conn *postgres.Replication, dst []*repository.Cluster, o Options) (Result, error) {
	if err := o.check(dst); err != nil {
		return Result{}, err
	}
	if o.Budget != nil {
		need := int64(memory)
		if o.Kind == repository.KindIncremental {
			need += parentMemory
		}
		need += parentMemory * int64(min(len(o.Continues), maxContinued))
		release, err := o.Budget.Acquire(ctx, need)
		if err != nil {
			return Result{}, fmt.Errorf("wait for memory: %w", err)
		}
		defer release()
	}
	before := conn.Received()
	t := &taking{ctx: ctx, o: o, version: conn.Version(), outcomes: make([]Outcome, len(dst)), members: newMembers(), dst: dst}
	defer t.members.known.close()
	for i, c := range dst {
		t.outcomes[i].Repository = c.Where()
	}
	err := t.findCut(ctx)
	why := ""
	if err == nil {
		why, err = t.findParent(ctx, conn)
	}
	if err == nil {
		var full string
		if full, err = t.findSummaries(ctx, conn); why == "" {
			why = full
		}
	}
	if err != nil {
		return Result{Outcomes: t.outcomes}, fmt.Errorf("back up %s: %w", o.Server, err)
	}
	result, err := t.try(ctx, conn)
	var refused *postgres.RefusedError
	if t.summaries && errors.As(err, &refused) {
		why = t.compare("the server has not all that is needed: " + refused.Why)
		result, err = t.try(ctx, conn)
	}
	result.Received = conn.Received() - before
	if t.continued != nil {
		result.Continued = t.continued.ids
	}
	result.ID, result.Kind, result.WhyFull, result.Compared, result.Outcomes = t.id, t.kind(), why, t.compared, t.outcomes
	if err != nil {
		return result, fmt.Errorf("back up %s: %w", o.Server, err)
	}
	return result, nil
}

// try takes the backup of the kind, and in the way, that is decided by now. Where the server refuses to take it in this way,
// nothing has begun.
func (t *taking) try(ctx context.Context, conn *postgres.Replication) (Result, error) {
	t.began = t.o.Now()
	t.id = repository.NewBackupID(t.began, t.kind(), t.o.Random())
	if t.o.LockDir != "" {
		lock, err := t.dst[0].LockBackup(t.o.LockDir, t.id)
		if err != nil {
			return Result{}, fmt.Errorf("lock backup %s: %w", t.id, err)
		}
		defer func() { _ = lock.Unlock() }() // its file is of no use to anybody else
	}
	defer t.endLeases()
	return t.run(ctx, conn)
}

func (o *Options) check(dst []*repository.Cluster) error {
	switch {
	case len(dst) == 0:
		return errors.New("no repository to back up into")
	case o.Kind != "" && o.Kind != repository.KindFull && o.Kind != repository.KindIncremental, (o.Kind == repository.KindIncremental) != (o.Parent != ""):
		return &state.Error{Code: state.CodeSettings, Text: fmt.Sprintf("a backup of kind %q with parent %q cannot be taken", o.Kind, o.Parent), Hint: "take a full backup"}
	case o.Now == nil || o.Random == nil:
		return errors.New("no clock or random number given")
	}
	if o.Compression == "none" {
		o.Compression = ""
	}
	return nil
}

// run streams and decides.
func (t *taking) run(ctx context.Context, conn *postgres.Replication) (Result, error) {
	label := t.o.Label
	if label == "" {
		label = "pgkeep " + t.id
	}
	t.report(Progress{Phase: PhaseCheckpoint})
	how := postgres.BackupOptions{
		Label: label, Checkpoint: t.o.Checkpoint, MaxRate: t.o.MaxRate, VerifyPages: t.o.VerifyPages, Compression: t.o.Compression,
	}
	if t.summaries {
		manifest := t.parentManifest(ctx)
		defer func() { _ = manifest.Close() }() // what went wrong with it BaseBackup gives
		how.Incremental = manifest
	}
	info, err := conn.BaseBackup(ctx, how, t)
	if err == nil {
		err = t.complete(info)
		t.label = postgres.FullLabel(t.label)
	}
	if err == nil {
		err = context.Cause(ctx)
	}
	var j judgement
	if err == nil {
		j = t.judge(ctx, conn, info) // may take minutes: the time to decide begins after it
	}
	decide, cancel := context.WithTimeout(context.WithoutCancel(ctx), decideTimeout)
	defer cancel()
	if err != nil {
		t.abort(decide, err)
		return Result{Info: info}, err
	}
	return t.commit(ctx, decide, info, j)
}

// commit stores what is kept beside the data, and decides.
func (t *taking) commit(ctx, decide context.Context, info postgres.BackupResult, j judgement) (Result, error) {
	t.report(Progress{Phase: PhaseFinishing, Done: t.done, Total: t.total})
	facts := repository.CommitFacts{Stop: info.StopLSN, Timeline: info.Timeline, Ended: t.o.Now(), Decided: t.o.Now(), By: t.o.Host}
	r := Result{Info: info, Bytes: t.members.bytes, Files: t.members.files}
	facts.Damaged, facts.DamageText, facts.Suspects = j.damaged, j.text, j.suspects
	r.Damaged, r.Suspects, r.Renewed = j.damaged, j.suspects, j.renewed
	committed := false
	for _, g := range t.groups {
		if g.err == nil {
			g.err = g.stream.Keep(repository.Kept{BackupLabel: t.label, Captured: t.o.Captured, Relations: t.o.Relations})
		}
		var out []repository.StreamOutcome
		if g.err == nil {
			out, g.err = g.stream.Commit(ctx, facts)
		} else {
			out = g.stream.Abort(decide, g.err.Error(), t.o.Now())
		}
		r.Stored, r.Referred = max(r.Stored, g.stream.Stored()), max(r.Referred, g.stream.Referred())
		committed = t.note(g, out) || committed
	}
	if committed {
		return r, nil
	}
	return r, t.failures()
}

// abort decides `aborted` everywhere.
func (t *taking) abort(ctx context.Context, why error) {
	for _, g := range t.groups {
		t.note(g, g.stream.Abort(ctx, why.Error(), t.o.Now()))
	}
	for _, w := range t.idle {
		t.fail(w.at, errors.Join(why, w.writer.Abort(ctx, why.Error(), t.o.Now())))
	}
}

// note keeps what became of a group's repositories, and tells whether one has committed.
func (t *taking) note(g *group, out []repository.StreamOutcome) bool {
	committed := false
	for i, o := range out {
		at := g.at[i]
		t.outcomes[at].Committed, t.outcomes[at].Err = o.Err == nil, o.Err
		committed = committed || o.Err == nil
	}
	return committed
}

func (t *taking) fail(at int, err error) { t.outcomes[at].Err = err }

func (t *taking) failures() error {
	var errs []error
	for _, o := range t.outcomes {
		if o.Err != nil {
			errs = append(errs, fmt.Errorf("repository %s: %w", o.Repository, o.Err))
		}
	}
	return errors.Join(errs...)
}
