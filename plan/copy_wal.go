package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// copyWAL adds the step that fills the holes in a repository's WAL from another repository: those in what its backups, the
// one that it gets by this plan included, need for every moment that its retention keeps, and for no other. What the spool
// still has is on its way, and so is what lies after all that the repository holds while WAL is received.
func (b *builder) copyWAL(s *server, h *home, after []string) {
	if s.systemID == "" {
		return
	}
	var best *home
	var ranges []wal.Range
	var histories []wal.Timeline
	for _, o := range s.sources(h) {
		r := b.holes(s, h, o)
		t := lackedHistories(h, o, r)
		if length(r) > length(ranges) || best == nil && len(r)+len(t) > 0 {
			best, ranges, histories = o, r, t
		}
	}
	if best == nil {
		b.uncopiedWAL(s, h)
		return
	}
	action := CopyWAL{
		Server: s.Name, SystemID: s.systemID, From: best.spec.Name, FromID: best.seen.ID, Repository: h.spec.Name, RepositoryID: h.seen.ID,
		Ranges: ranges, Histories: histories,
	}
	at := s.Where.Of("repositories")
	var why []Reason
	effect := fmt.Sprintf("history files of %s", h.spec.Name)
	if len(ranges) > 0 {
		why = append(why, because("repositories-differ", fmt.Sprintf("%s lacks WAL of %s that %s holds: %s", h.spec.Address, s.Name, best.spec.Address, brief(ranges)), at))
		effect = fmt.Sprintf("no hole is left there in what can be recovered from %s; moves %s of WAL (before compression)", h.spec.Name, Size(length(ranges)))
	}
	if len(histories) > 0 {
		names := make([]string, len(histories))
		for i, t := range histories {
			names[i] = t.HistoryName()
		}
		why = append(why, because("history-lacks", fmt.Sprintf("%s lacks %s", h.spec.Address, strings.Join(names, ", ")), at))
		if len(ranges) == 0 {
			effect = "what belongs to which line of history is known in " + h.spec.Name + " again"
		}
	}
	h.filled = b.step(Step{
		ID: b.copyID(s, "copy-wal", h), Action: action, Change: Add, Impact: Safe, Host: copyHost(best, h), After: after, Because: why, Effect: effect,
		Requires: []Condition{{Code: NeedWAL, Text: "it is still in " + best.spec.Name}},
	})
	best.gives = append(best.gives, gift{step: h.filled, ranges: ranges})
}

// gift is WAL that a step copies out of a repository: it is not deleted there before.
type gift struct {
	step   string
	ranges []wal.Range
}

// gifts gives the steps that copy WAL of these ranges out of the repository.
func (h *home) gifts(going []wal.Range) []string {
	var out []string
	for _, g := range h.gives {
		for _, r := range g.ranges {
			if slices.ContainsFunc(going, func(x wal.Range) bool { return x.Timeline == r.Timeline && x.From < r.To && r.From < x.To }) {
				out = append(out, g.step)
				break
			}
		}
	}
	return out
}

func length(ranges []wal.Range) int64 {
	var n int64
	for _, r := range ranges {
		n += r.Bytes()
	}
	return n
}

// brief lists the first few ranges.
func brief(ranges []wal.Range) string {
	const most = 3
	out := make([]string, 0, most)
	for _, r := range ranges[:min(len(ranges), most)] {
		out = append(out, r.String())
	}
	text := strings.Join(out, ", ")
	if n := len(ranges) - most; n > 0 {
		text += fmt.Sprintf(" and %s more", count(n, "stretch"))
	}
	return text
}

// holes gives the whole segments that h lacks, o holds, and the backups of h need.
func (b *builder) holes(s *server, h, o *home) []wal.Range {
	would, own := b.supposed(s, h, o)
	if would == nil {
		return nil
	}
	z := would.archive.size
	var want []wal.Range
	for _, f := range would.Fates {
		want = append(want, would.walks(f)...)
	}
	needless := would.NeedlessWAL()
	var out []wal.Range
	for _, w := range wal.Merge(want) {
		w.From, w.To = z.Floor(w.From), ceil(w.To, z)
		for _, lacks := range wal.Missing(w, own) {
			lacks.From = z.Floor(lacks.From)
			for _, needed := range wal.Missing(lacks, needless) {
				out = append(out, within(needed, o, z)...)
			}
		}
	}
	return b.notOnTheWay(s, h, wal.Merge(out), z)
}

// ceil is z.Ceil that leaves the end of all where it is.
func ceil(l wal.LSN, z wal.SegmentSize) wal.LSN {
	if l > ^wal.LSN(0)-wal.LSN(z) {
		return ^wal.LSN(0)
	}
	return z.Ceil(l)
}

// within gives the segments of a range that o holds and that can be read there: whole ones, and the unfinished end of a
// timeline that was left.
func within(r wal.Range, o *home, z wal.SegmentSize) []wal.Range {
	var out []wal.Range
	for _, w := range o.archive.WAL {
		has := w.Range
		if w.Partial > w.To && w.Timeline != o.archive.current.timeline {
			has.To = z.Ceil(w.Partial)
		}
		for _, sound := range readable([]wal.Range{has}, o.archive.Verified) {
			x := wal.Range{Timeline: r.Timeline, From: max(r.From, sound.From), To: min(r.To, sound.To)}
			if sound.Timeline != r.Timeline {
				continue
			}
			if x.From, x.To = z.Floor(x.From), ceil(x.To, z); !x.Empty() {
				out = append(out, x)
			}
		}
	}
	return out
}

