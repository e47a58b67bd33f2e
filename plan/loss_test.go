package plan_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// name puts a restore point on every moment of the history at which no backup ends, each told of by name.
func (h *history) name() {
	h.cluster.RestorePoints = &state.RestorePoints{}
	for _, x := range h.branches {
		for _, m := range x.moments {
			if slices.ContainsFunc(h.cluster.Backups, func(b state.Backup) bool { return b.Stop == m.lsn && b.Timeline == x.timeline }) {
				continue
			}
			p := wal.RestorePoint{Name: fmt.Sprintf("%d-%d", x.timeline, m.lsn), LSN: m.lsn, Time: m.said}
			s := state.PointStretch{Range: wal.Range{Timeline: x.timeline, From: m.lsn - 1, To: m.lsn}, Count: 1, Newest: []wal.RestorePoint{p}}
			h.cluster.RestorePoints.Stretches = append(h.cluster.RestorePoints.Stretches, s)
		}
	}
}

// gone counts the restore points that are recoverable before and not after, by brute force.
func (h *history) gone(before, after state.Cluster) map[string]bool {
	out := map[string]bool{}
	for _, s := range h.cluster.RestorePoints.Stretches {
		anyLine := func(c state.Cluster) bool {
			return slices.ContainsFunc(h.branches, func(x *branch) bool { return x.at(s.To).timeline == s.Timeline && h.recoverable(c, x, s.To) })
		}
		if anyLine(before) && !anyLine(after) {
			out[s.Newest[0].Name] = true
		}
	}
	return out
}

// TestLossIsWhatCanNoLongerBeRecovered compares what plans say is lost with a brute-force walk over random histories: first
// that of WAL, then the deletion of backups with the WAL that goes a day later. Nothing that is lost goes unsaid, and nothing
// that stays is called lost.
func TestLossIsWhatCanNoLongerBeRecovered(t *testing.T) {
	lost, named := 0, 0
	for seed := range histories(t) / 10 {
		h := randomHistory(seed, false)
		if seed%2 == 0 {
			h = keptHistory(seed, false)
		}
		h.name()
		r := plan.Retain(&h.cluster, h.rules, h.clock, h.current.timeline)
		swept := without(h.cluster, r, h.clock)
		swept.Backups = h.cluster.Backups
		byWAL, byBackups := r.Losses()
		lost += h.compareLoss(t, seed, byWAL, h.gone(h.cluster, swept), &named)
		if byBackups == nil && len(r.Going()) == 0 {
			continue
		}
		day := without(h.cluster, r, h.clock.Add(-25*time.Hour))
		day = without(day, plan.Retain(&day, h.rules, h.clock, h.current.timeline), h.clock)
		lost += h.compareLoss(t, seed, byBackups, h.gone(swept, day), &named)
	}
	t.Logf("%d restore points were lost, %d of them named", lost, named)
	if lost == 0 || named == 0 || named == lost {
		t.Error("this test proves nothing")
	}
}

func (h *history) compareLoss(t *testing.T, seed uint64, l *plan.Loss, want map[string]bool, named *int) int {
	t.Helper()
	if l == nil {
		l = &plan.Loss{}
	}
	for _, p := range l.Points {
		if !want[p.Name] {
			t.Fatalf("seed %d: %s is called lost and is not", seed, p.Name)
		}
	}
	if got := len(l.Points) + l.MorePoints; got != len(want) || l.AtLeast || len(l.Points) > 5 || len(l.Points) < min(5, len(want)) {
		t.Fatalf("seed %d: %d restore points are called lost, %d named, and %d are\n%s", seed, got, len(l.Points), len(want), h.describe(h.cluster))
	}
	*named += len(l.Points)
	return len(want)
}

// TestLossSaysWhatItDoesNotKnow: restore points of which only the number is known, or not even that, are never passed over.
func TestLossSaysWhatItDoesNotKnow(t *testing.T) {
	now := time.Date(2026, 2, 10, 0, 0, 0, 0, time.UTC)
	on := func(id string, redo wal.LSN, age time.Duration) state.Backup {
		return state.Backup{ID: id, State: state.BackupCommitted, Timeline: 1, Redo: redo, Stop: redo + 0x100, Began: now.Add(-age), Ended: now.Add(-age)}
	}
	point := func(l wal.LSN) []wal.RestorePoint { return []wal.RestorePoint{{Name: "p", LSN: l, Time: now}} }
	stretch := func(from, to wal.LSN, n int, more bool, names []wal.RestorePoint) *state.RestorePoints {
		return &state.RestorePoints{Stretches: []state.PointStretch{{Range: wal.Range{Timeline: 1, From: from, To: to}, Count: n, AtLeast: more, Newest: names}}}
	}
	for name, c := range map[string]struct {
		points *state.RestorePoints
		want   []string
	}{
		"not looked for": {nil, []string{"which named restore points, is not known: the repository was looked at by an older pgkeep"}},
		"none":           {&state.RestorePoints{}, []string{"no named restore point"}},
		"unread":         {&state.RestorePoints{Unread: 3}, []string{"perhaps named restore points: not all of its WAL is indexed by name"}},
		"inside":         {stretch(0x1000128, 0x4000128, 9, false, point(0x2000000)), []string{`restore point "p" of 2026-02-10 00:00:00 UTC, at 0/2000000`, "and 8 more restore points"}},
		"one more":       {stretch(0x1000128, 0x4000128, 2, false, point(0x2000000)), []string{`restore point "p" of 2026-02-10 00:00:00 UTC, at 0/2000000`, "and 1 more restore point"}},
		"at least":       {stretch(0x1000128, 0x4000128, 9, true, point(0x2000000)), []string{`restore point "p" of 2026-02-10 00:00:00 UTC, at 0/2000000`, "and at least 8 more restore points"}},
		"partly inside":  {stretch(0x1000128, 0x4500000, 9, false, point(0x4400000)), []string{"perhaps named restore points: not all of its WAL is indexed by name"}},
		"all known":      {stretch(0x1000128, 0x4500000, 1, false, point(0x4400000)), []string{"no named restore point"}},
		"stays":          {stretch(0x4000128, 0x4500000, 9, false, point(0x4400000)), []string{"no named restore point"}},
	} {
		cluster := &state.Cluster{
			SegmentSize: wal.DefaultSegmentSize, Backups: []state.Backup{on("a", 0x1000028, 20*24*time.Hour), on("b", 0x4000028, 10*24*time.Hour)},
			WAL: []state.WALRange{{Range: wal.Range{Timeline: 1, From: 0x1000000, To: 0x9000000}, LastCommit: now}}, RestorePoints: c.points,
		}
		_, loss := plan.Retain(cluster, plan.Rules{Redundancy: 1, Minimum: 1}, now, 1).Losses()
		want := append([]string{"every moment from 2026-01-21 00:00:00 UTC to 2026-01-31 00:00:00 UTC (0/1000128 to 0/4000128)"}, c.want...)
		if d := cmp.Diff(want, loss.Sentences()); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}
