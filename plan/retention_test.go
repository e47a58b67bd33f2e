package plan_test

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// at gives the timeline that branch b's line of history was on just before position l.
func (b *branch) at(l wal.LSN) *branch {
	for b.parent != nil && l <= b.from {
		b = b.parent
	}
	return b
}

// holds tells by brute force whether the quarter before position l of b's line is archived: on its own timeline, or in
// the copy of the segment with which a later timeline of the line begins.
func (h *history) holds(w []state.WALRange, b *branch, l wal.LSN) bool {
	own := b.at(l)
	for x := b; x != nil; x = x.parent {
		copied := x != own && x.from >= l && segment.Floor(x.from) == segment.Floor(l-1)
		for _, r := range w {
			if r.From < l && l <= max(r.To, r.Partial) && r.Timeline == x.timeline && (x == own || copied) {
				return true
			}
		}
	}
	return false
}

// usable and recoverable are the oracle: a moment is recoverable when some backup stands before it on its line and every
// quarter of WAL from the backup's redo to it is archived.
func (h *history) usable(c state.Cluster, k int) bool {
	b := c.Backups[k]
	return b.State == state.BackupCommitted && slices.ContainsFunc(h.branches, func(x *branch) bool {
		own := x.at(b.Stop)
		return own.timeline == b.Timeline && h.walk(c, x, b.Redo, b.Stop)
	})
}

func (h *history) walk(c state.Cluster, x *branch, from, to wal.LSN) bool {
	for l := from + quarter; l <= to; l += quarter {
		if !h.holds(c.WAL, x, l) {
			return false
		}
	}
	return true
}

func (h *history) recoverable(c state.Cluster, x *branch, l wal.LSN) bool {
	for k, b := range c.Backups {
		own := x.at(b.Stop)
		if b.Stop <= l && own.timeline == b.Timeline && h.usable(c, k) && h.walk(c, x, b.Redo, l) {
			return true
		}
	}
	return false
}

// lost gives the first thing that was needed before and is not there after.
func (h *history) lost(before, after state.Cluster) string {
	if what := h.lostCounted(before, after); what != "" {
		return what
	}
	for _, x := range h.branches {
		for _, m := range x.moments {
			window := h.window()
			if m.truly.Before(h.now.Add(-window)) || m.jumped && x != h.current || window == 0 {
				continue
			}
			if h.recoverable(before, x, m.lsn) && !h.recoverable(after, x, m.lsn) {
				return fmt.Sprintf("moment %s of timeline %d, %s before now", m.lsn, x.timeline, h.now.Sub(m.truly))
			}
		}
	}
	count := func(c state.Cluster) (n int) {
		for k := range c.Backups {
			if h.usable(c, k) {
				n++
			}
		}
		return n
	}
	had, has := count(before), count(after)
	if has < had && has < max(h.rules.Minimum, h.rules.Redundancy) {
		return fmt.Sprintf("%d usable backups of %d are left", has, had)
	}
	left := map[string]bool{}
	for _, b := range after.Backups {
		left[b.ID] = b.State != state.BackupDeleted
	}
	for k, b := range before.Backups {
		stays := b.State == state.BackupRunning || b.State == state.BackupCommitted && b.Hold != nil && (b.Hold.Expires.IsZero() || b.Hold.Expires.After(h.now))
		if stays && !left[b.ID] {
			return "backup " + b.ID + ", " + string(b.State)
		}
		if b.State == state.BackupDeleted && h.now.Sub(b.Tombed) < 24*time.Hour || stays {
			for l := b.Redo + quarter; l <= b.Stop; l += quarter {
				if own := h.branches[b.Timeline-1]; h.holds(before.WAL, own, l) && !h.holds(after.WAL, own, l) {
					return fmt.Sprintf("WAL at %s of %s, %s", l, b.ID, b.State)
				}
			}
		}
		if left[b.ID] && b.State != state.BackupAborted && b.State != state.BackupAbandoned {
			for _, ref := range before.Backups[k].Refs {
				if was := slices.IndexFunc(before.Backups, func(o state.Backup) bool { return o.ID == ref }); !left[ref] && before.Backups[was].State == state.BackupCommitted {
					return "backup " + ref + ", to which " + b.ID + " refers"
				}
			}
		}
	}
	return ""
}

