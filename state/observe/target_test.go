package observe

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

var noon = time.Date(2026, 2, 10, 12, 0, 0, 0, time.UTC)

func clock(seconds int) time.Time { return noon.Add(time.Duration(seconds) * time.Second) }

// clusterOf describes what is archived.
func clusterOf(a *archive, backups []state.Backup, histories ...state.History) state.Cluster {
	c := state.Cluster{Name: "orders", SystemID: fmt.Sprint(testSystem), Major: 15, SegmentSize: testSize, Backups: backups, Histories: histories}
	var ranges []wal.Range
	for seg, b := range a.segments {
		ranges = append(ranges, wal.Range{Timeline: seg.Timeline, From: seg.Start(testSize), To: seg.Start(testSize) + wal.LSN(len(b))})
	}
	for _, r := range wal.Merge(ranges) {
		held := state.WALRange{Range: r}
		if end := testSize.Floor(r.To); end != r.To {
			held.To, held.Partial = max(end, r.From), r.To
		}
		c.WAL = append(c.WAL, held)
	}
	return c
}

func backupAt(id string, redo, stop wal.LSN, ended time.Time) state.Backup {
	return state.Backup{ID: id, State: state.BackupCommitted, Timeline: 1, Redo: redo, Start: redo, Stop: stop, Ended: ended}
}

// example is one line: backup A, commits 10 to 13, a hole of a segment, backup B, commits 20 and 21, a checkpoint.
func example(t *testing.T) (*archive, state.Cluster, *line) {
	t.Helper()
	l := newLine(1, 3)
	l.checkpoint(clock(0))
	l.other(100)
	stopA := l.at()
	l.commit(10, clock(10))
	l.commit(11, clock(30)) // its clock is ahead
	l.commit(12, clock(20))
	l.point("before", clock(21))
	l.abort(13, clock(40))
	l.commit(14, clock(50))
	l.other(3 << 20)
	hole := testSize.SegmentAt(1, l.at()-wal.LSN(testSize))
	l.checkpoint(clock(100))
	redoB := l.records[len(l.records)-1].Start
	l.other(100)
	stopB := l.at()
	l.commit(20, clock(110))
	l.commit(21, clock(120))
	l.checkpoint(clock(180))
	a := &archive{}
	a.put(l)
	delete(a.segments, hole)
	return a, clusterOf(a, []state.Backup{backupAt("A", l.first, stopA, clock(1)), backupAt("B", redoB, stopB, clock(101))}), l
}

func xid(c *state.Commit) uint32 {
	if c == nil {
		return 0
	}
	return c.XID
}

func TestTarget(t *testing.T) {
	for _, c := range []struct {
		name          string
		target        hclspec.Target
		before, after uint32
		atEnd         bool
		why           string
		nearest       int
	}{
		{name: "time", target: hclspec.Target{Time: clock(15), Inclusive: true}, before: 10, after: 11},
		{name: "stops at the first in LSN order", target: hclspec.Target{Time: clock(25), Inclusive: true}, before: 10, after: 11},
		{name: "inclusive", target: hclspec.Target{Time: clock(30), Inclusive: true}, before: 12, after: 14},
		{name: "exclusive", target: hclspec.Target{Time: clock(30)}, before: 10, after: 11},
		{name: "an abort stops too", target: hclspec.Target{Time: clock(35), Inclusive: true}, before: 12, after: 14},
		{name: "xid", target: hclspec.Target{XID: 12, Inclusive: true}, before: 12, after: 14},
		{name: "xid, exclusive", target: hclspec.Target{XID: 12}, before: 11, after: 12},
		{name: "an aborted xid", target: hclspec.Target{XID: 13, Inclusive: true}, before: 12, after: 14},
		{name: "xid after the hole", target: hclspec.Target{XID: 20, Inclusive: true}, before: 20, after: 21},
		{name: "restore point", target: hclspec.Target{Restore: "before", Inclusive: true}, before: 12, after: 14},
		{name: "latest", target: hclspec.Target{Latest: true}, before: 21, atEnd: true},
		{name: "immediate", target: hclspec.Target{Immediate: true}, after: 20},
		{name: "silent until a checkpoint", target: hclspec.Target{Time: clock(150), Inclusive: true}, before: 21, atEnd: true},
		{name: "before the first backup", target: hclspec.Target{Time: clock(-5), Inclusive: true}, why: "before the first usable backup", nearest: 1},
		{name: "in the hole", target: hclspec.Target{Time: clock(70), Inclusive: true}, why: "is not archived", nearest: 2},
		{name: "in the future", target: hclspec.Target{Time: clock(1000), Inclusive: true}, why: "nothing proves", nearest: 1},
		{name: "no such xid", target: hclspec.Target{XID: 99, Inclusive: true}, why: "transaction 99 ended nowhere", nearest: 2},
		{name: "no such name", target: hclspec.Target{Restore: "nothing", Inclusive: true}, why: `no restore point "nothing"`, nearest: 2},
		{name: "position beyond", target: hclspec.Target{LSN: 1 << 40, Inclusive: true}, why: "the archived WAL ends at", nearest: 1},
		{name: "position before", target: hclspec.Target{LSN: 8, Inclusive: true}, why: "before the first usable backup", nearest: 1},
		{name: "no such timeline", target: hclspec.Target{Latest: true, Timeline: 7}, why: "history file of timeline 7", nearest: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, cluster, _ := example(t)
			got := Target(t.Context(), TargetOptions{Target: c.target, Cluster: cluster, Archive: a})
			if got.Unknown != nil {
				t.Fatal(got.Unknown)
			}
			if got.Reachable != (c.why == "") || !strings.Contains(got.Why, c.why) || got.AtEnd != c.atEnd || len(got.Nearest) != c.nearest {
				t.Errorf("%+v", got)
			}
			if xid(got.Before) != c.before || xid(got.After) != c.after {
				t.Errorf("between %d and %d, not %d and %d", xid(got.Before), xid(got.After), c.before, c.after)
			}
		})
	}
}

