package plan

import (
	"fmt"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// waitingTooLong is how long a backup may wait for its WAL before that is worth a warning.
const waitingTooLong = time.Hour

// health says what ails the backups and the WAL of a server in one repository.
func (b *builder) health(s *server, h *home, r Retained) {
	at := rangeOf(s.Where.Of("backup"))
	say := func(severity Severity, code state.Code, text, hint string) {
		b.finding(Finding{Severity: severity, Code: code, Subject: s.Address, Text: text, Hint: hint, Range: at})
	}
	for _, f := range r.Fates {
		k := f.Backup
		switch {
		case k.State == state.BackupDamaged && !f.Goes:
			say(Error, state.CodeCorrupt, fmt.Sprintf("backup %s of %s in %s is damaged: pages of the server failed their checksum; it counts for nothing", k.ID, Moment(k.Ended), h.spec.Address),
				"look at the server's disk and find the tables with pg_amcheck; pgkeep backups show "+k.ID)
		case k.State == state.BackupCorrupt:
			say(Error, state.CodeCorrupt, fmt.Sprintf("backup %s in %s cannot be trusted and counts for nothing; it and the WAL that it may need stay: %s", k.ID, h.spec.Address, k.Failure),
				"restore the object from another repository; or give the backup up: pgkeep backups delete "+k.ID)
		case f.Usability == state.LostWAL && !f.Goes:
			say(Error, state.CodeGap, fmt.Sprintf("backup %s in %s can never be made consistent: a gap cuts its WAL", k.ID, h.spec.Address), "pgkeep backup "+s.Name)
		case f.Usability == state.Waiting && b.now.Sub(k.Ended) > waitingTooLong:
			say(Warning, state.CodeGap, fmt.Sprintf("backup %s in %s waits since %s for WAL up to %s", k.ID, h.spec.Address, Moment(k.Ended), k.Stop), "pgkeep receiver status "+s.Name)
		}
	}
	b.gapsSeen(h, r, say)
	b.room(s, h, say)
	if len(r.archive.orphans) > 0 {
		t := r.archive.orphans[0]
		say(Warning, state.CodeGap, fmt.Sprintf("the history file of timeline %d is not archived in %s: nothing is deleted there", t, h.spec.Address),
			fmt.Sprintf("it is on the server as pg_wal/%s", t.HistoryName()))
	}
}

// gapsSeen names the recorded gaps that cut the recovery window: those after the oldest usable backup that stays.
func (b *builder) gapsSeen(h *home, r Retained, say func(Severity, state.Code, string, string)) {
	floor := ^wal.LSN(0)
	for _, f := range r.Fates {
		if f.Usability == state.Usable && !f.Goes {
			floor = min(floor, f.Backup.Redo)
		}
	}
	for _, g := range r.archive.Gaps {
		if g.To > floor {
			say(Warning, state.CodeGap, fmt.Sprintf("%s has a gap, %s (%s), recorded at %s: moments inside it cannot be recovered", h.spec.Address, g.Range, g.Reason, Moment(g.Recorded)), "")
		}
	}
}

// room says when the next backup will not fit.
func (b *builder) room(s *server, h *home, say func(Severity, state.Code, string, string)) {
	need, how, known := b.nextBackup(s, h)
	if !known || h.seen.Free <= 0 || need <= h.seen.Free {
		return
	}
	say(Warning, state.CodeDiskFull, fmt.Sprintf("the next backup of %s will not fit: it needs about %s (%s), and %s has %s free", s.Name, Size(need), how, h.spec.Address, Size(h.seen.Free)),
		"add space there, or keep less: pgkeep plan names what each prune frees; pgkeep backups list "+s.Name)
}

// nextBackup tells how much the next full backup will store, and how that is known: the cluster's size now, where the role
// may read it, at the compression measured by the newest full backup; else what that one stored. Before any full backup
// nothing is known.
func (b *builder) nextBackup(s *server, h *home) (bytes int64, how string, known bool) {
	if h.archive == nil {
		return 0, "", false
	}
	var last *state.Backup
	for i := range h.archive.Backups {
		k := &h.archive.Backups[i]
		if k.State == state.BackupCommitted && k.Kind == "full" && k.StoredBytes > 0 && k.DataBytes > 0 && (last == nil || k.Ended.After(last.Ended)) {
			last = k
		}
	}
	if last == nil {
		return 0, "", false
	}
	if !s.known || s.seen.SizeBytes == 0 {
		return last.StoredBytes, "as much as " + last.ID, true
	}
	ratio := float64(last.StoredBytes) / float64(last.DataBytes)
	return int64(float64(s.seen.SizeBytes) * ratio), fmt.Sprintf("%s at the compression of %s, %.1f to 1", Size(s.seen.SizeBytes), last.ID, 1/ratio), true
}
