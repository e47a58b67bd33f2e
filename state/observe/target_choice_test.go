package observe

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// TestABackupThatWasNamed: recovery stops at the first record past the target, and from an older backup that is another one
// where a clock was ahead for a while, or a name was given twice.
func TestABackupThatWasNamed(t *testing.T) {
	l := newLine(1, 3)
	l.checkpoint(clock(0))
	l.other(8)
	stopA := l.at()
	l.commit(10, clock(10))
	l.commit(11, clock(500)) // set right again
	l.point("deploy", clock(12))
	l.commit(12, clock(20))
	l.other(2 << 20)
	redoB := l.at()
	l.checkpoint(clock(100))
	l.other(8)
	stopB := l.at()
	l.commit(20, clock(110))
	l.point("deploy", clock(115))
	l.commit(21, clock(120))
	a := &archive{}
	a.put(l)
	cluster := clusterOf(a, []state.Backup{backupAt("A", l.first, stopA, clock(1)), backupAt("B", redoB, stopB, clock(101))})
	byTime, byName := hclspec.Target{Time: clock(115), Inclusive: true}, hclspec.Target{Restore: "deploy", Inclusive: true}
	for _, c := range []struct {
		backup        string
		target        hclspec.Target
		from          wal.LSN
		before, after uint32
	}{
		{"", byTime, redoB, 20, 21},
		{"", byName, redoB, 20, 21},
		{"A", byTime, l.first, 10, 11},
		{"A", byName, l.first, 11, 12},
		{"B", byTime, redoB, 20, 21},
		{"B", byName, redoB, 20, 21},
	} {
		got := Target(t.Context(), TargetOptions{Target: c.target, Cluster: cluster, Archive: a, Backup: c.backup})
		if !got.Reachable || got.From != c.from || xid(got.Before) != c.before || xid(got.After) != c.after {
			t.Errorf("from backup %q, %+v: between %d and %d: %+v", c.backup, c.target, xid(got.Before), xid(got.After), got)
		}
	}
	for backup, why := range map[string]string{"B": "before backup B is consistent", "C": "backup C is not there"} {
		got := Target(t.Context(), TargetOptions{Target: hclspec.Target{Time: clock(15), Inclusive: true}, Cluster: cluster, Archive: a, Backup: backup})
		if got.Reachable || !strings.Contains(got.Why, why) {
			t.Errorf("from backup %s: %+v", backup, got)
		}
	}
}

// TestTheNearestCanBeReached: whatever is named instead of a target that cannot be reached is itself reached, where backups
// are kept alone, with no more WAL than makes them consistent.
func TestTheNearestCanBeReached(t *testing.T) {
	l := newLine(1, 3)
	l.checkpoint(clock(0))
	l.commit(10, clock(5)) // while A is taken
	l.other(8)
	stopA := l.at()
	l.other(3 << 20)
	redoB := l.at()
	l.checkpoint(clock(100))
	l.commit(20, clock(105)) // while B is taken
	l.other(8)
	l.other(8)
	stopB := l.at()
	a := &archive{}
	a.put(l)
	for seg := range a.segments {
		if seg.Start(testSize) > stopA && seg.End(testSize) < redoB {
			delete(a.segments, seg)
		}
	}
	last := testSize.SegmentAt(1, stopA)
	a.segments[last] = a.segments[last][:stopA-last.Start(testSize)]
	cluster := clusterOf(a, []state.Backup{backupAt("A", l.first, stopA, clock(6)), backupAt("B", redoB, stopB, clock(106))})
	for _, x := range []hclspec.Target{
		{Time: clock(50), Inclusive: true},
		{Time: clock(-5), Inclusive: true},
		{Time: clock(900), Inclusive: true},
		{Time: clock(50)},
		{LSN: l.first - 8, Inclusive: true},
		{LSN: stopA + 1<<20, Inclusive: true},
		{LSN: 1 << 40, Inclusive: true},
		{XID: 99, Inclusive: true},
		{Restore: "nothing", Inclusive: true},
	} {
		got := Target(t.Context(), TargetOptions{Target: x, Cluster: cluster, Archive: a})
		if got.Reachable || got.Unknown != nil || len(got.Nearest) == 0 {
			t.Errorf("%+v: %+v", x, got)
		}
		offersWhatIsThere(t, cluster, a, got.Nearest)
	}
}

