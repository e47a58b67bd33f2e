package observe

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// TestCausesAreNamed: what made the hole is said, and both sides of it.
func TestCausesAreNamed(t *testing.T) {
	type facts = *state.Cluster
	at := func(seconds int) hclspec.Target { return hclspec.Target{Time: clock(seconds), Inclusive: true} }
	for name, c := range map[string]struct {
		target   hclspec.Target
		change   func(facts)
		receiver *state.Receiver
		why      []string
		nearest  int
	}{
		"damaged segment": {
			target: at(70), nearest: 2,
			change: func(c facts) {
				to := c.WAL[0].To
				c.Verified = &state.Verification{Began: clock(500), BadWAL: []wal.Range{{Timeline: 1, From: to - wal.LSN(testSize), To: to}}}
			},
			why: []string{"is damaged: segment 0000000100000000000000", "as the verification of 2026-02-10 12:08:20 UTC found"},
		},
		"pruned": {
			target: at(-5), nearest: 1, change: func(c facts) { c.Backups[0].State, c.Backups[0].Tombed = state.BackupDeleted, clock(400) },
			why: []string{"before the first usable backup, B", "backup A was deleted at 2026-02-10 12:06:40 UTC"},
		},
		"in the future":  {target: at(5000), nearest: 1, why: []string{"it is in the future"}},
		"lag":            {target: at(900), nearest: 1, receiver: &state.Receiver{Timeline: 1, Flushed: 1 << 30, ServerEnd: 1 << 31}, why: []string{"the server had written up to 0/80000000"}},
		"last caught up": {target: at(900), nearest: 1, receiver: &state.Receiver{Timeline: 1, CaughtUpAt: clock(200)}, why: []string{"last had all that the server wrote at 2026-02-10T12:03:20Z"}},
		"not found":      {target: hclspec.Target{XID: 99, Inclusive: true}, nearest: 2, why: []string{"it may have been in WAL that is missing: timeline 1, "}},
		"a gap behind it all": {target: at(900), nearest: 1, change: func(c facts) {
			c.Gaps = []state.Gap{{Range: wal.Range{Timeline: 1, From: 0, To: 1 << 40}, Reason: "the slot was lost"}}
		}, why: []string{"recorded as lost: the slot was lost"}},
	} {
		a, cluster, _ := example(t)
		if c.change != nil {
			c.change(&cluster)
		}
		got := Target(t.Context(), TargetOptions{Target: c.target, Cluster: cluster, Archive: a, Receiver: c.receiver, Now: clock(1000)})
		if got.Unknown != nil || got.Reachable || len(got.Nearest) != c.nearest {
			t.Errorf("%s: %+v %+v", name, got, got.Unknown)
		}
		for _, why := range c.why {
			if !strings.Contains(got.Why, why) {
				t.Errorf("%s: %q does not say %q", name, got.Why, why)
			}
		}
	}
}

// TestNothingCommittedSinceTheBackup: the last commit before the target is one that the backup holds.
func TestNothingCommittedSinceTheBackup(t *testing.T) {
	l := newLine(1, 3)
	l.checkpoint(clock(0))
	l.commit(10, clock(10))
	l.commit(11, clock(11))
	l.other(3 << 20) // nothing is committed in the segments between
	redo := l.at()
	l.checkpoint(clock(20))
	l.other(100)
	stop := l.at()
	l.commit(12, clock(40))
	a := &archive{}
	a.put(l)
	cluster := clusterOf(a, []state.Backup{backupAt("A", redo, stop, clock(21))})
	for _, x := range []hclspec.Target{{Time: clock(30), Inclusive: true}, {XID: 12}, {LSN: stop}, {Immediate: true}} {
		got := Target(t.Context(), TargetOptions{Target: x, Cluster: cluster, Archive: a})
		if !got.Reachable || xid(got.Before) != 11 || xid(got.After) != 12 {
			t.Errorf("%+v: between %d and %d: %+v", x, xid(got.Before), xid(got.After), got)
		}
	}
	bad := damaged{archive: a, segment: testSize.SegmentAt(1, l.first)}
	if got := Target(t.Context(), TargetOptions{Target: hclspec.Target{XID: 12}, Cluster: cluster, Archive: bad}); !got.Reachable || got.Before != nil {
		t.Errorf("WAL that no recovery reads is damaged, and nobody has found it yet: %+v %+v", got, got.Unknown)
	}
	delete(a.segments, testSize.SegmentAt(1, l.first))
	cluster = clusterOf(a, cluster.Backups)
	if got := Target(t.Context(), TargetOptions{Target: hclspec.Target{XID: 12}, Cluster: cluster, Archive: a}); !got.Reachable || got.Before != nil {
		t.Errorf("the commits before are not archived any more: %+v", got)
	}
}

// damaged is an archive one of whose segments cannot be read, although the index tells what it holds.
type damaged struct {
	*archive
	segment wal.Segment
}

func (d damaged) Segment(ctx context.Context, seg wal.Segment) (io.ReadCloser, error) {
	if seg == d.segment {
		return nil, errors.New("its bytes are not those that were archived")
	}
	return d.archive.Segment(ctx, seg)
}

// TestABackupBesideAFailover: the segment in which its timeline was left is archived on the next timeline only.
func TestABackupBesideAFailover(t *testing.T) {
	parent := newLine(1, 3)
	parent.checkpoint(clock(0))
	parent.other(2 << 20)
	redo := parent.at()
	parent.checkpoint(clock(5))
	parent.other(8)
	stop := parent.at()
	parent.commit(10, clock(10))
	child := parent.child(2)
	at := parent.at()
	parent.commit(11, clock(15)) // on the branch that is left
	child.commit(12, clock(20))
	child.commit(13, clock(30))
	a := &archive{}
	a.put(parent)
	a.put(child)
	b := backupAt("A", redo, stop, clock(6))
	h := state.History{Timeline: 2, Parents: []state.Parent{{Timeline: 1, Switch: at}}}
	left := Target(t.Context(), TargetOptions{Target: hclspec.Target{XID: 11, Inclusive: true}, Cluster: clusterOf(a, []state.Backup{b}, h), Archive: a, Now: time.Time{}})
	if left.Reachable || !strings.Contains(left.Why, "on timeline 1 it is, which was left") {
		t.Errorf("%+v", left)
	}
	delete(a.segments, testSize.SegmentAt(1, at))
	got := Target(t.Context(), TargetOptions{Target: hclspec.Target{Time: clock(25), Inclusive: true}, Cluster: clusterOf(a, []state.Backup{b}, h), Archive: a})
	if !got.Reachable || xid(got.Before) != 12 || xid(got.After) != 13 {
		t.Errorf("between %d and %d: %+v", xid(got.Before), xid(got.After), got)
	}
}
