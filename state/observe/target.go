package observe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/wal"
)

// WALArchive reads archived WAL of one cluster; ArchiveOf makes one of a repository's cluster.
type WALArchive interface {
	// Segment opens the whole segment, or else its longest partial.
	Segment(ctx context.Context, seg wal.Segment) (io.ReadCloser, error)
	// Summary tells what the segment or its longest partial holds.
	Summary(ctx context.Context, seg wal.Segment) (wal.Summary, error)
	// Summaries gives what the index knows of whole segments inside the range, in order, leaving out those it does not know.
	Summaries(ctx context.Context, r wal.Range) iter.Seq2[wal.Segment, wal.Summary]
}

// TargetOptions say what is asked of Target.
type TargetOptions struct {
	Target   hclspec.Target
	Cluster  state.Cluster   // as observed
	Archive  WALArchive      // the same cluster's WAL
	Receiver *state.Receiver // proves that the server was silent after its last commit; nil: nothing proves it
	Now      time.Time       // a later time is in the future; zero: not known
	Backup   string          // id of the backup from which it must be reached; empty: the newest that does
	trial    bool            // of a moment that another search wants to name
	Newest   wal.Timeline    // that any repository of the server knows; zero: none is newer than this cluster's
}

// Target tells what the archived WAL proves about a recovery target: whether PostgreSQL, started from a usable backup and
// walking the line of history that leads to the target's timeline, stops there, and between which commits. It looks at
// the index and decodes only the segments in question.
//
// PostgreSQL stops at the first commit or abort in LSN order that is past a time, whatever the times of later ones; it
// fails when it meets no such record, and when it meets one before the backup is consistent. A time after the last commit
// is therefore reachable, by recovering to the end of the archive, only where the archive proves that the server committed
// nothing until then: a later record carries a clock that is not before it, or the receiver had caught up with the server
// at a later time and all it received is archived.
//
// Of a transaction or a name that is not on the way to the newest timeline, the refusal says on which other it is.
func Target(ctx context.Context, o TargetOptions) state.TargetFact {
	fact := targetOn(ctx, o)
	if fact.Unknown != nil || fact.Reachable || o.Target.Timeline != 0 || o.Target.XID == 0 && o.Target.Restore == "" {
		return fact
	}
	for _, timeline := range timelines(o.Cluster) {
		if timeline == fact.Timeline {
			continue
		}
		o.Target.Timeline, o.trial = timeline, true
		if other := targetOn(ctx, o); other.Reachable {
			fact.Why += fmt.Sprintf("; on timeline %d it is, which was left: name that timeline to go there", timeline)
			break
		}
	}
	return fact
}

// timelines gives those of which something is archived, newest first.
func timelines(c state.Cluster) []wal.Timeline {
	seen := map[wal.Timeline]bool{}
	for _, r := range c.WAL {
		seen[r.Timeline] = true
	}
	out := slices.Sorted(maps.Keys(seen))
	slices.Reverse(out)
	return out
}

func targetOn(ctx context.Context, o TargetOptions) state.TargetFact {
	t, err := newTargeting(ctx, o)
	if err == nil && t.refused == nil {
		err = t.find()
	}
	if err == nil && t.refused == nil && t.fact.Before == nil {
		// WAL from before the backup, which no recovery reads: where it cannot be read the commit is not told, and that is all
		if before, unread := t.inBackup(t.redo); unread == nil {
			t.fact.Before = before
		} else if ctx.Err() != nil {
			err = unread
		}
	}
	if err == nil && t.refused == nil && t.Target.Restore != "" && !t.trial {
		t.fact.Again, err = t.namesakes(t.fact.End, t.redo)
	}
	switch {
	case err != nil:
		code := state.CodeOf(err)
		if code == "" {
			code = state.CodeIO
		}
		return state.TargetFact{Unknown: &state.Unknown{Code: code, Because: "the archived WAL cannot be searched: " + err.Error(), Hint: state.HintOf(err)}}
	case t.refused != nil:
		t.refused.Nearest = t.tried(t.refused.Nearest)
		return *t.refused
	}
	return t.fact
}

// targeting is one search.
type targeting struct {
	TargetOptions
	ctx     context.Context // of the one call of Target that this value lives for
	size    wal.SegmentSize
	system  uint64
	history wal.History
	held    []wal.Range // archived WAL that is not known to be damaged, partials included, merged
	backups []state.Backup
	fact    state.TargetFact
	redo    wal.LSN // of the backup that reaches it
	refused *state.TargetFact
}