func TestTheHoleIsNamed(t *testing.T) {
	a, cluster, _ := example(t)
	end := cluster.WAL[0].To
	cluster.Gaps = []state.Gap{{Range: wal.Range{Timeline: 1, From: end, To: end + wal.LSN(testSize)}, Reason: "the slot was lost"}}
	got := Target(t.Context(), TargetOptions{Target: hclspec.Target{Time: clock(70), Inclusive: true}, Cluster: cluster, Archive: a})
	if !strings.Contains(got.Why, "the slot was lost") {
		t.Errorf("%+v", got)
	}
	if got.Nearest[0].Time != clock(50) || got.Nearest[1].Note != "backup B is consistent" {
		t.Errorf("%+v", got.Nearest)
	}
}

func TestTheReceiverProvesSilence(t *testing.T) {
	a, cluster, l := example(t)
	target := hclspec.Target{Time: clock(500), Inclusive: true}
	caughtUp := state.Receiver{Running: true, Timeline: 1, Flushed: l.at(), Archived: l.at(), CaughtUpAt: clock(600)}
	for name, c := range map[string]struct {
		change func(*state.Receiver)
		want   bool
	}{
		"caught up":                {func(*state.Receiver) {}, true},
		"caught up too early":      {func(r *state.Receiver) { r.CaughtUpAt = clock(499) }, false},
		"not all of it archived":   {func(r *state.Receiver) { r.Flushed += 8 }, false},
		"archive not seen so far":  {func(r *state.Receiver) { r.Flushed += 8; r.Archived += 8 }, false},
		"on another timeline":      {func(r *state.Receiver) { r.Timeline = 2 }, false},
		"unknown":                  {func(r *state.Receiver) { r.Unknown = &state.Unknown{} }, false},
		"nothing was ever flushed": {func(r *state.Receiver) { r.Flushed, r.Archived = 0, 0 }, false},
	} {
		r := caughtUp
		c.change(&r)
		got := Target(t.Context(), TargetOptions{Target: target, Cluster: cluster, Archive: a, Receiver: &r})
		if got.Reachable != c.want || got.AtEnd != c.want {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestTargetAcrossTimelines(t *testing.T) {
	parent := newLine(1, 3)
	parent.checkpoint(clock(0))
	parent.other(100)
	stop := parent.at()
	parent.commit(10, clock(10))
	parent.other(2 << 20)
	parent.commit(11, clock(20))
	child := parent.child(2)
	at := parent.at()
	parent.commit(12, clock(30)) // on the branch that is left
	parent.other(2 << 20)
	child.commit(13, clock(40))
	child.commit(14, clock(50))
	a := &archive{}
	a.put(parent)
	a.put(child)
	h := state.History{Timeline: 2, Parents: []state.Parent{{Timeline: 1, Switch: at}}}
	cluster := clusterOf(a, []state.Backup{backupAt("A", parent.first, stop, clock(1))}, h)
	for _, c := range []struct {
		target        hclspec.Target
		before, after uint32
	}{
		{hclspec.Target{Time: clock(35), Inclusive: true}, 11, 13},
		{hclspec.Target{Time: clock(15), Inclusive: true}, 10, 11},
		{hclspec.Target{Time: clock(25), Inclusive: true, Timeline: 1}, 11, 12},
		{hclspec.Target{Latest: true}, 14, 0},
		{hclspec.Target{Latest: true, Timeline: 1}, 12, 0},
	} {
		got := Target(t.Context(), TargetOptions{Target: c.target, Cluster: cluster, Archive: a})
		if !got.Reachable || xid(got.Before) != c.before || xid(got.After) != c.after {
			t.Errorf("%+v: between %d and %d: %+v", c.target, xid(got.Before), xid(got.After), got)
		}
	}
}

func TestDamagedWALIsUnknown(t *testing.T) {
	a, cluster, _ := example(t)
	for seg := range a.segments {
		a.segments[seg][100] ^= 1
	}
	for seg := range a.segments {
		a.unknown[seg] = false
	}
	got := Target(t.Context(), TargetOptions{Target: hclspec.Target{Time: clock(15), Inclusive: true}, Cluster: cluster, Archive: a})
	if got.Unknown == nil || got.Reachable {
		t.Errorf("%+v", got)
	}
}

// simulate is recovery as PostgreSQL does it, over all records: where it stops, and between which commits.
func simulate(records []wal.Event, b state.Backup, reach wal.LSN, p probe) (hit, before, after *wal.Event) {
	for i := range records {
		e := &records[i]
		if e.Start < b.Redo || e.End > reach {
			continue
		}
		commit := e.Kind == wal.Commit
		if hit == nil && p.stop(e) {
			hit = e
			if commit && p.after {
				before = e
			} else if commit {
				after = e
			}
			continue
		}
		if commit && hit == nil {
			before = e
		}
		if commit && hit != nil && after == nil {
			after = e
		}
	}
	return hit, before, after
}

// TestTargetAgainstSimulation draws whole archives and compares with a simulation that reads everything.
func TestTargetAgainstSimulation(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l, backups := drawLine(t)
		a := &archive{}
		a.put(l)
		for seg := range a.segments {
			if rapid.IntRange(0, 3).Draw(t, "unknown") == 0 {
				a.unknown[seg] = true
			}
		}
		if rapid.Bool().Draw(t, "hole") {
			delete(a.segments, testSize.SegmentAt(1, l.first+wal.LSN(rapid.IntRange(0, len(l.out)-1).Draw(t, "at"))))
		}
		cluster := clusterOf(a, backups)
		x := drawTarget(t, l)
		got := Target(context.Background(), TargetOptions{Target: x, Cluster: cluster, Archive: a})
		if got.Unknown != nil {
			t.Fatal(got.Unknown)
		}
		want := oracle(l, cluster, x)
		if got.Reachable && !got.AtEnd != (want != nil) {
			t.Fatalf("%+v: %+v, simulation %+v", x, got, want)
		}
		if want == nil {
			return
		}
		if !got.Reachable || got.End != want.End {
			t.Fatalf("%+v: %+v, simulation %+v", x, got, want)
		}
		if diff := cmp.Diff([]*state.Commit{want.Before, want.After}, []*state.Commit{got.Before, got.After}); diff != "" {
			t.Fatalf("%+v: commits (-simulation +found):\n%s", x, diff)
		}
	})
}

// oracle tries every usable backup, newest first.
func oracle(l *line, c state.Cluster, x hclspec.Target) *state.TargetFact {
	for i := len(c.Backups) - 1; i >= 0; i-- {
		b := c.Backups[i]
		early := !x.Time.IsZero() && x.Time.Before(b.Ended) // by the clock of the machine that took it
		if c.Usability(b) != state.Usable || early && usableBefore(c, i) || x.LSN != 0 && x.LSN < b.Redo || holdsLater(l, c, b, x) {
			continue
		}
		reach := b.Redo
		for _, r := range c.WAL {
			if r.From <= b.Redo && b.Redo < max(r.To, r.Partial) {
				reach = max(r.To, r.Partial)
			}
		}
		p := probeFor(x)
		hit, before, after := simulate(l.records, b, reach, p)
		if hit == nil && (!x.Time.IsZero() || x.LSN != 0) {
			return nil
		}
		if early && before == nil { // and the WAL does not say otherwise
			continue
		}
		if hit == nil || !(hit.Start >= b.Stop || p.after && hit.End >= b.Stop) {
			continue
		}
		if before == nil {
			before = held(l, c, b)
		}
		f := &state.TargetFact{End: hit.End}
		if before != nil {
			f.Before = commitOf(before)
		}
		if after != nil {
			f.After = commitOf(after)
		}
		return f
	}
	return nil
}

// held is the last commit that a backup holds, as far as the WAL before it is archived.
func held(l *line, c state.Cluster, b state.Backup) *wal.Event {
	var last *wal.Event
	for _, r := range c.WAL {
		for i := range l.records {
			e := &l.records[i]
			if r.From <= b.Redo && b.Redo <= max(r.To, r.Partial) && e.Kind == wal.Commit && e.Start >= r.From && e.Start < b.Redo {
				last = e
			}
		}
	}
	return last
}

func usableBefore(c state.Cluster, i int) bool {
	return slices.ContainsFunc(c.Backups[:i], func(b state.Backup) bool { return c.Usability(b) == state.Usable })
}

// holdsLater tells whether a transaction of the redo position's own segment ended after the target and before that position.
func holdsLater(l *line, c state.Cluster, b state.Backup, x hclspec.Target) bool {
	from := testSize.Floor(b.Redo)
	for _, e := range l.records {
		if x.Time.IsZero() || e.Kind != wal.Commit && e.Kind != wal.Abort || e.Start < from || e.Start >= b.Redo || !e.Time.After(x.Time) {
			continue
		}
		for _, r := range c.WAL {
			if r.From <= from && b.Redo <= max(r.To, r.Partial) {
				return true
			}
		}
	}
	return false
}

// TestTheBackupsClockIsNotTheServers: a machine whose clock is slow says that its backup ended before a commit that the
// backup holds.
func TestTheBackupsClockIsNotTheServers(t *testing.T) {
	l := newLine(1, 3)
	l.checkpoint(clock(0))
	l.other(8)
	first := l.at()
	l.commit(10, clock(600))
	l.commit(11, clock(700))
	redo := l.at()
	l.checkpoint(clock(710))
	l.other(8)
	stop := l.at()
	l.commit(12, clock(720))
	a := &archive{}
	a.put(l)
	slow := backupAt("B", redo, stop, clock(110)) // by its own clock, ten minutes behind
	cluster := clusterOf(a, []state.Backup{backupAt("A", l.first, first, clock(-600)), slow})
	x := hclspec.Target{Time: clock(650), Inclusive: true}
	got := Target(t.Context(), TargetOptions{Target: x, Cluster: cluster, Archive: a})
	if !got.Reachable || xid(got.Before) != 10 || xid(got.After) != 11 {
		t.Errorf("%+v: between %d and %d, and not 10 and 11: %+v", x, xid(got.Before), xid(got.After), got)
	}
}

func drawLine(t *rapid.T) (*line, []state.Backup) {
	l := newLine(1, 3)
	var backups []state.Backup
	l.checkpoint(clock(0))
	for i := range rapid.IntRange(1, 40).Draw(t, "records") {
		at := clock(rapid.IntRange(0, 60).Draw(t, "time"))
		switch rapid.IntRange(0, 8).Draw(t, "kind") {
		case 0, 1, 2:
			l.commit(uint32(100+i), at)
		case 3:
			l.abort(uint32(100+i), at)
		case 4:
			l.point(rapid.SampledFrom([]string{"a", "b"}).Draw(t, "name"), at)
		case 5:
			l.other(rapid.IntRange(0, 9000).Draw(t, "length"))
		case 6:
			l.other(rapid.IntRange(100_000, 1_500_000).Draw(t, "length"))
		default:
			redo := l.at()
			l.checkpoint(at)
			for range rapid.IntRange(0, 3).Draw(t, "during") {
				l.commit(uint32(1000+len(l.records)), clock(rapid.IntRange(0, 60).Draw(t, "time")))
			}
			l.other(8)
			backups = append(backups, backupAt(fmt.Sprint(i), redo, l.at(), at))
		}
	}
	return l, backups
}

func drawTarget(t *rapid.T, l *line) hclspec.Target {
	x := hclspec.Target{Inclusive: rapid.Bool().Draw(t, "inclusive")}
	e := rapid.SampledFrom(l.records).Draw(t, "record")
	switch rapid.IntRange(0, 3).Draw(t, "target") {
	case 0:
		x.Time = clock(rapid.IntRange(0, 61).Draw(t, "time"))
	case 1:
		x.XID = max(e.XID, 1)
	case 2:
		x.Restore = rapid.SampledFrom([]string{"a", "b"}).Draw(t, "name")
	default:
		x.LSN = e.Start + wal.LSN(rapid.IntRange(-8, 8).Draw(t, "beside"))
	}
	return x
}
