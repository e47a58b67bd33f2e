package repository

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// Verify looks at every object of the repository and reports what is wrong: what does not prove itself, what changed places,
// what another object names and is not there, and what is no object of the format. full reads every byte; else the bytes of
// volumes and of WAL are left out, and sizes and notes are looked at. What is wrong with one object hides no other; the error is for what kept it
// from looking.
//
// Nothing names a journal entry, a piece of evidence, a recorded gap, a HOLD, a pushed part of a segment that the index does
// not cover yet, or WAL at the end of a timeline that no backup needs: that one of these was removed cannot be seen. Nor can it be seen
// that such an object is the one of the same name from another life of the same cluster. Leases and README.txt hold nothing back and are not looked at.
func (r *Repository) Verify(ctx context.Context, full bool, report func(Finding)) error {
	again := Repository{}
	b, err := readAll(ctx, r.st, repositoryKey, maxRepositoryFile)
	if err == nil {
		err = again.read(b, r.ring)
	}
	if err == nil && again.file.ID != r.file.ID {
		err = corrupt(repositoryKey, fmt.Errorf("it is of repository %s", again.file.ID))
	}
	if err := reportOr(ctx, report, repositoryKey, err); err != nil {
		return fmt.Errorf("verify repository: %w", err)
	}
	if err := r.verifyKeys(ctx, report); err != nil {
		return fmt.Errorf("verify repository: %w", err)
	}
	keys, err := r.Clusters(ctx)
	if err != nil {
		return fmt.Errorf("verify repository: %w", err)
	}
	for _, k := range keys {
		if err := r.Cluster(k.Name, k.SystemID).Verify(ctx, full, report); err != nil {
			return err
		}
	}
	return nil
}

// Verify is Repository.Verify for what is kept of one cluster.
func (c *Cluster) Verify(ctx context.Context, full bool, report func(Finding)) error {
	v := newClusterCheck(c, &depth{full: full})
	v.report = report
	if err := v.run(ctx); err != nil {
		return fmt.Errorf("verify cluster %s: %w", c.key.Name, err)
	}
	return nil
}

// clusterCheck is one look at what is kept of a cluster.
type clusterCheck struct {
	c      *Cluster
	depth  *depth
	only   []string           // backups; empty: all, and everything else too
	from   state.VerifyCursor // where an earlier look was broken off
	mark   func(context.Context, state.VerifyCursor) error
	mu     sync.Mutex
	report func(Finding)

	z       wal.SegmentSize                                             // zero: cluster.json cannot be read
	kept    []state.Backup                                              // committed, and not on their way out
	cannot  map[string]error                                            // backups that cannot be restored, and why
	hurt    map[string][]string                                         // backups that a damaged volume keeps from being restored, by its key
	asked   map[string]bool                                             // backups that were looked at in their turn
	fresh   map[string]bool                                             // backups that are looked at quickly all the same
	done    func(ctx context.Context, id string, found []Finding) error // after a full look at a backup; nil: nobody is told
	seenWAL map[wal.Timeline]*timelineCheck
}

func newClusterCheck(c *Cluster, d *depth) *clusterCheck {
	return &clusterCheck{
		c: c, depth: d, cannot: map[string]error{}, hurt: map[string][]string{}, asked: map[string]bool{}, fresh: map[string]bool{}, seenWAL: map[wal.Timeline]*timelineCheck{},
		mark: func(context.Context, state.VerifyCursor) error { return nil },
	}
}

func (v *clusterCheck) run(ctx context.Context) error {
	if err := v.c.key.Check(); err != nil {
		return err
	}
	facts, err := v.c.readFacts(ctx) // not what is remembered
	if err := v.find(ctx, v.c.key.clusterFile(), err); err != nil {
		return err
	}
	v.z = facts.SegmentSize
	looks := []func(context.Context) error{v.places, v.backups, v.records, v.histories, v.archive, v.readers}
	if len(v.only) > 0 {
		looks = []func(context.Context) error{v.backups, v.archive, v.readers}
	}
	for _, look := range looks {
		if err := look(ctx); err != nil {
			return err
		}
	}
	return nil
}

// add reports. Several goroutines may.
func (v *clusterCheck) add(f Finding) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.report(f)
}

// find reports an error that is about one object, and gives back one that ends the look. An object that went away since it
// was listed is for the caller to judge.
func (v *clusterCheck) find(ctx context.Context, key string, err error) error {
	return reportOr(ctx, v.add, key, err)
}

// places looks for what lies where the format has nothing.
func (v *clusterCheck) places(ctx context.Context) error {
	k := v.c.key
	for _, dir := range []string{k.dir(), k.walDir(), k.indexDir(), k.backupsDir()} {
		for info, err := range v.c.repo.st.List(ctx, dir, "", true) {
			if err != nil {
				return fmt.Errorf("list %s: %w", dir, err)
			}
			if !v.belongs(dir, info.Key) {
				v.stranger(info.Key)
			}
		}
	}
	return nil
}

