package observe

import (
	"errors"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/wal"
)

// lastEndBefore gives the newest time, by the server's own clock, of a transaction that ended shortly before the backup's
// redo position, and so is in the backup whatever recovery stops at; zero: the archive does not tell. Backup.Ended is of
// the clock of the machine that took the backup: one that is slow would let a time pass which the backup is already past.
func (t *targeting) lastEndBefore(b *state.Backup) (time.Time, error) {
	seg := t.size.SegmentAt(t.history.TimelineAt(b.Redo), b.Redo)
	if len(wal.Missing(wal.Range{Timeline: seg.Timeline, From: seg.Start(t.size), To: b.Redo}, t.held)) > 0 {
		return time.Time{}, nil // archiving began behind it
	}
	sum, err := t.summary(seg)
	if errors.Is(err, store.ErrNotExist) {
		return time.Time{}, nil
	}
	if err != nil || sum.MaxEnd.IsZero() {
		return time.Time{}, err
	}
	var newest time.Time
	err = t.decode([]place{{seg: seg, sum: sum}}, false, func(e *wal.Event) {
		if (e.Kind == wal.Commit || e.Kind == wal.Abort) && e.Start < b.Redo && e.Time.After(newest) {
			newest = e.Time
		}
	})
	return newest, err
}
