package observe

import (
	"strings"
	"testing"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
)

// TestAFastClockRefusesNothing: a machine whose clock is an hour ahead says that its only backup ended after commits that
// came after it. What the WAL says counts then, and only that.
func TestAFastClockRefusesNothing(t *testing.T) {
	l := newLine(1, 3)
	l.commit(9, clock(-100))
	redo := l.at()
	l.checkpoint(clock(0))
	l.commit(10, clock(1)) // while it was taken
	l.other(8)
	stop := l.at()
	l.commit(11, clock(10))
	l.commit(12, clock(30))
	a := &archive{}
	a.put(l)
	b := backupAt("A", redo, stop, clock(3600+2))
	for name, c := range map[string]struct {
		target        hclspec.Target
		before, after uint32
		why           string
	}{
		"between its commits":       {target: hclspec.Target{Time: clock(20), Inclusive: true}, before: 11, after: 12},
		"of a commit":               {target: hclspec.Target{Time: clock(10), Inclusive: true}, before: 11, after: 12},
		"of a commit, exclusive":    {target: hclspec.Target{Time: clock(10)}, before: 10, after: 11},
		"after all, nothing proves": {target: hclspec.Target{Time: clock(40), Inclusive: true}, why: "nothing proves"},
		"before its own commits":    {target: hclspec.Target{Time: clock(-50), Inclusive: true}, why: "before the first usable backup"},
		"before what it holds":      {target: hclspec.Target{Time: clock(-200), Inclusive: true}, why: "before the first usable backup"},
	} {
		cluster := clusterOf(a, []state.Backup{b})
		got := Target(t.Context(), TargetOptions{Target: c.target, Cluster: cluster, Archive: a})
		if got.Unknown != nil || got.Reachable != (c.why == "") || !strings.Contains(got.Why, c.why) {
			t.Errorf("%s: %+v", name, got)
		}
		if got.Reachable && (xid(got.Before) != c.before || xid(got.After) != c.after) {
			t.Errorf("%s: between %d and %d, not %d and %d", name, xid(got.Before), xid(got.After), c.before, c.after)
		}
		if !got.Reachable && len(got.Nearest) == 0 {
			t.Errorf("%s: no moment nearby is named", name)
		}
	}
}

// TestAStepBackIsNoProof: the server's clock was ahead while it wrote what the backup holds, and was set right behind it.
// A later commit with an earlier time does not prove that the backup holds nothing of after the target.
func TestAStepBackIsNoProof(t *testing.T) {
	l := newLine(1, 3)
	l.commit(9, clock(500))
	redo := l.at()
	l.checkpoint(clock(0))
	l.commit(10, clock(5))
	l.other(8)
	stop := l.at()
	l.commit(11, clock(30))
	a := &archive{}
	a.put(l)
	cluster := clusterOf(a, []state.Backup{backupAt("A", redo, stop, clock(3600))})
	got := Target(t.Context(), TargetOptions{Target: hclspec.Target{Time: clock(20), Inclusive: true}, Cluster: cluster, Archive: a})
	if got.Reachable {
		t.Errorf("%+v", got)
	}
}
