package observe

import (
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// consistent offers the first moment that a backup can be recovered to.
func consistent(b *state.Backup) state.Nearest {
	return state.Nearest{Time: b.Ended, LSN: b.Stop, Note: "backup " + b.ID + " is consistent"}
}

// lastOf offers the last moment that a backup can be recovered to, by what a search up to the end of its WAL found. Commits
// that came while the backup was taken are before it is consistent.
func lastOf(b *state.Backup, f found, end wal.LSN, note string) state.Nearest {
	switch {
	case f.before == nil:
		return state.Nearest{LSN: end, Note: "end of the archived WAL"}
	case f.before.LSN < b.Stop:
		return consistent(b)
	}
	return state.Nearest{Time: f.before.Time, LSN: f.before.LSN, Note: note}
}

// tried leaves out the moments that are not reached themselves. Of those that are reached as a position alone, because
// nothing proves that the server was silent up to their time, the time is said and not offered.
func (t *targeting) tried(offers []state.Nearest) []state.Nearest {
	if t.trial {
		return offers
	}
	reached := func(x hclspec.Target, on wal.Timeline) bool {
		o := t.TargetOptions
		o.Target, o.trial = x, true
		o.Target.Inclusive, o.Target.Timeline = true, on
		return targetOn(t.ctx, o).Reachable
	}
	var out []state.Nearest
	for _, n := range offers {
		if n.Timeline == 0 {
			n.Timeline = t.Target.Timeline
		}
		if !reached(hclspec.Target{LSN: n.LSN}, n.Timeline) {
			continue
		}
		if !n.Time.IsZero() && !reached(hclspec.Target{Time: n.Time}, n.Timeline) {
			n.Note += ", about " + n.Time.UTC().Format("2006-01-02 15:04:05 UTC")
			n.Time = time.Time{}
		}
		out = append(out, n)
	}
	return out
}