func newTargeting(ctx context.Context, o TargetOptions) (*targeting, error) {
	t := &targeting{TargetOptions: o, ctx: ctx, size: o.Cluster.SegmentSize}
	if err := t.size.Check(); err != nil {
		return nil, err
	}
	var err error
	if t.system, err = strconv.ParseUint(o.Cluster.SystemID, 10, 64); err != nil {
		return nil, fmt.Errorf("read system identifier %q: %w", o.Cluster.SystemID, err)
	}
	for _, r := range o.Cluster.WAL {
		h := r.Range
		h.To = max(h.To, r.Partial)
		t.held = append(t.held, h)
	}
	t.held = wal.Merge(t.held)
	if v := o.Cluster.Verified; v != nil && len(v.BadWAL) > 0 {
		t.held = without(t.held, v.BadWAL)
	}
	if !t.chooseHistory() {
		return t, nil
	}
	t.chooseBackups()
	return t, nil
}

func without(have, bad []wal.Range) []wal.Range {
	var out []wal.Range
	for _, r := range have {
		out = append(out, wal.Missing(r, bad)...)
	}
	return out
}

// chooseHistory finds the line of history that leads to the target's timeline, by default the newest that is archived.
func (t *targeting) chooseHistory() bool {
	want := t.Target.Timeline
	if want == 0 {
		want = max(t.Newest, newestTimeline(t.Cluster))
	}
	t.history = wal.History{Timeline: want}
	if want <= 1 {
		return t.notWithout(want == 1, "nothing is archived")
	}
	for _, h := range t.Cluster.Histories {
		if h.Timeline != want {
			continue
		}
		for _, p := range h.Parents {
			t.history.Parents = append(t.history.Parents, wal.HistoryLine{Timeline: p.Timeline, Switch: p.Switch, Reason: p.Reason})
		}
		return true
	}
	return t.notWithout(false, fmt.Sprintf("the history file of timeline %d is not archived", want))
}

// newestTimeline gives the newest that something is archived of; zero: nothing is.
func newestTimeline(c state.Cluster) wal.Timeline {
	var newest wal.Timeline
	for _, r := range c.WAL {
		newest = max(newest, r.Timeline)
	}
	for _, h := range c.Histories {
		newest = max(newest, h.Timeline)
	}
	return newest
}

// notWithout refuses the target unless ok; the ends of the timelines that are archived are what is nearest.
func (t *targeting) notWithout(ok bool, why string) bool {
	if ok {
		return true
	}
	ends := map[wal.Timeline]wal.LSN{}
	for _, r := range t.held {
		ends[r.Timeline] = max(ends[r.Timeline], r.To)
	}
	var nearest []state.Nearest
	for _, timeline := range slices.Sorted(maps.Keys(ends)) {
		nearest = append(nearest, state.Nearest{LSN: ends[timeline], Timeline: timeline, Note: fmt.Sprintf("end of the archived WAL of timeline %d", timeline)})
	}
	t.refuse(why, nearest...)
	return false
}

// refuse notes that the target cannot be reached, with the reachable moments around it.
func (t *targeting) refuse(why string, nearest ...state.Nearest) {
	t.refused = &state.TargetFact{Timeline: t.history.Timeline, Why: why, Nearest: nearest}
}

// ArchiveOf reads the WAL of a cluster in a repository.
func ArchiveOf(c *repository.Cluster) WALArchive { return clusterArchive{c} }

type clusterArchive struct{ c *repository.Cluster }

func (a clusterArchive) Segment(ctx context.Context, seg wal.Segment) (io.ReadCloser, error) {
	w, err := a.c.OpenSegment(ctx, seg)
	if errors.Is(err, store.ErrNotExist) {
		w, _, err = a.c.OpenPartial(ctx, seg)
	}
	if err != nil {
		return nil, err
	}
	return w, nil
}

func (a clusterArchive) Summary(ctx context.Context, seg wal.Segment) (wal.Summary, error) {
	return a.c.SegmentSummary(ctx, seg)
}

func (a clusterArchive) Summaries(ctx context.Context, r wal.Range) iter.Seq2[wal.Segment, wal.Summary] {
	return a.c.Summaries(ctx, r)
}