// window is for how long every moment is asked for.
func (h *history) window() time.Duration {
	if h.rules.WAL > 0 && h.rules.Window > 0 { // it shortens a window, and is none
		return h.rules.WAL
	}
	return h.rules.Window
}

// without applies what retention proposes: tombs dated at, and WAL gone.
func without(c state.Cluster, r plan.Retained, at time.Time) state.Cluster {
	out := c
	out.Backups, out.WAL = slices.Clone(c.Backups), nil
	for i, f := range r.Fates {
		if f.Goes {
			out.Backups[i].State, out.Backups[i].Tombed = state.BackupDeleted, at
		}
	}
	gone := r.NeedlessWAL()
	for _, w := range c.WAL {
		parts := wal.Missing(w.Range, gone)
		if tail := (wal.Range{Timeline: w.Timeline, From: w.To, To: segment.Ceil(w.Partial)}); w.Partial > w.To && len(wal.Missing(tail, gone)) == 0 {
			w.Partial = 0
		}
		if w.Partial > w.To && (len(parts) == 0 || parts[len(parts)-1].To != w.To) {
			parts = append(parts, wal.Range{Timeline: w.Timeline, From: w.To, To: w.To})
		}
		for _, p := range parts {
			keep := state.WALRange{Range: p, LastCommit: w.LastCommit}
			if p.To == w.To {
				keep.Partial = w.Partial
			}
			out.WAL = append(out.WAL, keep)
		}
	}
	return out
}

func histories(tb testing.TB) uint64 {
	n := uint64(10_000)
	if testing.Short() {
		n = 1_000
	}
	if s := os.Getenv("PGKEEP_HISTORIES"); s != "" {
		v, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			tb.Fatal(err)
		}
		n = v
	}
	return n
}

// TestRetentionDeletesNothingNeeded plans retention over random histories and asks a brute-force oracle, which knows the
// truth, what was lost: at once, and after the day in which deleted backups still count.
func TestRetentionDeletesNothingNeeded(t *testing.T) {
	var went, freed, cut, alone int
	for seed := range histories(t) {
		h := randomHistory(seed, seed%2 == 0)
		if seed%4 >= 2 {
			h = keptHistory(seed, seed%2 == 0)
		}
		before := h.cluster
		r := plan.Retain(&before, h.rules, h.clock, h.current.timeline)
		once := without(before, r, h.clock)
		if what := h.lost(before, once); what != "" {
			t.Fatalf("seed %d: lost %s", seed, what)
		}
		day := without(before, r, h.clock.Add(-25*time.Hour))
		second := plan.Retain(&day, h.rules, h.clock, h.current.timeline)
		if n := len(second.Going()); n > 0 && !h.jumps {
			t.Fatalf("seed %d: a second look deletes %d more, %s\n%s", seed, n, second.Going()[0].ID, h.describe(day))
		}
		twice := without(day, second, h.clock)
		if what := h.lost(before, twice); what != "" {
			t.Fatalf("seed %d: a day later, lost %s", seed, what)
		}
		for _, f := range r.Fates {
			if f.Alone {
				alone++
			}
		}
		went += len(r.Going())
		freed += len(r.NeedlessWAL()) + len(second.NeedlessWAL())
		if r.Stopped != "" {
			cut++
		}
	}
	t.Logf("%d backups and %d stretches of WAL deleted in %d histories, %d of them untouched; %d backups kept alone", went, freed, histories(t), cut, alone)
	if went == 0 || freed == 0 || alone == 0 {
		t.Fatal("nothing was ever deleted: this test proves nothing")
	}
}

// TestRetentionKeepsNothingNeedless is the other half: with honest clocks, what stays has a rule that an independent
// reading of the configuration finds too.
func TestRetentionKeepsNothingNeedless(t *testing.T) {
	for seed := range histories(t) / 4 {
		h := randomHistory(seed, false)
		r := plan.Retain(&h.cluster, h.rules, h.clock, h.current.timeline)
		if r.Stopped != "" {
			continue
		}
		after := without(h.cluster, r, h.clock.Add(-25*time.Hour))
		for k, b := range after.Backups {
			if h.usable(h.cluster, k) && b.State == state.BackupCommitted && !h.justified(after, k) {
				t.Fatalf("seed %d: %s stays (%s) and no rule asks for it", seed, b.ID, r.Fates[k].Cause)
			}
		}
		again := plan.Retain(&after, h.rules, h.clock, h.current.timeline)
		final := without(after, again, h.clock)
		for _, w := range final.WAL {
			for l := w.From + wal.LSN(segment); l <= w.To; l += wal.LSN(segment) {
				if !h.walJustified(final, w.Timeline, l) {
					t.Fatalf("seed %d: the segment of timeline %d before %s stays and nothing needs it\n%s", seed, w.Timeline, l, h.describe(final))
				}
			}
		}
	}
}

