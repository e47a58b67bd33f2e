package plan

import (
	"fmt"
	"strings"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
)

// due is a schedule with its ticks around now.
type due struct {
	spec *hclspec.Schedule
	zone *time.Location
	last time.Time // the newest tick at or before now; zero: none in the last five years
	next time.Time // the first tick after now; zero: none
	err  error     // cron or zone cannot be read
}

// newDue computes a schedule's ticks. The only thing read beside the arguments is Go's table of time zones.
func newDue(s *hclspec.Schedule, now time.Time) *due {
	d := &due{spec: s}
	name := s.Timezone
	if name == "" {
		name = "UTC"
	}
	d.zone, d.err = time.LoadLocation(name)
	if d.err != nil {
		d.zone = time.UTC
		return d
	}
	d.last, d.next, d.err = Ticks(s.Cron, s.Address, d.zone, now)
	return d
}

// Ticks gives the newest moment at or before now at which a cron expression of five fields fires, and the first after
// it; zero where there is none within five years. key spreads H. A tick in the hour that spring skips happens an hour later by the
// clock on the wall; one in the hour that autumn repeats happens at its first pass, unless the cron fires every hour.
func Ticks(expression, key string, zone *time.Location, now time.Time) (last, next time.Time, err error) {
	schedule, err := hclspec.ParseCron(expression, key)
	if err != nil {
		return last, next, fmt.Errorf("read cron %q: %w", expression, err)
	}
	now = now.In(zone)
	once := firesOnce(expression)
	after := func(t time.Time) time.Time {
		n := schedule.Next(t)
		if once && !n.IsZero() && sameWall(n, n.Add(-time.Hour)) {
			n = schedule.Next(n)
		}
		return n
	}
	next = after(now)
	const longest = 5 * 366 * 24 * time.Hour
	for back := 2 * time.Hour; back < 2*longest; back *= 4 {
		for t := after(now.Add(-back)); !t.IsZero() && !t.After(now); t = after(t) {
			last = t
		}
		if !last.IsZero() {
			break
		}
	}
	return last, next, nil
}

// firesOnce tells whether a cron names its hours, so that a repeated hour is meant once.
func firesOnce(expression string) bool {
	fields := strings.Fields(expression)
	return len(fields) == 5 && !strings.Contains(fields[1], "*")
}

// sameWall tells whether clocks on the wall show the same at both moments.
func sameWall(a, b time.Time) bool {
	return a.Hour() == b.Hour() && a.Minute() == b.Minute() && a.Day() == b.Day()
}

// verdict says whether a schedule asks for a backup now, seeing the tries since its last tick. When a failed one is to
// be repeated later, again says when.
func (d *due) verdict(backups []*state.Backup, now time.Time) (isDue bool, why string, again time.Time) {
	if d.last.IsZero() {
		return false, "", again
	}
	failed, newest := 0, time.Time{}
	for _, b := range backups {
		began := begunAt(b, now)
		if began.Before(d.last) {
			continue
		}
		if WasCut(*b) {
			failed++
			newest = later(newest, began)
			continue
		}
		switch b.State { //nolint:exhaustive // what was cut is told above
		case state.BackupRunning, state.BackupCommitted, state.BackupDamaged, state.BackupDeleted:
			return false, "", again
		case state.BackupAborted, state.BackupAbandoned, state.BackupCorrupt:
			failed++
			newest = later(newest, began)
		}
	}
	until := d.last.Add(d.spec.StartWithin)
	tick := d.last.Format("2006-01-02 15:04 MST")
	if failed > 0 {
		retry := newest.Add(backoff(failed))
		switch {
		case now.After(until):
			return false, fmt.Sprintf("%s of the backup due at %s failed, and its start_within of %s is over", count(failed, "try"), tick, Span(d.spec.StartWithin)), again
		case now.Before(retry):
			return false, fmt.Sprintf("the backup due at %s failed and is tried again at %s", tick, Moment(retry)), retry
		}
		return true, fmt.Sprintf("the schedule's tick of %s has no backup; %s failed", tick, count(failed, "try")), again
	}
	if now.After(until) && d.spec.IfMissed == "skip" {
		return false, fmt.Sprintf("the tick of %s was missed by more than %s, and if_missed = \"skip\"", tick, Span(d.spec.StartWithin)), again
	}
	return true, "no backup began at or after the schedule's tick of " + tick, again
}

// backoff gives the pause after the n-th failure: 1, 2, 4 … minutes, at most an hour.
func backoff(n int) time.Duration { return min(time.Minute<<min(n-1, 10), time.Hour) }

// begunAt tells when a backup began by the clock of the machine that ordered it, which schedules go by, or by
// PostgreSQL's where the former cannot be right.
func begunAt(b *state.Backup, now time.Time) time.Time {
	const skew = 10 * time.Minute
	if t, ok := namedAt(b.ID); ok && !t.After(now.Add(skew)) {
		return t
	}
	if b.Began.After(now.Add(skew)) {
		return time.Time{}
	}
	return b.Began
}
