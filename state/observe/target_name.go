package observe

import (
	"slices"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// namesakes gives other restore points of the target's name: PostgreSQL stops at the first behind the backup, and whoever
// gave the name twice may mean another. Of those after the hit it reads the index up to the end of the next backup, which was
// searched from already; of those before the backup and on timelines that were left it tells what the catalogue names.
func (t *targeting) namesakes(hit wal.LSN, redo wal.LSN) ([]state.Nearest, error) {
	var out []state.Nearest
	add := func(timeline wal.Timeline, p wal.RestorePoint) {
		n := state.Nearest{Time: p.Time, LSN: p.LSN}
		if !t.readsFrom(timeline, p.LSN-1) {
			n.Timeline = timeline
		}
		if p.Name == t.Target.Restore && (p.LSN != hit || n.Timeline != 0) && !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	if points := t.Cluster.RestorePoints; points != nil {
		for _, s := range points.Stretches {
			for _, p := range s.Newest {
				add(s.Timeline, p)
			}
		}
	}
	end := t.reach(redo)
	for i := range t.backups { // newest first
		if b := &t.backups[i]; b.Redo > redo {
			end = min(end, b.Stop)
		}
	}
	if hit >= end {
		return out, nil
	}
	for at, err := range t.walk(hit, end) {
		if err != nil {
			return nil, err
		}
		for _, p := range at.sum.RestorePoints {
			if p.LSN > hit {
				add(at.seg.Timeline, p)
			}
		}
	}
	slices.SortStableFunc(out, func(a, b state.Nearest) int { return a.Time.Compare(b.Time) })
	return out, nil
}