func offersWhatIsThere(t *testing.T, cluster state.Cluster, a *archive, offers []state.Nearest) {
	t.Helper()
	for _, n := range offers {
		as := []hclspec.Target{{LSN: n.LSN, Inclusive: true}}
		if !n.Time.IsZero() {
			as = append(as, hclspec.Target{Time: n.Time, Inclusive: true})
		}
		for _, x := range as {
			if got := Target(t.Context(), TargetOptions{Target: x, Cluster: cluster, Archive: a}); !got.Reachable {
				t.Errorf("%+v is offered, and %+v cannot be reached: %s", n, x, got.Why)
			}
		}
	}
}

// TestAGapOfAnotherTimeline is no cause: the branch that was left lost WAL at positions that the line went on with.
func TestAGapOfAnotherTimeline(t *testing.T) {
	parent := newLine(1, 3)
	parent.checkpoint(clock(0))
	parent.other(8)
	stop := parent.at()
	parent.commit(10, clock(10))
	child := parent.child(2)
	at := parent.at()
	child.commit(13, clock(40))
	a := &archive{}
	a.put(parent)
	a.put(child)
	cluster := clusterOf(a, []state.Backup{backupAt("A", parent.first, stop, clock(1))}, state.History{Timeline: 2, Parents: []state.Parent{{Timeline: 1, Switch: at}}})
	cluster.Gaps = []state.Gap{{Range: wal.Range{Timeline: 1, From: at, To: at + 1<<30}, Reason: "the old primary's slot was lost"}}
	got := Target(t.Context(), TargetOptions{Target: hclspec.Target{Time: clock(70), Inclusive: true}, Cluster: cluster, Archive: a})
	if got.Reachable || strings.Contains(got.Why, "recorded as lost") {
		t.Errorf("%+v", got)
	}
}

// TestTheTimelineOfAllRepositories: one repository was away during a failover and knows the branch alone that was left; the
// latest moment is that of the one which goes farthest.
func TestTheTimelineOfAllRepositories(t *testing.T) {
	parent := newLine(1, 3)
	parent.checkpoint(clock(0))
	parent.other(8)
	stop := parent.at()
	parent.commit(10, clock(10))
	child := parent.child(2)
	at := parent.at()
	parent.commit(11, clock(20)) // nobody has it any more
	parent.commit(12, clock(30))
	child.commit(13, clock(40))
	lagging := &archive{}
	lagging.put(child)
	child.commit(14, clock(50))
	away, there := &archive{}, &archive{}
	away.put(parent)
	there.put(parent)
	there.put(child)
	for seg, b := range away.segments {
		lagging.segments[wal.Segment{Timeline: 1, Number: seg.Number}] = b
	}
	h := state.History{Timeline: 2, Parents: []state.Parent{{Timeline: 1, Switch: at}}}
	backups := []state.Backup{backupAt("A", parent.first, stop, clock(1))}
	archives := map[string]*archive{"away": away, "lagging": lagging, "there": there}
	sources := []source{
		{label: "away", cluster: clusterOf(away, backups)},
		{label: "lagging", cluster: clusterOf(lagging, backups, h)},
		{label: "there", cluster: clusterOf(there, backups, h)},
	}
	ask := func(s source, o TargetOptions) state.TargetFact {
		o.Cluster, o.Archive = s.cluster, archives[s.label]
		return Target(context.Background(), o)
	}
	for _, c := range []struct {
		target        hclspec.Target
		before, after uint32
	}{
		{hclspec.Target{Time: clock(25), Inclusive: true}, 10, 13},
		{hclspec.Target{Time: clock(25), Inclusive: true, Timeline: 1}, 11, 12},
		{hclspec.Target{Latest: true}, 14, 0},
	} {
		if got := askAll(sources, "orders", TargetOptions{Target: c.target}, ask); !got.Reachable || xid(got.Before) != c.before || xid(got.After) != c.after {
			t.Errorf("%+v: between %d and %d: %+v", c.target, xid(got.Before), xid(got.After), got)
		}
	}
}