// justified finds a reason for a usable backup to stay, without looking at the reasons given.
func (h *history) justified(c state.Cluster, k int) bool {
	b := c.Backups[k]
	start := h.now.Add(-h.rules.Window)
	if b.Hold != nil && (b.Hold.Expires.IsZero() || b.Hold.Expires.After(h.now)) {
		return true
	}
	newer := 0
	for i, o := range c.Backups {
		if o.State != state.BackupAborted && o.State != state.BackupAbandoned && i != k && (o.State != state.BackupDeleted || h.now.Sub(o.Tombed) < 24*time.Hour || o.Hold != nil) &&
			(slices.Contains(o.Refs, b.ID) || o.Parent == b.ID) {
			return true
		}
		if i > k && h.usable(h.cluster, i) { // backups are taken in the order of time
			newer++
		}
	}
	if newer < max(h.rules.Minimum, h.rules.Redundancy) {
		return true
	}
	for _, x := range h.branches {
		own := x.at(b.Stop)
		if own.timeline != b.Timeline || !h.stays(x, start) {
			continue
		}
		better := slices.ContainsFunc(c.Backups, func(o state.Backup) bool {
			i := slices.IndexFunc(c.Backups, func(p state.Backup) bool { return p.ID == o.ID })
			on := x.at(o.Stop)
			return on.timeline == o.Timeline && o.Stop > b.Stop && h.usable(h.cluster, i) && !h.ends[o.ID].After(start)
		})
		if !better {
			return true
		}
	}
	// Redundancy prefers the server's own line: a backup there may stay although newer ones lie on branches.
	own := h.current.at(b.Stop)
	return own.timeline == b.Timeline
}

// stays tells whether a branch has moments inside the window.
func (h *history) stays(x *branch, start time.Time) bool {
	if x == h.current || h.rules.Window == 0 {
		return true
	}
	for _, r := range h.cluster.WAL {
		own := h.current.at(max(r.To, r.Partial))
		if r.Timeline == x.timeline && own != x && !r.LastCommit.Before(start) {
			return true
		}
	}
	return slices.ContainsFunc(h.cluster.Backups, func(b state.Backup) bool {
		own := h.current.at(b.Stop)
		return b.Timeline == x.timeline && own != x && !b.Ended.Before(start)
	})
}

// walJustified finds a backup that counts at or before the segment on a line that stays.
func (h *history) walJustified(c state.Cluster, t wal.Timeline, end wal.LSN) bool {
	begin := end - wal.LSN(segment)
	for _, b := range c.Backups { // a copy of the segment in which a backup's timeline was left
		if segment.Floor(h.branches[t-1].from) == begin && b.Timeline != t && b.Redo < end && b.Stop > begin {
			return true
		}
	}
	for _, x := range h.branches {
		on := false
		for l := end - wal.LSN(segment) + quarter; l <= end; l += quarter {
			own := x.at(l)
			on = on || own.timeline == t
		}
		if !on {
			continue
		}
		nothing := true
		for _, b := range c.Backups {
			own := x.at(max(b.Redo, 1))
			dead := b.State == state.BackupAborted || b.State == state.BackupAbandoned ||
				b.State == state.BackupDeleted && h.now.Sub(b.Tombed) >= 24*time.Hour && (b.Hold == nil || !b.Hold.Expires.IsZero() && !b.Hold.Expires.After(h.now))
			if own.timeline != b.Timeline || dead {
				continue
			}
			nothing = false
			young := b.Ended.IsZero() || h.now.Sub(b.Ended) < 24*time.Hour
			if (b.Redo < end || young) && (h.stays(x, h.now.Add(-h.rules.Window)) || b.Timeline == x.timeline) {
				return true
			}
		}
		if nothing && x == h.current {
			return true // nothing on the server's line can be recovered yet: its WAL is left alone
		}
	}
	return false
}

