package repository

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// judgement says what the findings of a look make unrecoverable.
type judgement struct {
	v        *clusterCheck
	findings []Finding
	chains   []state.Chain

	have      map[wal.Timeline][]wal.Range // what is there and sound
	ends      map[wal.Timeline]wal.LSN     // of what is there, sound or not
	histories []wal.History
	gaps      []state.Gap
}

func (j *judgement) run(ctx context.Context) error {
	if j.v.z != 0 {
		if err := j.gather(ctx); err != nil {
			return err
		}
		slices.SortFunc(j.v.kept, func(a, b state.Backup) int { return cmp.Or(cmp.Compare(a.Stop, b.Stop), cmp.Compare(a.ID, b.ID)) })
		for i := range j.v.kept {
			j.wants(&j.v.kept[i])
		}
		for i := range j.v.kept {
			if c, ok := j.chain(&j.v.kept[i]); ok {
				j.chains = append(j.chains, c)
			}
		}
		if err := j.holes(ctx); err != nil {
			return err
		}
	}
	for i := range j.findings {
		if j.findings[i].Object == j.v.c.key.clusterFile() {
			j.withoutFacts(j.findings[i].Text)
		}
	}
	for i := range j.findings {
		j.judge(ctx, &j.findings[i])
	}
	return nil
}

// withoutFacts: without cluster.json nothing of the cluster is found.
func (j *judgement) withoutFacts(why string) {
	for _, b := range j.v.kept {
		if j.v.cannot[b.ID] == nil {
			j.v.cannot[b.ID] = errors.New("cluster.json cannot be read: " + why)
		}
	}
}

// gather learns where sound WAL is.
func (j *judgement) gather(ctx context.Context) error {
	archived, err := j.v.c.lookAtWAL(ctx)
	if err != nil && ctx.Err() != nil {
		return err // what else keeps it from being read was found by the look
	}
	z := j.v.z
	j.have, j.ends = map[wal.Timeline][]wal.Range{}, map[wal.Timeline]wal.LSN{}
	for t, w := range j.v.seenWAL {
		slices.Sort(w.bad)
		for _, r := range w.runs {
			j.have[t] = append(j.have[t], without(t, r, w.bad, z)...)
			j.ends[t] = max(j.ends[t], wal.Segment{Number: r.last}.End(z))
		}
		for _, r := range archived.ranges {
			n := z.SegmentAt(t, r.To).Number
			if r.Timeline != t || r.Partial <= r.To {
				continue
			}
			j.ends[t] = max(j.ends[t], r.Partial)
			if !slices.Contains(w.parts, n) {
				j.have[t] = append(j.have[t], wal.Range{Timeline: t, From: r.To, To: r.Partial})
			}
		}
		j.have[t] = wal.Merge(j.have[t])
	}
	histories, err := j.v.c.readableHistories(ctx)
	if err != nil {
		return err
	}
	j.histories = histories
	if j.gaps, err = j.v.c.Gaps(ctx); err != nil && ctx.Err() != nil {
		return err
	}
	return nil
}

// bad gives the segments that are there and cannot be read.
func (j *judgement) bad() []wal.Range {
	var out []wal.Range
	for t, w := range j.v.seenWAL {
		for _, n := range w.bad {
			seg := wal.Segment{Timeline: t, Number: n}
			out = append(out, wal.Range{Timeline: t, From: seg.Start(j.v.z), To: seg.End(j.v.z)})
		}
	}
	return wal.Merge(out)
}

// without gives a run without its bad segments, which are in order.
func without(t wal.Timeline, r run, bad []uint64, z wal.SegmentSize) []wal.Range {
	var out []wal.Range
	first := r.first
	add := func(end uint64) {
		out = append(out, wal.Range{Timeline: t, From: wal.Segment{Number: first}.Start(z), To: wal.Segment{Number: end}.Start(z)})
	}
	for _, n := range bad {
		if n >= first && n <= r.last {
			add(n)
			first = n + 1
		}
	}
	add(r.last + 1)
	return slices.DeleteFunc(out, wal.Range.Empty)
}

// readableHistories is Histories without those that are damaged, which are findings.
func (c *Cluster) readableHistories(ctx context.Context) ([]wal.History, error) {
	var out []wal.History
	for info, err := range c.repo.st.List(ctx, c.key.historyDir(), "", false) {
		if err != nil {
			return nil, fmt.Errorf("list histories: %w", err)
		}
		t, ok := c.key.parseHistoryFile(info.Key)
		if !ok {
			continue
		}
		content, err := c.History(ctx, t)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err != nil {
			continue
		}
		if h, err := wal.ParseHistory(t, content); err == nil {
			out = append(out, h)
		}
	}
	return out, nil
}

// damaged tells whether a range of a timeline touches WAL that is bad, or that should be there and is not.
func (j *judgement) damaged(r wal.Range) bool {
	w := j.v.seenWAL[r.Timeline]
	if w == nil {
		return false
	}
	first, last := j.v.z.SegmentAt(r.Timeline, r.From).Number, j.v.z.SegmentAt(r.Timeline, r.To-1).Number
	for _, a := range w.absent {
		if a.first <= last && first <= a.last {
			return true
		}
	}
	return slices.ContainsFunc(w.bad, func(n uint64) bool { return first <= n && n <= last }) ||
		slices.ContainsFunc(w.parts, func(n uint64) bool { return first <= n && n <= last && !holds(w.runs, n) })
}