// TestANameThatWasGivenMoreThanOnce: behind the backup, before it, in the backup after it, and on a timeline that was left.
func TestANameThatWasGivenMoreThanOnce(t *testing.T) {
	parent := newLine(1, 3)
	parent.checkpoint(clock(0))
	parent.point("p", clock(1))
	first := parent.at()
	redoA := parent.at()
	parent.checkpoint(clock(5))
	parent.other(8)
	stopA := parent.at()
	parent.commit(10, clock(10))
	parent.point("p", clock(15))
	hit := parent.at()
	parent.point("other", clock(16))
	parent.point("p", clock(17))
	second := parent.at()
	child := parent.child(2)
	at := parent.at()
	parent.commit(11, clock(20))
	parent.point("p", clock(21))
	left := parent.at()
	child.commit(12, clock(30))
	child.commit(13, clock(40))
	a := &archive{}
	a.put(parent)
	a.put(child)
	cluster := clusterOf(a, []state.Backup{backupAt("A", redoA, stopA, clock(6))}, state.History{Timeline: 2, Parents: []state.Parent{{Timeline: 1, Switch: at}}})
	point := func(l wal.LSN, at int) wal.RestorePoint { return wal.RestorePoint{Name: "p", LSN: l, Time: clock(at)} }
	cluster.RestorePoints = &state.RestorePoints{Stretches: []state.PointStretch{
		{Range: wal.Range{Timeline: 1}, Newest: []wal.RestorePoint{point(left, 21), point(hit, 15), point(first, 1)}},
	}}
	got := Target(t.Context(), TargetOptions{Target: hclspec.Target{Restore: "p", Inclusive: true}, Cluster: cluster, Archive: a})
	want := []state.Nearest{{Time: clock(1), LSN: first}, {Time: clock(17), LSN: second}, {Time: clock(21), LSN: left, Timeline: 1}}
	if diff := cmp.Diff(want, got.Again); !got.Reachable || got.End != hit || diff != "" {
		t.Errorf("%+v (-want +got)\n%s", got, diff)
	}
	on1 := Target(t.Context(), TargetOptions{Target: hclspec.Target{LSN: left, Timeline: 1}, Cluster: cluster, Archive: a})
	if !on1.Reachable || xid(on1.Before) != 11 {
		t.Errorf("what is said to go there does not: %+v", on1)
	}
	once := Target(t.Context(), TargetOptions{Target: hclspec.Target{Restore: "other", Inclusive: true}, Cluster: cluster, Archive: a})
	if !once.Reachable || len(once.Again) != 0 {
		t.Errorf("%+v", once)
	}
}

// TestATransactionOnTwoTimelines: the branch that was left and the line that goes on gave out the same xid.
func TestATransactionOnTwoTimelines(t *testing.T) {
	parent := newLine(1, 3)
	parent.checkpoint(clock(0))
	parent.other(8)
	stop := parent.at()
	parent.commit(10, clock(10))
	child := parent.child(2)
	at := parent.at()
	parent.commit(11, clock(20))
	parent.commit(12, clock(30))
	child.commit(11, clock(40))
	child.commit(13, clock(50))
	a := &archive{}
	a.put(parent)
	a.put(child)
	cluster := clusterOf(a, []state.Backup{backupAt("A", parent.first, stop, clock(1))}, state.History{Timeline: 2, Parents: []state.Parent{{Timeline: 1, Switch: at}}})
	for timeline, want := range map[wal.Timeline][2]uint32{0: {11, 13}, 1: {11, 12}, 2: {11, 13}} {
		got := Target(t.Context(), TargetOptions{Target: hclspec.Target{XID: 11, Inclusive: true, Timeline: timeline}, Cluster: cluster, Archive: a})
		if at := map[wal.Timeline]int{0: 40, 1: 20, 2: 40}[timeline]; !got.Reachable || xid(got.Before) != want[0] || xid(got.After) != want[1] || !got.Before.Time.Equal(clock(at)) {
			t.Errorf("timeline %d: between %+v and %+v: %+v", timeline, got.Before, got.After, got)
		}
	}
}
