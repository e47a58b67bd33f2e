package plan_test

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// quarter is the grain of the random histories: positions are multiples of a quarter of a segment.
const (
	segment = wal.SegmentSize(1 << 20)
	quarter = wal.LSN(1<<20) / 4
)

// branch is one timeline of a random history, with the truth that the planner does not see.
type branch struct {
	timeline wal.Timeline
	parent   *branch
	from     wal.LSN // where it left its parent
	to       wal.LSN
	moments  []moment
}

// moment is a position with the true time at which it was written, and what PostgreSQL's clock said.
type moment struct {
	lsn    wal.LSN
	truly  time.Time
	said   time.Time
	jumped bool
}

// history is a random cluster with its truth.
type history struct {
	rng      *rand.Rand
	cluster  state.Cluster
	branches []*branch
	current  *branch
	now      time.Time // the true one
	rules    plan.Rules
	clock    time.Time // as DeletionClock gives it from three clocks of which one at least did not run ahead
	ends     map[string]time.Time
	jumps    bool
	stride   time.Duration // how many times slower than hours the history goes on
	calm     bool          // nothing goes wrong
}

// randomHistory lives through 10 to 60 hours or days of a cluster.
func randomHistory(seed uint64, jumps bool) *history {
	h := &history{rng: rand.New(rand.NewPCG(seed, 7)), ends: map[string]time.Time{}, jumps: jumps, stride: 1}
	h.now = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	return h.lived()
}

// keptHistory is a random history under rules with a keep block: days to years, in a time zone with its own habits.
func keptHistory(seed uint64, jumps bool) *history {
	return kept(&history{rng: rand.New(rand.NewPCG(seed, 11)), ends: map[string]time.Time{}, jumps: jumps})
}

// calmHistory is one in which every backup succeeds, nobody holds any, and no WAL is lost.
func calmHistory(seed uint64) *history {
	return kept(&history{rng: rand.New(rand.NewPCG(seed, 13)), ends: map[string]time.Time{}, calm: true})
}

func kept(h *history) *history {
	h.stride = []time.Duration{1, 1, 4, 20, 60}[h.rng.IntN(5)]
	h.now = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(h.rng.IntN(400*24*60)) * time.Minute)
	h.lived()
	few := func() int { return max(0, h.rng.IntN(8)-2) }
	zones := []string{"", "UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Apia", "America/St_Johns", "America/Havana", "Australia/Lord_Howe"}
	k := hclspec.Keep{Daily: few(), Weekly: few(), Monthly: few(), Yearly: few(), Timezone: zones[h.rng.IntN(len(zones))]}
	if k.Any() {
		h.rules.Keep = []hclspec.Keep{k}
	}
	return h
}

// lived fills an empty history with life.
func (h *history) lived() *history {
	first := segment.Ceil(wal.LSN(1+h.rng.IntN(4)) * wal.LSN(segment))
	h.current = &branch{timeline: 1, from: first, to: first}
	h.branches = []*branch{h.current}
	h.cluster = state.Cluster{Name: "orders", SystemID: "1", Major: 15, SegmentSize: segment}
	h.rules = plan.Rules{Minimum: 1 + h.rng.IntN(3), Redundancy: h.rng.IntN(4)}
	if h.rng.IntN(5) > 0 {
		h.rules.Window = time.Duration(1+h.rng.IntN(240)) * time.Hour
	}
	for range 10 + h.rng.IntN(50) {
		h.live()
	}
	h.archive()
	if !h.calm {
		h.gaps()
		h.states()
	}
	h.clocks()
	return h
}

// live lets a few hours pass: WAL on the current line, sometimes on an old one, a backup, a promotion.
func (h *history) live() {
	h.now = h.now.Add(h.stride * time.Duration(20+h.rng.IntN(1200)) * time.Minute)
	said, jumped := h.now, h.jumps && h.rng.IntN(12) == 0
	if jumped {
		said = said.Add([]time.Duration{-time.Hour, time.Hour, -365 * 24 * time.Hour, 365 * 24 * time.Hour, -48 * time.Hour, 48 * time.Hour}[h.rng.IntN(6)])
	}
	h.write(h.current, 1+h.rng.IntN(8), said, jumped)
	if h.rng.IntN(8) == 0 {
		h.write(h.branches[h.rng.IntN(len(h.branches))], 1+h.rng.IntN(5), said, jumped)
	}
	if h.rng.IntN(3) == 0 {
		h.backup(said, jumped)
	}
	if !h.calm && len(h.branches) < 5 && h.rng.IntN(12) == 0 {
		from := h.branches[h.rng.IntN(len(h.branches))]
		if h.rng.IntN(2) == 0 {
			from = h.current
		}
		at := from.from + wal.LSN(h.rng.Uint64N(uint64((from.to-from.from)/quarter)+1))*quarter
		if h.rng.IntN(2) == 0 {
			at = from.to
		}
		next := &branch{timeline: wal.Timeline(len(h.branches) + 1), parent: from, from: at, to: at}
		h.branches = append(h.branches, next)
		h.current = next
		h.write(next, 1+h.rng.IntN(3), said, jumped)
	}
}

func (h *history) write(b *branch, quarters int, said time.Time, jumped bool) {
	for range quarters {
		b.to += quarter
		b.moments = append(b.moments, moment{b.to, h.now, said, jumped})
	}
}