// wants notes a backup that cannot be restored because WAL between its start and its end is damaged.
func (j *judgement) wants(b *state.Backup) {
	need := wal.Range{Timeline: b.Timeline, From: b.Redo, To: b.Stop}
	if need.Empty() {
		return
	}
	for _, m := range j.lacks(b, need) {
		switch {
		case j.v.cannot[b.ID] != nil:
			return
		case j.damaged(m):
			j.v.cannot[b.ID] = fmt.Errorf("the WAL that makes it consistent, %s, is damaged or missing", m)
		case recorded(j.gaps, m):
			j.v.cannot[b.ID] = fmt.Errorf("the WAL that makes it consistent, %s, is lost: a gap is recorded", m)
		default:
			j.v.cannot[b.ID] = fmt.Errorf("the WAL that makes it consistent, %s, is not archived yet", m)
		}
	}
}

// lacks gives what is missing of the WAL that a backup needs: on its own timeline, or on the newest line through it. The
// segment in which a timeline was left is often archived on the next one only.
func (j *judgement) lacks(b *state.Backup, need wal.Range) []wal.Range {
	own := wal.Missing(need, j.have[b.Timeline])
	if len(own) == 0 {
		return nil
	}
	for _, r := range j.path(b) {
		r.To = min(r.To, b.Stop)
		if !r.Empty() && len(wal.Missing(r, j.have[r.Timeline])) > 0 {
			return own
		}
	}
	if path := j.path(b); len(path) == 0 || path[len(path)-1].To < b.Stop || path[len(path)-1].Timeline == b.Timeline {
		return own
	}
	return nil
}

// path gives what a recovery reads from a position on, to the end of the newest line of history through it.
func (j *judgement) path(b *state.Backup) []wal.Range {
	line := wal.History{Timeline: b.Timeline}
	for _, h := range j.histories {
		if h.Timeline == b.Timeline || h.Timeline >= line.Timeline && h.Contains(b.Timeline, max(b.Redo, b.Stop)) && j.ends[h.Timeline] != 0 {
			line = h
		}
	}
	const end = ^wal.LSN(0)
	path := line.Path(b.Redo, end)
	for i := range path { // the segment in which a timeline was left is read from the next one, which begins with a copy of it
		if i > 0 {
			path[i].From = max(b.Redo, j.v.z.Floor(path[i].From))
		}
		if i < len(path)-1 {
			path[i].To = j.v.z.Floor(path[i].To)
		} else {
			path[i].To = j.ends[path[i].Timeline]
		}
	}
	return slices.DeleteFunc(path, wal.Range.Empty)
}

// chain follows the WAL from a backup to the tip of its line. False: there is no WAL at all yet.
func (j *judgement) chain(b *state.Backup) (state.Chain, bool) {
	path := j.path(b)
	if len(path) == 0 {
		return state.Chain{}, false
	}
	last := path[len(path)-1]
	c := state.Chain{Backup: b.ID, Timeline: last.Timeline, Tip: last.To, Reaches: last.To}
	for _, r := range path {
		c.Segments += (int64(r.To-r.From) + j.v.z.Bytes() - 1) / j.v.z.Bytes()
		c.Missing = append(c.Missing, wal.Missing(r, j.have[r.Timeline])...)
	}
	if len(c.Missing) > 0 {
		c.Reaches = c.Missing[0].From
		c.Recorded = !slices.ContainsFunc(c.Missing, func(m wal.Range) bool { return !recorded(j.gaps, m) })
	}
	return c, true
}

// holes finds WAL that is missing after the newest backup: nothing removes WAL there, so it is lost, or has not been
// brought here.
func (j *judgement) holes(ctx context.Context) error {
	newest := -1
	for i, c := range j.chains {
		b := j.backup(c.Backup)
		if j.v.cannot[c.Backup] == nil && c.Reaches >= b.Stop && (newest < 0 || b.Began.After(j.backup(j.chains[newest].Backup).Began)) {
			newest = i
		}
	}
	if newest < 0 {
		return nil
	}
	for _, m := range j.chains[newest].Missing {
		if recorded(j.gaps, m) || j.damaged(m) {
			continue
		}
		seg := j.v.z.SegmentAt(m.Timeline, m.From)
		key := j.v.c.key.segmentFile(seg, j.v.z)
		there, err := j.v.c.exists(ctx, key)
		if err != nil {
			return err
		}
		if gone, err := j.v.gone(ctx, j.chains[newest].Backup); err != nil || gone || there {
			return err
		}
		j.findings = append(j.findings, Finding{
			Object: key, Code: state.CodeGap,
			Text: fmt.Sprintf("no WAL from %s to %s of timeline %d is here and no gap is recorded: it was removed, or it has not been brought here yet", m.From, m.To, m.Timeline),
		})
	}
	return nil
}