// supposed judges h as it would be with the backup that it gets and all the WAL of o, so that nothing is copied that its own
// retention would delete. own is what h holds now, damaged segments included: those are repair's. nil: nothing is known of o.
func (b *builder) supposed(s *server, h, o *home) (r *Retained, own []wal.Range) {
	would := state.Cluster{Name: s.Name, SystemID: s.systemID, Major: o.archive.Major, SegmentSize: o.archive.SegmentSize}
	if h.archive != nil {
		if h.archive.SegmentSize != o.archive.SegmentSize {
			return nil, nil
		}
		would = *h.archive.Cluster
		for _, w := range would.WAL {
			own = append(own, wholly(w, h.archive))
		}
		own = wal.Merge(own)
	}
	would.Verified = nil
	would.Backups = slices.Clone(would.Backups)
	if h.copying != nil {
		would.Backups = slices.DeleteFunc(would.Backups, func(k state.Backup) bool { return k.ID == h.copying.backup.ID })
		would.Backups = append(would.Backups, *h.copying.backup)
		slices.SortStableFunc(would.Backups, func(x, y state.Backup) int { return strings.Compare(x.ID, y.ID) })
	}
	would.WAL = unite(would.WAL, o.archive.WAL)
	for _, x := range o.archive.Histories {
		if !slices.ContainsFunc(would.Histories, func(y state.History) bool { return y.Timeline == x.Timeline }) {
			would.Histories = append(slices.Clip(would.Histories), x)
		}
	}
	blocks := b.retentionsOf(s.Name, h)
	clock := time.Time{}
	if len(blocks) > 0 {
		clock = b.deletionClock(s, h)
		if h.archive == nil || h.seen.Now.IsZero() {
			clock = b.deletionClock(s, o)
		}
	}
	got := Retain(&would, Join(blocks), clock, s.seen.Timeline)
	return &got, own
}

// wholly gives what a repository holds of a range for good: the unfinished segment counts where its timeline was left.
func wholly(w state.WALRange, a *archive) wal.Range {
	out := w.Range
	if w.Partial > w.To && w.Timeline != a.current.timeline {
		out.To = a.size.Ceil(w.Partial)
	}
	return out
}

// unite gives the WAL of both, merged where it touches.
func unite(a, b []state.WALRange) []state.WALRange {
	all := append(slices.Clone(a), b...)
	slices.SortFunc(all, func(x, y state.WALRange) int {
		if x.Timeline != y.Timeline {
			return int(int64(x.Timeline) - int64(y.Timeline))
		}
		return compareLSN(x.From, y.From)
	})
	var out []state.WALRange
	for _, r := range all {
		if n := len(out); n > 0 && out[n-1].Timeline == r.Timeline && r.From <= out[n-1].To {
			last := &out[n-1]
			last.To, last.Partial = max(last.To, r.To), max(last.Partial, r.Partial)
			last.LastCommit = later(last.LastCommit, r.LastCommit)
			continue
		}
		out = append(out, r)
	}
	return out
}

// walks gives the WAL that is wanted for the sake of a backup: to the end of the server's line where it stands there and is
// not kept alone, else what makes it consistent.
func (r *Retained) walks(f Fate) []wal.Range {
	k := f.Backup
	if f.Goes || k.State != state.BackupCommitted || k.Stop == 0 {
		return nil
	}
	if !f.Alone && r.archive.current.holds(k.Timeline, max(k.Redo, k.Stop)) {
		return r.archive.current.path(k.Redo, ^wal.LSN(0), r.archive.size)
	}
	return []wal.Range{{Timeline: k.Timeline, From: k.Redo, To: k.Stop}}
}

// notOnTheWay leaves out what comes by itself.
func (b *builder) notOnTheWay(s *server, h *home, holes []wal.Range, z wal.SegmentSize) []wal.Range {
	sp, seen := b.spoolOf(s)
	var end wal.LSN // of all that the repository holds
	if h.archive != nil {
		for _, r := range h.archive.WAL {
			end = max(end, r.To, r.Partial)
		}
	}
	var out []wal.Range
	for _, r := range holes {
		if tail := end != 0 && r.To > end; tail && (!seen || sp.Durable > end) { // also where a look came between two puts
			r.To = min(r.To, max(r.From, z.Floor(end)))
		}
		pieces := []wal.Range{r}
		if seen {
			pieces = wal.Missing(r, sp.Pending)
		}
		for _, p := range pieces {
			if p.From, p.To = z.Ceil(p.From), z.Floor(p.To); !p.Empty() {
				out = append(out, p)
			}
		}
	}
	return out
}

// lackedHistories gives the timelines whose history files h lacks, o has, and the WAL of h, with what is copied, needs.
func lackedHistories(h, o *home, ranges []wal.Range) []wal.Timeline {
	var newest wal.Timeline
	for _, r := range ranges {
		newest = max(newest, r.Timeline)
	}
	if h.copying != nil {
		newest = max(newest, h.copying.backup.Timeline)
	}
	var out []wal.Timeline
	for _, x := range o.archive.Histories {
		if h.archive != nil && slices.ContainsFunc(h.archive.Histories, func(y state.History) bool { return y.Timeline == x.Timeline }) {
			continue
		}
		orphan := h.archive != nil && slices.Contains(h.archive.orphans, x.Timeline)
		if orphan || x.Timeline <= newest {
			out = append(out, x.Timeline)
		}
	}
	return out
}
