package plan_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// TestWALWindowLosesNothingNeeded plans a window of WAL that is shorter than what keeps backups, over random histories: every moment of that
// window stays, each backup that stays is consistent by what is left, now and a day later, and a moment that goes is told of.
func TestWALWindowLosesNothingNeeded(t *testing.T) {
	let, alone := 0, 0
	for seed := range histories(t) / 4 {
		h := randomHistory(seed, seed%2 == 0)
		if seed%4 >= 2 {
			h = keptHistory(seed, seed%2 == 0)
		}
		longest := h.rules.Window
		if longest == 0 {
			longest = 12 * h.stride * time.Hour
		}
		h.rules.WAL = max(longest/time.Duration(1+h.rng.IntN(6)), time.Hour)
		r := plan.Retain(&h.cluster, h.rules, h.clock, h.current.timeline)
		once := without(h.cluster, r, h.clock)
		day := without(h.cluster, r, h.clock.Add(-25*time.Hour))
		twice := without(day, plan.Retain(&day, h.rules, h.clock, h.current.timeline), h.clock)
		for _, after := range []state.Cluster{once, twice} {
			if what := h.lost(h.cluster, after); what != "" {
				t.Fatalf("seed %d: lost %s\n%s", seed, what, h.describe(after))
			}
			for k, f := range r.Fates {
				if after.Backups[k].State == state.BackupCommitted && h.usable(h.cluster, k) && !h.usable(after, k) {
					t.Fatalf("seed %d: %s stays (%s, alone %t), and its own WAL is gone", seed, f.Backup.ID, f.Cause, f.Alone)
				}
			}
		}
		for _, f := range r.Fates {
			if f.Alone && !f.Goes {
				alone++
			}
		}
		let += h.toldOf(t, seed, r)
	}
	t.Logf("%d moments let go, %d backups kept alone", let, alone)
	if let == 0 || alone == 0 {
		t.Error("nothing was ever let go: this test proves nothing")
	}
}

// toldOf counts the moments that go with needless WAL at once, and wants each inside what is said to be lost.
func (h *history) toldOf(t *testing.T, seed uint64, r plan.Retained) (gone int) {
	t.Helper()
	loss, _ := r.Losses()
	after := without(h.cluster, r, h.clock)
	after.Backups = h.cluster.Backups
	for _, x := range h.branches {
		for _, m := range x.moments {
			if !h.recoverable(h.cluster, x, m.lsn) || h.recoverable(after, x, m.lsn) {
				continue
			}
			own := x.at(m.lsn).timeline
			if slices.ContainsFunc(h.branches, func(y *branch) bool { return y.at(m.lsn).timeline == own && h.recoverable(after, y, m.lsn) }) {
				continue // along a younger line of history, whose first segment begins with a copy of this one's end
			}
			gone++
			told := loss != nil && loss.MoreMoments > 0
			for i := 0; loss != nil && i < len(loss.Moments); i++ {
				l := loss.Moments[i]
				told = told || l.Timeline == own && l.FromLSN <= m.lsn && m.lsn <= l.ToLSN
			}
			if !told {
				t.Fatalf("seed %d: moment %s of timeline %d goes, and %v is said to be lost", seed, m.lsn, own, loss.Sentences())
			}
		}
	}
	return gone
}

// TestWALWindow: days of backups, of which the last two have all their moments.
func TestWALWindow(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	c := &state.Cluster{SegmentSize: wal.DefaultSegmentSize, WAL: []state.WALRange{{Range: wal.Range{Timeline: 1, From: 0x2000000, To: 0x11000000}}}}
	for i := range 7 {
		at := now.Add(time.Duration(i-7) * 24 * time.Hour)
		redo := wal.LSN(2*i+2)<<24 + 0x28
		c.Backups = append(c.Backups, state.Backup{ID: at.Format("20060102T150405Z") + "-F-0001", State: state.BackupCommitted, Timeline: 1, Redo: redo, Stop: redo + 0x100, Began: at, Ended: at})
	}
	held := c.Backups[1]
	rules := plan.Join([]*hclspec.Retention{{RecoveryWindow: 6 * 24 * time.Hour, WALWindow: 36 * time.Hour, MinimumRedundancy: 1}})
	got := func() []bool {
		var out []bool
		for _, f := range plan.Retain(c, rules, now, 1).Fates {
			out = append(out, f.Alone)
		}
		return out
	}
	if diff := cmp.Diff([]bool{false, true, true, true, true, false, false}, got()); diff != "" {
		t.Errorf("alone: %s", diff)
	}
	r := plan.Retain(c, rules, now, 1)
	if diff := cmp.Diff([]wal.Range{
		{Timeline: 1, From: 0x2000000, To: 0x4000000},
		{Timeline: 1, From: 0x5000000, To: 0x6000000},
		{Timeline: 1, From: 0x7000000, To: 0x8000000},
		{Timeline: 1, From: 0x9000000, To: 0xA000000},
		{Timeline: 1, From: 0xB000000, To: 0xC000000},
	}, r.NeedlessLater()); diff != "" {
		t.Errorf("needless: %s", diff)
	}
	c.Backups[1].Hold = &state.Hold{}
	if alone := got(); alone[1] {
		t.Errorf("%s is held, and its WAL goes", held.ID)
	}
	if other := plan.Join([]*hclspec.Retention{rules2(36 * time.Hour), rules2(0)}); other.WAL != 0 {
		t.Errorf("two rules of which one has no window of WAL: %s", other.WAL)
	}
}

// TestWALWindowLeavesTheNewestItsWAL: the newest backup lies on a branch that the server has left before the window of WAL begins. As long as
// no newer one is there, the WAL behind it stays.
func TestWALWindowLeavesTheNewestItsWAL(t *testing.T) {
	c := taken(t, "2026-02-01T01:00:00Z", "2026-02-02T01:00:00Z", "2026-02-03T01:00:00Z")
	c.Backups[2].Timeline = 2
	c.Histories = []state.History{{Timeline: 2, Parents: []state.Parent{{Timeline: 1, Switch: 0x2800000}}}}
	c.WAL = append(c.WAL, state.WALRange{Range: wal.Range{Timeline: 2, From: 0x2000000, To: 0x9000000}, LastCommit: c.Backups[2].Ended})
	rules := plan.Rules{Minimum: 1, Window: 10 * 24 * time.Hour, WAL: 24 * time.Hour}
	r := plan.Retain(c, rules, time.Date(2026, 2, 5, 0, 0, 0, 0, time.UTC), 1)
	if newest := r.Fates[2]; newest.Goes || newest.Alone {
		t.Errorf("%+v", newest)
	}
	for _, w := range r.NeedlessWAL() {
		if w.Timeline == 2 && w.To > c.Backups[2].Redo {
			t.Errorf("WAL behind it goes: %s", w)
		}
	}
}

func rules2(window time.Duration) *hclspec.Retention { return &hclspec.Retention{WALWindow: window} }