func (j *judgement) backup(id string) *state.Backup {
	i := slices.IndexFunc(j.v.kept, func(b state.Backup) bool { return b.ID == id })
	return &j.v.kept[i] // chains are of kept backups only
}

// judge says what one finding makes unrecoverable.
func (j *judgement) judge(ctx context.Context, f *Finding) {
	k := j.v.c.key
	switch rest, in := strings.CutPrefix(f.Object, k.backupsDir()); {
	case in:
		id, name, _ := strings.Cut(rest, "/")
		j.judgeBackup(f, id, name)
	case f.Object == k.clusterFile():
		for _, b := range j.v.kept {
			f.Hurts = append(f.Hurts, b.ID)
		}
	case strings.HasPrefix(f.Object, k.historyDir()):
		if t, ok := k.parseHistoryFile(f.Object); ok && j.ends[t] != 0 {
			f.Lost = append(f.Lost, state.Lost{Timeline: t, FromLSN: j.have[t][0].From, ToLSN: j.ends[t]})
		}
	case strings.HasPrefix(f.Object, k.walDir()) && j.v.z != 0:
		if n, ok := k.parseWALFile(f.Object, j.v.z); ok {
			j.judgeWAL(ctx, f, n.Segment)
		}
	}
}

// judgeBackup: an object that a restore reads hurts the backups that it kept from being restored.
func (j *judgement) judgeBackup(f *Finding, id, name string) {
	switch {
	case strings.HasPrefix(name, volumeDir):
		f.Hurts = slices.Clone(j.v.hurt[f.Object])
		slices.Sort(f.Hurts)
	case name == "", name == startName, name == decisionName, name == tombName, name == labelName, name == folderListName, name == capturedName,
		strings.HasPrefix(name, sumsDir), strings.HasPrefix(name, filesDir):
		if j.v.cannot[id] != nil {
			f.Hurts = []string{id}
		}
	}
	for _, hurt := range f.Hurts {
		f.Lost = append(f.Lost, j.lostWith(hurt)...)
	}
}

// lostWith gives the moments that only this backup leads to.
func (j *judgement) lostWith(id string) []state.Lost {
	i := slices.IndexFunc(j.v.kept, func(b state.Backup) bool { return b.ID == id })
	if i < 0 { // its records cannot be read: which moments those are is not known
		return nil
	}
	b := j.v.kept[i]
	lost := state.Lost{From: b.Ended, Timeline: b.Timeline, FromLSN: b.Stop}
	for _, c := range j.chains {
		older := j.backup(c.Backup)
		if c.Backup != id && j.v.cannot[c.Backup] == nil && older.Stop <= b.Stop && c.Timeline >= b.Timeline && c.Reaches >= b.Stop {
			return nil // from an older one, and more WAL
		}
	}
	lost.To, lost.ToLSN = j.next(b.Stop)
	return []state.Lost{lost}
}

// next gives from where on the next backup that can be restored leads; zero: there is none.
func (j *judgement) next(from wal.LSN) (time.Time, wal.LSN) {
	for _, c := range j.chains {
		if b := j.backup(c.Backup); b.Redo >= from && j.v.cannot[b.ID] == nil && c.Reaches >= b.Stop {
			return b.Ended, b.Stop
		}
	}
	return time.Time{}, 0
}

// judgeWAL: WAL between a backup's start and its end hurts the backup, and ends what can be recovered from all before it.
func (j *judgement) judgeWAL(ctx context.Context, f *Finding, seg wal.Segment) {
	hole := wal.Range{Timeline: seg.Timeline, From: seg.Start(j.v.z), To: seg.End(j.v.z)}
	if w := j.v.seenWAL[seg.Timeline]; w != nil {
		for _, a := range w.absent {
			if a.first == seg.Number {
				hole.To = wal.Segment{Number: a.last}.End(j.v.z)
			}
		}
	}
	reached := false
	for _, c := range j.chains {
		b := j.backup(c.Backup)
		if slices.ContainsFunc(c.Missing, func(m wal.Range) bool { return m.Timeline == hole.Timeline && m.From < hole.To && hole.From < m.To }) {
			if b.Timeline == hole.Timeline && b.Redo < hole.To && hole.From < b.Stop {
				f.Hurts = append(f.Hurts, b.ID)
			}
			reached = reached || b.Redo < hole.To
		}
	}
	slices.Sort(f.Hurts)
	if !reached {
		return // no backup needs it
	}
	lost := state.Lost{From: j.lastCommit(ctx, seg), Timeline: seg.Timeline, FromLSN: hole.From}
	lost.To, lost.ToLSN = j.next(hole.To)
	f.Lost = append(f.Lost, lost)
}

// lastCommit gives the time of the last commit before a segment; zero: not known.
func (j *judgement) lastCommit(ctx context.Context, seg wal.Segment) time.Time {
	for range 64 {
		if seg.Number == 0 {
			break
		}
		seg.Number--
		sum, err := j.v.c.SegmentSummary(ctx, seg)
		if err != nil {
			break
		}
		if !sum.MaxCommit.IsZero() {
			return sum.MaxCommit
		}
	}
	return time.Time{}
}