func (v *clusterCheck) belongs(dir, key string) bool {
	k := v.c.key
	switch dir {
	case k.dir():
		switch key {
		case k.clusterFile(), k.backupsDir(), k.walDir(), k.indexDir(), k.gapDir(), k.evidenceDir(), k.journalDir():
			return true
		}
		return false
	case k.backupsDir():
		return CheckBackupID(strings.TrimSuffix(strings.TrimPrefix(key, dir), "/")) == nil && strings.HasSuffix(key, "/")
	}
	_, timeline := parseTimelineDir(dir, key)
	return timeline || key == k.historyDir()
}

func (v *clusterCheck) stranger(key string) {
	v.add(Finding{Object: key, Code: state.CodeCorrupt, Text: "it is no object of the repository's format"})
}

// backups verifies those that can be read, and names those of which a record cannot.
func (v *clusterCheck) backups(ctx context.Context) error {
	ids, err := v.c.backupIDs(ctx)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if len(v.only) > 0 && !slices.Contains(v.only, id) {
			continue
		}
		v.asked[id] = true
		if err := v.backup(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// readers looks for the damaged volumes in those backups whose own look could not come upon them: that were not asked for, were
// read lately, were committed meanwhile, or were through when an earlier look was broken off.
func (v *clusterCheck) readers(ctx context.Context) error {
	if len(v.hurt) == 0 {
		return nil
	}
	ids, err := v.c.backupIDs(ctx)
	if err != nil {
		return err
	}
	doubt := map[string]bool{}
	for key := range v.hurt {
		doubt[key] = true
	}
	for _, id := range ids {
		asked := v.asked[id] && slices.ContainsFunc(v.kept, func(b state.Backup) bool { return b.ID == id })
		if v.cannot[id] != nil || asked && !v.fresh[id] && !v.passed(id) {
			continue
		}
		r, err := v.c.readBackup(ctx, id)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil || !r.visible() || !v.reads(r, doubt) {
			continue
		}
		if !asked {
			b, _ := r.describe()
			v.kept, v.fresh[id] = append(v.kept, b), true
		}
		known := func(f Finding) bool { return asked || doubt[f.Object] }
		if err := v.look(ctx, id, &depth{doubt: doubt}, resume{}, known); err != nil {
			return err
		}
	}
	return nil
}

// reads tells whether any of these volumes may be among those that a backup reads.
func (v *clusterCheck) reads(r record, volumes map[string]bool) bool {
	for key := range volumes {
		for _, id := range append([]string{r.id}, r.decided.RefersTo...) {
			if strings.HasPrefix(key, v.c.key.backupDir(id)) {
				return true
			}
		}
	}
	return false
}

func (v *clusterCheck) backup(ctx context.Context, id string) error {
	r, err := v.c.readBackup(ctx, id)
	if err != nil {
		return v.unreadable(ctx, id, err)
	}
	switch {
	case r.corrupt():
		v.cannot[id] = r.why()
		v.add(Finding{Object: v.badRecord(r), Code: state.CodeCorrupt, Text: r.why().Error()})
	case r.visible():
		b, _ := r.describe()
		v.kept = append(v.kept, b)
		return v.committed(ctx, id)
	case r.complete && r.start != nil && r.decided == nil && r.tomb == nil:
		return v.undecided(ctx, r)
	}
	return nil
}

// committed looks at a backup that is there. What is found while somebody deletes it is nothing.
func (v *clusterCheck) committed(ctx context.Context, id string) error {
	d := v.depth
	if v.fresh[id] {
		d = &depth{doubt: d.doubt}
	}
	return v.look(ctx, id, d, v.resume(id), func(Finding) bool { return false })
}

// look looks at one backup, and reports what is not known yet.
func (v *clusterCheck) look(ctx context.Context, id string, d *depth, from resume, known func(Finding) bool) error {
	var found []Finding
	look, err := v.c.verifyBackup(ctx, id, d, from, func(f Finding) {
		if len(found) < maxFindings && !known(f) {
			found = append(found, f)
		}
	})
	if len(found) > 0 || look.why != nil || err != nil {
		again, readErr := v.c.readBackup(ctx, id)
		if readErr == nil && (again.tomb != nil || again.aborted() || !again.remains) {
			v.kept = slices.DeleteFunc(v.kept, func(b state.Backup) bool { return b.ID == id })
			return nil
		}
	}
	for _, f := range found {
		v.add(f)
	}
	if look.why != nil {
		v.cannot[id] = look.why
	}
	for _, key := range look.volumes {
		v.hurt[key] = append(v.hurt[key], id)
	}
	if err == nil && v.done != nil && d.full && d.sample == 0 && !v.passed(id) {
		err = v.done(ctx, id, found)
	}
	return err
}

// passed tells whether an earlier look that goes on here was through with a backup.
func (v *clusterCheck) passed(id string) bool { return v.from.Timeline != 0 || v.from.Backup > id }

// maxFindings is how many findings about one backup are worth keeping.
const maxFindings = 1000

// resume tells where the look at the data of a backup goes on, and passes on how far it is. Backups are looked at in the
// order of their ids.
func (v *clusterCheck) resume(id string) resume {
	r := resume{reached: func(ctx context.Context, shard, volume int) error {
		return v.mark(ctx, state.VerifyCursor{Backup: id, Shard: shard, Volume: volume})
	}}
	switch {
	case v.passed(id):
		r.shard = math.MaxInt
	case v.from.Backup == id:
		r.shard, r.volume = v.from.Shard, v.from.Volume
	}
	return r
}

// undecided names the decision of a backup that has lost it. Its writer may be deciding at this moment: what says that it
// ended is asked before the decision is looked for once more.
func (v *clusterCheck) undecided(ctx context.Context, r record) error {
	lives, _, err := v.c.liveness(ctx, r.start, nil, time.Time{})
	if err != nil || lives != WriterEnded {
		return err
	}
	again, err := v.c.readBackup(ctx, r.id)
	if err != nil || again.decided != nil || again.tomb != nil || again.start == nil {
		return err
	}
	v.cannot[r.id] = errDecisionLost
	v.add(Finding{Object: v.c.key.commitFile(r.id), Code: state.CodeCorrupt, Text: errDecisionLost.Error()})
	return nil
}

// unreadable names the records of a backup that cannot be read, else the backup.
func (v *clusterCheck) unreadable(ctx context.Context, id string, err error) error {
	v.cannot[id] = err
	_, startErr := v.c.readStart(ctx, id)
	_, decisionErr := v.c.readDecision(ctx, id)
	_, tombErr := v.c.readTomb(ctx, id)
	named := false
	for key, why := range map[string]error{
		v.c.key.startFile(id): startErr, v.c.key.commitFile(id): decisionErr, v.c.key.tombFile(id): tombErr,
	} {
		if why == nil || isAbsent(why) {
			continue
		}
		named = true
		if err := v.find(ctx, key, why); err != nil {
			return err
		}
	}
	if named {
		return nil
	}
	return v.find(ctx, v.c.key.backupDir(id), err)
}

// badRecord gives the key of the record that makes a backup corrupt.
func (v *clusterCheck) badRecord(r record) string {
	switch {
	case r.tombBad != nil:
		return v.c.key.tombFile(r.id)
	case r.startBad == nil && r.decidedBad != nil:
		return v.c.key.commitFile(r.id)
	}
	return v.c.key.startFile(r.id)
}

// records reads what is recorded of gaps, and the notes.
func (v *clusterCheck) records(ctx context.Context) error {
	k := v.c.key
	read := map[string]func(string) error{
		k.gapDir(): func(key string) error {
			r, ok := k.parseGapFile(key)
			if !ok {
				v.stranger(key)
				return nil
			}
			_, err := v.c.readGap(ctx, key, r)
			return err
		},
		k.evidenceDir(): func(key string) error { _, err := v.c.readNote(ctx, key); return err },
		k.journalDir():  func(key string) error { _, err := v.c.readNote(ctx, key); return err },
	}
	for _, dir := range []string{k.gapDir(), k.evidenceDir(), k.journalDir()} {
		if err := v.each(ctx, dir, read[dir]); err != nil {
			return err
		}
	}
	return nil
}

// each reads every object below a directory.
func (v *clusterCheck) each(ctx context.Context, dir string, read func(key string) error) error {
	for info, err := range v.c.repo.st.List(ctx, dir, "", false) {
		if err != nil {
			return fmt.Errorf("list %s: %w", dir, err)
		}
		err := read(info.Key)
		if isAbsent(err) {
			continue // deleted since it was listed
		}
		if err := v.find(ctx, info.Key, err); err != nil {
			return err
		}
	}
	return nil
}

// histories reads every timeline's history, and misses those of timelines that have WAL.
func (v *clusterCheck) histories(ctx context.Context) error {
	there := map[wal.Timeline]bool{1: true}
	err := v.each(ctx, v.c.key.historyDir(), func(key string) error {
		t, ok := v.c.key.parseHistoryFile(key)
		if !ok {
			v.stranger(key)
			return nil
		}
		there[t] = true
		content, err := v.c.History(ctx, t)
		if err == nil {
			if _, bad := wal.ParseHistory(t, content); bad != nil {
				err = corrupt(key, bad)
			}
		}
		return err
	})
	if err != nil {
		return err
	}
	timelines, err := v.c.timelines(ctx)
	if err != nil {
		return err
	}
	for _, t := range timelines {
		if there[t] {
			continue
		}
		key := v.c.key.historyFile(t)
		if came, err := v.c.exists(ctx, key); err != nil || came {
			if err := v.find(ctx, key, err); err != nil {
				return err
			}
			continue
		}
		v.missing(key, errors.New("WAL of its timeline is archived"))
	}
	return nil
}

// missing reports an object that should be there.
func (v *clusterCheck) missing(key string, why error) {
	v.add(Finding{Object: key, Code: state.CodeCorrupt, Text: fmt.Sprintf("it is missing: %v", why)})
}
