package plan

import (
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// NeedlessWAL gives the archived WAL that no recovery point needs, as ranges from segment border to segment border. The
// unfinished segment at the end of a timeline is among it only when the server went on to another one.
//
// A segment is needed when a backup that counts stands at or before it on a line of history that stays. Backups count
// until a day after their TOMB, while held, and while they are being written. The line that the server writes stays; a
// branch that was left stays while it has moments inside the window (without a window: as long as a backup reaches it),
// and from any backup on, that lies on the branch itself. A backup that is kept alone needs no more than the segments from
// its redo position to its end. History files are never among the answer.
//
// WAL before a line's oldest backup goes a day after that backup ended: what a first backup makes needless is not worth
// a second plan right after the first, and a day is what deleted backups have too.
func (r Retained) NeedlessWAL() []wal.Range {
	if r.Stopped != "" {
		return nil
	}
	for _, f := range r.Fates {
		if f.Backup.Redo == 0 && counts(f, r) {
			return nil // its START cannot be read: which WAL it needs is not known
		}
	}
	a, needed := r.archive, r.needed()
	var out []wal.Range
	for _, w := range a.WAL {
		for _, free := range wal.Missing(w.Range, needed) {
			free.From, free.To = a.size.Ceil(free.From), a.size.Floor(free.To)
			if !free.Empty() {
				out = append(out, free)
			}
		}
		if tail := a.abandonedTail(w); !tail.Empty() && len(wal.Missing(tail, needed)) == 1 && wal.Missing(tail, needed)[0] == tail {
			out = append(out, tail)
		}
	}
	return wal.Merge(out)
}

// needed gives the WAL that recovery points need, whether it is archived or not.
func (r Retained) needed() []wal.Range {
	var out []wal.Range
	for _, x := range r.archive.lines {
		out = append(out, r.neededOn(x)...)
	}
	out = append(out, r.aloneNeeds()...)
	return wal.Merge(append(out, r.copiesNeeded()...))
}

// abandonedTail gives the segment that a timeline left unfinished, as a whole, when the server writes another one now: it
// is stored in parts and will never be completed. Empty: there is none.
func (a *archive) abandonedTail(w state.WALRange) wal.Range {
	if w.Partial <= w.To || w.Timeline == a.current.timeline {
		return wal.Range{}
	}
	return wal.Range{Timeline: w.Timeline, From: w.To, To: a.size.Ceil(w.Partial)}
}

// copiesNeeded gives, for backups whose own timeline lacks the segment in which it was left, the copies of that segment
// on the timelines that went on from there.
func (r Retained) copiesNeeded() []wal.Range {
	a := r.archive
	var out []wal.Range
	for _, f := range r.Fates {
		b := f.Backup
		own := wal.Range{Timeline: b.Timeline, From: b.Redo, To: b.Stop}
		if !counts(f, r) || len(a.missing([]wal.Range{own})) == 0 {
			continue
		}
		for _, x := range a.lines {
			if !x.holds(b.Timeline, b.Stop) {
				continue
			}
			for _, w := range x.path(b.Redo, b.Stop, a.size) {
				w.From, w.To = a.size.Floor(w.From), a.size.Ceil(w.To)
				out = append(out, w)
			}
		}
	}
	return out
}

// neededOn gives what is needed of the timelines of line x, for its sake.
func (r Retained) neededOn(x line) []wal.Range {
	a := r.archive
	current := x.timeline == a.current.timeline
	stays := current || r.rules.Window == 0 && r.rules.WAL == 0 || !a.branchEnd(x).Before(r.walStart())
	floor, found, young := ^wal.LSN(0), false, false
	for _, f := range r.Fates {
		b := f.Backup
		if f.Alone || !counts(f, r) || !x.holds(b.Timeline, b.Redo) {
			continue
		}
		own := b.Timeline == x.timeline && !a.current.holds(b.Timeline, max(b.Redo, b.Stop))
		if stays || own {
			if b.Redo <= floor {
				floor, young = b.Redo, b.Ended.IsZero() || r.clock.Before(b.Ended.Add(dayAfterTomb))
			}
			found = true
		}
	}
	if !found {
		if !current {
			return nil
		}
		floor = 0 // nothing on this line can be recovered yet; what will be, is not known
	}
	if young {
		floor = 0
	}
	var out []wal.Range
	for _, s := range x.stretches() {
		if s.To <= max(floor, s.From) {
			continue
		}
		end := s.To
		if end != ^wal.LSN(0) {
			end = a.size.Ceil(end)
		}
		out = append(out, wal.Range{Timeline: s.Timeline, From: a.size.Floor(max(s.From, floor)), To: end})
	}
	return out
}

// counts tells whether a backup's WAL is needed.
func counts(f Fate, r Retained) bool {
	if r.later && f.Goes {
		return false
	}
	switch f.Backup.State {
	case state.BackupAbandoned, state.BackupAborted, state.BackupCut:
		return false
	case state.BackupDeleted:
		return liveAfterTomb(f.Backup, r.clock)
	default:
		return true
	}
}