// describe prints a cluster for whoever reads a failing seed.
func (h *history) describe(c state.Cluster) string {
	out := fmt.Sprintf("now %s, clock %s, rules %+v\n", h.now, h.clock, h.rules)
	for _, x := range h.branches {
		out += fmt.Sprintf("timeline %d from %s to %s, parents %v\n", x.timeline, x.from, x.to, c.Histories)
	}
	for _, b := range c.Backups {
		out += fmt.Sprintf("%s %s timeline %d %s..%s ended %s tombed %s\n", b.ID, b.State, b.Timeline, b.Redo, b.Stop, b.Ended, b.Tombed)
	}
	for _, w := range c.WAL {
		out += fmt.Sprintf("%s partial %s last %s\n", w.Range, w.Partial, w.LastCommit)
	}
	return out
}

// TestTailOfAnAbandonedTimelineGoes: the parts of a segment that a timeline left unfinished go once nothing needs them,
// and never those of the timeline that the server writes.
func TestTailOfAnAbandonedTimelineGoes(t *testing.T) {
	now := time.Date(2026, 2, 10, 0, 0, 0, 0, time.UTC)
	on := func(id string, tl wal.Timeline, redo wal.LSN, age time.Duration) state.Backup {
		return state.Backup{ID: id, State: state.BackupCommitted, Timeline: tl, Redo: redo, Stop: redo + 0x100, Began: now.Add(-age), Ended: now.Add(-age)}
	}
	const day = 24 * time.Hour
	wals := []state.WALRange{
		{Range: wal.Range{Timeline: 1, From: 0x1000000, To: 0x4000000}, Partial: 0x4800000, LastCommit: now.Add(-20 * day)},
		{Range: wal.Range{Timeline: 2, From: 0x4000000, To: 0x9000000}, Partial: 0x9500000, LastCommit: now},
	}
	histories := []state.History{{Timeline: 2, Parents: []state.Parent{{Timeline: 1, Switch: 0x4700000}}}}
	tail := wal.Range{Timeline: 1, From: 0x1000000, To: 0x5000000}
	for name, c := range map[string]struct {
		backups []state.Backup
		live    wal.Timeline
		want    []wal.Range
	}{
		"needed by the line that stays":    {[]state.Backup{on("a", 1, 0x2000028, 20*day), on("b", 2, 0x6000028, 10*day)}, 2, []wal.Range{{Timeline: 1, From: 0x1000000, To: 0x2000000}}},
		"no backup stands before it":       {[]state.Backup{on("b", 2, 0x6000028, 10*day), on("c", 2, 0x8000028, 9*day)}, 2, []wal.Range{tail, {Timeline: 2, From: 0x4000000, To: 0x6000000}}},
		"a held backup of the branch":      {[]state.Backup{on("a", 1, 0x4000028, 20*day), on("b", 2, 0x6000028, 10*day)}, 2, []wal.Range{{Timeline: 1, From: 0x1000000, To: 0x4000000}}},
		"the server is not known":          {[]state.Backup{on("b", 2, 0x6000028, 10*day)}, 0, []wal.Range{tail, {Timeline: 2, From: 0x4000000, To: 0x6000000}}},
		"the server writes the old one on": {[]state.Backup{on("a", 1, 0x2000028, 10*day)}, 1, []wal.Range{{Timeline: 1, From: 0x1000000, To: 0x2000000}}},
	} {
		t.Run(name, func(t *testing.T) {
			cluster := &state.Cluster{SegmentSize: wal.DefaultSegmentSize, Backups: c.backups, WAL: wals, Histories: histories}
			r := plan.Retain(cluster, plan.Rules{Redundancy: 5, Minimum: 1}, now, c.live)
			if diff := cmp.Diff(c.want, r.NeedlessWAL()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Every bound that a retention block sets reaches the rules, and of two blocks the more careful one wins.
func TestJoinTakesTheMoreCarefulBound(t *testing.T) {
	got := plan.Join([]*hclspec.Retention{
		{RecoveryWindow: time.Hour, Redundancy: 4, MinimumRedundancy: 2, MaxDelete: 5, Enforce: "auto"},
		{RecoveryWindow: 2 * time.Hour, Redundancy: 1, MinimumRedundancy: 3, MaxDelete: 2, Enforce: "approve"},
	})
	got.Blocks = nil
	want := plan.Rules{Window: 2 * time.Hour, Redundancy: 4, Minimum: 3, MaxDelete: 2, Approve: true}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