// backup takes one on the current line. At most one of the two clocks that date it is wrong.
func (h *history) backup(said time.Time, jumped bool) {
	took := time.Duration(1+h.rng.IntN(90)) * time.Minute
	named := h.now
	if h.jumps && !jumped && h.rng.IntN(10) == 0 {
		named = named.Add([]time.Duration{-time.Hour, time.Hour, -365 * 24 * time.Hour, 365 * 24 * time.Hour}[h.rng.IntN(4)])
	}
	n := len(h.cluster.Backups)
	b := state.Backup{
		ID: fmt.Sprintf("%s-F-%04x", named.Format("20060102T150405Z"), n), State: state.BackupCommitted, Kind: "full",
		Timeline: h.current.timeline, Redo: h.current.to - quarter*wal.LSN(h.rng.IntN(2)),
		Began: said, Ended: said.Add(took),
	}
	b.Redo = max(b.Redo, h.current.from)
	h.now = h.now.Add(took)
	h.write(h.current, 1+h.rng.IntN(4), said.Add(took), jumped)
	b.Stop = h.current.to
	if n > 0 && h.rng.IntN(4) == 0 {
		b.Parent = h.cluster.Backups[n-1].ID
		b.Refs = []string{h.cluster.Backups[h.rng.IntN(n)].ID, b.Parent}
	}
	h.ends[b.ID] = h.now
	h.cluster.Backups = append(h.cluster.Backups, b)
}

// archive puts every branch's WAL into the repository: whole segments and a partial tail.
func (h *history) archive() {
	for _, b := range h.branches {
		r := state.WALRange{Range: wal.Range{Timeline: b.timeline, From: segment.Floor(b.from), To: segment.Floor(b.to)}}
		if b.to > r.To && h.rng.IntN(4) > 0 {
			r.Partial = b.to
		}
		h.cluster.WAL = append(h.cluster.WAL, r)
		if b.timeline == 1 {
			continue
		}
		hist := state.History{Timeline: b.timeline}
		for x := b; x.parent != nil; x = x.parent {
			hist.Parents = append([]state.Parent{{Timeline: x.parent.timeline, Switch: x.from}}, hist.Parents...)
		}
		h.cluster.Histories = append(h.cluster.Histories, hist)
	}
	h.dateWAL()
}

// dateWAL fills in the newest commit of each range, as the archive's index would.
func (h *history) dateWAL() {
	for i := range h.cluster.WAL {
		r := &h.cluster.WAL[i]
		for _, m := range h.branches[r.Timeline-1].moments {
			if m.lsn > r.From && m.lsn <= max(r.To, r.Partial) && m.said.After(r.LastCommit) {
				r.LastCommit = m.said
			}
		}
	}
}

// gaps cuts holes into the archive, some of them recorded.
func (h *history) gaps() {
	if h.rng.IntN(3) > 0 {
		return
	}
	i := h.rng.IntN(len(h.cluster.WAL))
	r := h.cluster.WAL[i]
	n := r.Range.Bytes() / segment.Bytes()
	if n < 3 {
		return
	}
	from := r.From + wal.LSN(1+h.rng.Int64N(n-2))*wal.LSN(segment)
	hole := wal.Range{Timeline: r.Timeline, From: from, To: from + wal.LSN(segment)}
	left, right := r, r
	left.To, left.Partial, right.From = hole.From, 0, hole.To
	left.LastCommit, right.LastCommit = time.Time{}, time.Time{}
	h.cluster.WAL = append(append(append([]state.WALRange{}, h.cluster.WAL[:i]...), left, right), h.cluster.WAL[i+1:]...)
	if h.rng.IntN(2) == 0 {
		h.cluster.Gaps = []state.Gap{{Range: hole, Reason: "58P01"}}
	}
	h.dateWAL()
}

// states gives some backups other fates than committed, and some of them holds.
func (h *history) states() {
	for i := range h.cluster.Backups {
		b := &h.cluster.Backups[i]
		switch h.rng.IntN(20) {
		case 0:
			b.State, b.Stop, b.Ended = state.BackupRunning, 0, time.Time{}
		case 1:
			b.State = state.BackupAbandoned
		case 2:
			b.State = state.BackupAborted
		case 3:
			b.State = state.BackupDamaged
		case 4:
			b.State, b.Tombed = state.BackupDeleted, h.now.Add(-time.Duration(h.rng.IntN(48))*time.Hour)
		}
		if h.rng.IntN(10) == 0 {
			b.Hold = &state.Hold{}
			if h.rng.IntN(2) == 0 {
				b.Hold.Expires = h.now.Add(time.Duration(h.rng.IntN(200)-100) * time.Hour)
			}
		}
	}
}

// clocks lets at most two of the three clocks be ahead, and any of them behind.
func (h *history) clocks() {
	three := [3]time.Time{h.now, h.now, h.now}
	if h.jumps {
		honest := h.rng.IntN(3)
		for i := range three {
			jump := []time.Duration{0, -time.Hour, time.Hour, -8760 * time.Hour, 8760 * time.Hour, -10 * time.Minute, 10 * time.Minute}[h.rng.IntN(7)]
			if i == honest && jump > 0 {
				jump = 0
			}
			three[i] = three[i].Add(jump)
		}
	}
	h.clock = plan.DeletionClock(three[0], three[1], three[2])
}
