package observe

import (
	"fmt"
	"testing"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// TestImpossibleTargets is fault D3: every kind of target, inclusive and exclusive, before the first backup, in a gap, in
// the future and on a timeline that is not archived. Each is refused, with its reason and the nearest moments that can be
// reached; latest and immediate have no moment of their own, and are refused on a wrong timeline only.
func TestImpossibleTargets(t *testing.T) {
	a, cluster, l := example(t)
	hole := cluster.WAL[0].To
	cluster.Gaps = []state.Gap{{Range: wal.Range{Timeline: 1, From: hole, To: hole + wal.LSN(testSize)}, Reason: "the slot was lost"}}
	type target = hclspec.Target
	before, gap, future := "before the first backup", "in a gap", "in the future"
	grid := map[string]map[string]target{
		"time": {before: {Time: clock(-5)}, gap: {Time: clock(70)}, future: {Time: clock(1000)}},
		"xid":  {before: {XID: 5}, gap: {XID: 15}, future: {XID: 4000}},
		"name": {before: {Restore: "older"}, gap: {Restore: "lost"}, future: {Restore: "tomorrow"}},
		"lsn":  {before: {LSN: l.first - 8}, gap: {LSN: hole + 8192}, future: {LSN: l.at() + 1<<30}},
	}
	possible := map[string]target{
		"time": {Time: clock(15)}, "xid": {XID: 12}, "name": {Restore: "before"}, "lsn": {LSN: l.records[4].Start},
		"latest": {Latest: true}, "immediate": {Immediate: true},
	}
	ask := func(x target) state.TargetFact {
		return Target(t.Context(), TargetOptions{Target: x, Cluster: cluster, Archive: a})
	}
	refused := func(what string, x target) {
		got := ask(x)
		if got.Unknown != nil || got.Reachable || got.Why == "" || len(got.Nearest) == 0 {
			t.Errorf("%s: %+v", what, got)
			return
		}
		for _, n := range got.Nearest { // what is offered instead is there
			if n.Note == "" || n.LSN == 0 {
				t.Errorf("%s: offers %+v", what, n)
			}
		}
	}
	cells := 0
	for _, inclusive := range []bool{true, false} {
		for kind, places := range grid {
			for place, x := range places {
				x.Inclusive = inclusive
				refused(fmt.Sprintf("%s %s, inclusive %t", kind, place, inclusive), x)
				cells++
			}
		}
		for kind, x := range possible {
			x.Inclusive = inclusive
			if got := ask(x); !got.Reachable {
				t.Errorf("%s, inclusive %t, that is possible: %+v", kind, inclusive, got)
			}
			x.Timeline = 7
			refused(fmt.Sprintf("%s on another timeline, inclusive %t", kind, inclusive), x)
			cells++
		}
	}
	t.Logf("%d impossible targets refused", cells)
}
