package observe

import (
	"slices"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// farthest is past every position that WAL has.
const farthest = wal.LSN(1<<64 - 1)

// chooseBackups keeps the usable backups on the line of history, newest first.
func (t *targeting) chooseBackups() {
	for _, b := range t.Cluster.Backups {
		if t.history.Contains(b.Timeline, b.Stop) && t.usable(&b) && (t.Backup == "" || t.Backup == b.ID) {
			t.backups = append(t.backups, b)
		}
	}
	slices.SortStableFunc(t.backups, func(a, b state.Backup) int {
		switch {
		case a.Stop > b.Stop:
			return -1
		case a.Stop < b.Stop:
			return 1
		}
		return 0
	})
}

// usable tells whether a recovery can start from a backup on the line: committed, with all WAL up to its end. The segment
// in which its timeline was left is often archived on the next one only.
func (t *targeting) usable(b *state.Backup) bool {
	named := t.Backup == b.ID && b.State == state.BackupDeleted // and held, perhaps: the plan knows
	return (b.State == state.BackupCommitted || named) && t.reach(b.Redo) >= b.Stop
}

// damagedAt gives the stretch of archived WAL at a position that verification found damaged; ok: there is one.
func (t *targeting) damagedAt(timeline wal.Timeline, l wal.LSN) (wal.Range, bool) {
	if t.Cluster.Verified == nil {
		return wal.Range{}, false
	}
	for _, r := range t.Cluster.Verified.BadWAL {
		if r.Timeline == timeline && r.From <= l && l < r.To {
			return r, true
		}
	}
	return wal.Range{}, false
}

// contiguous gives the end of the archived WAL of a timeline that holds l, or l where none does.
func (t *targeting) contiguous(timeline wal.Timeline, l wal.LSN) wal.LSN {
	for _, r := range t.held {
		if r.Timeline == timeline && r.From <= l && l < r.To {
			return r.To
		}
	}
	return l
}

// reach gives the position up to which WAL is archived without a hole from `from` on. The segment in which a timeline
// was left is read from the younger one, which begins with a copy of it.
func (t *targeting) reach(from wal.LSN) wal.LSN {
	at := from
	for i, stretch := range t.history.Path(from, farthest) {
		begin := stretch.From
		if i > 0 {
			begin = t.size.Floor(begin)
		}
		end := t.contiguous(stretch.Timeline, begin)
		if i > 0 && end <= stretch.From {
			return at
		}
		at = min(end, stretch.To)
		if stretch.To == farthest || at < t.size.Floor(stretch.To) {
			return at
		}
	}
	return at
}

// archiveEnd gives the end of the newest archived WAL on the line of history.
func (t *targeting) archiveEnd() wal.LSN {
	var end wal.LSN
	for _, stretch := range t.history.Path(0, farthest) {
		for _, r := range t.held {
			if r.Timeline == stretch.Timeline && r.To > stretch.From {
				end = max(end, min(r.To, stretch.To))
			}
		}
	}
	return end
}

// segments lists, in order, the segments that recovery reads from one position to another, each of the timeline that it
// is read from.
func (t *targeting) segments(from, to wal.LSN) []wal.Range {
	var out []wal.Range
	path := t.history.Path(from, to)
	for i, stretch := range path {
		begin, end := t.size.Floor(stretch.From), t.size.Ceil(stretch.To)
		if i+1 < len(path) {
			end = t.size.Floor(stretch.To)
		}
		if begin < end {
			out = append(out, wal.Range{Timeline: stretch.Timeline, From: begin, To: end})
		}
	}
	return out
}
