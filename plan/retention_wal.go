package plan

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// walStart gives the first moment for which WAL is kept beyond what makes backups consistent.
func (r *Retained) walStart() time.Time {
	if r.rules.WAL == 0 {
		return r.Start
	}
	return r.clock.Add(-r.rules.WAL)
}

// shortenWAL keeps alone what stays by the rules and lies before the window of WAL: such a backup can be restored as it was at its end, and
// the WAL after it goes. What somebody holds keeps its WAL, and so does what no rule decides.
func (r *Retained) shortenWAL() {
	if r.rules.WAL == 0 {
		return
	}
	needs := map[int]bool{}
	r.inWindow(r.walStart(), func(i int, _ Cause) { needs[i] = true })
	for i := range r.Fates {
		f := &r.Fates[i]
		if needs[i] || f.Usability != state.Usable {
			continue
		}
		switch f.Cause {
		case StaysInWindow, StaysWindowStart, StaysRedundancy, StaysCounted, StaysMinimum, StaysReferred:
			f.Alone = true
		case StaysUnjudged, StaysRunning, StaysUnfinished, StaysDeleted, StaysHeld, StaysWaiting, StaysDamaged, StaysCorrupt, StaysLocked, GoesByNoRule, GoesLost:
		}
	}
	r.newestNeverAlone()
}

// letGo says of a target that is not reached that a retention lets WAL go which is older than its window; empty: none does, or the
// target is not in such WAL.
func (b *builder) letGo(rec hclspec.Recovery, homes []*home) string {
	if rec.Target.Latest || rec.Target.Immediate {
		return ""
	}
	s := &server{seen: b.seen.Servers[rec.Server]}
	for _, h := range homes {
		blocks := b.retentionsOf(rec.Server, h)
		rules := Join(blocks)
		if rules.WAL == 0 || !rec.Target.Time.IsZero() && !rec.Target.Time.Before(b.now.Add(-rules.WAL)) {
			continue
		}
		if rec.Target.LSN != 0 {
			r := Retain(h.archive.Cluster, rules, b.deletionClock(s, h), s.seen.Timeline)
			x, not := h.archive.lineFor(rec.Target, state.TargetFact{})
			if not != "" || !r.letsGo(h.archive.timelineOn(x, rec.Target.LSN), rec.Target.LSN) {
				continue
			}
		}
		return fmt.Sprintf("; %s keeps the WAL of %s in %s for %s only (wal_window): of older moments only the ends of backups can be recovered (--backup ID --immediate)",
			longestWAL(blocks).Address, rec.Server, h.spec.Address, Span(rules.WAL))
	}
	return ""
}

// longestWAL gives the block whose window of WAL counts.
func longestWAL(blocks []*hclspec.Retention) *hclspec.Retention {
	return slices.MaxFunc(blocks, func(x, y *hclspec.Retention) int { return cmp.Compare(x.WALWindow, y.WALWindow) })
}

// letsGo tells whether the rules ask for no moment in the segment that holds a position.
func (r Retained) letsGo(t wal.Timeline, at wal.LSN) bool {
	if r.Stopped != "" || r.archive == nil {
		return false
	}
	size := r.archive.size
	segment := wal.Range{Timeline: t, From: size.Floor(at), To: ceil(at+1, size)}
	return len(wal.Missing(segment, r.needed())) > 0
}

// whyLetGo says of a hole in the WAL that the rules let it go; empty: they did not.
func (r Retained) whyLetGo(t wal.Timeline, from wal.LSN) string {
	if !r.letsGo(t, ceil(from, r.size())) {
		return ""
	}
	text := fmt.Sprintf("WAL after %s was let go: %s asks for no moment in it", from, r.rules.Blocks[0].Address)
	if r.rules.WAL > 0 {
		text += fmt.Sprintf(" (wal_window %s)", Span(r.rules.WAL))
	}
	return text + ", and backups that stay keep the WAL that makes them consistent"
}

func (r Retained) size() wal.SegmentSize {
	if r.archive == nil {
		return wal.DefaultSegmentSize
	}
	return r.archive.size
}
