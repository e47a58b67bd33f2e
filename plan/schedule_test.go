package plan_test

import (
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/plan"
)

// TestTicks: the last and next tick around the moments at which clocks are put forward and back, and where crons are odd.
func TestTicks(t *testing.T) {
	for _, c := range []struct{ cron, zone, now, last, next string }{
		{"0 1 * * *", "UTC", "2026-02-10T09:00:00Z", "2026-02-10T01:00:00Z", "2026-02-11T01:00:00Z"},
		{"0 1 * * *", "UTC", "2026-02-10T01:00:00Z", "2026-02-10T01:00:00Z", "2026-02-11T01:00:00Z"},
		{"0 1 * * *", "Europe/Berlin", "2026-02-10T00:00:00Z", "2026-02-10T00:00:00Z", "2026-02-11T00:00:00Z"},
		// 2026-03-29: 02:00 CET becomes 03:00 CEST. A tick at 02:30 happens at 03:30, not a day later.
		{"30 2 * * *", "Europe/Berlin", "2026-03-29T12:00:00Z", "2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"},
		{"30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-28T01:30:00Z", "2026-03-29T01:30:00Z"},
		// 2026-10-25: 03:00 CEST becomes 02:00 CET. A tick at 02:30 happens once.
		{"30 2 * * *", "Europe/Berlin", "2026-10-25T12:00:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"},
		{"30 2 * * *", "Europe/Berlin", "2026-10-25T00:45:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"},
		{"0 * * * *", "Europe/Berlin", "2026-10-25T01:10:00Z", "2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z"},
		{"0 4 1 * *", "UTC", "2026-02-10T09:00:00Z", "2026-02-01T04:00:00Z", "2026-03-01T04:00:00Z"},
		{"0 0 29 2 *", "UTC", "2026-02-10T09:00:00Z", "2024-02-29T00:00:00Z", "2028-02-29T00:00:00Z"},
		{"0 0 31 2 *", "UTC", "2026-02-10T09:00:00Z", "", ""},
		{"*/15 * * * *", "UTC", "2026-02-10T09:07:00Z", "2026-02-10T09:00:00Z", "2026-02-10T09:15:00Z"},
		{"0 6 * * 0", "America/New_York", "2026-02-10T09:00:00Z", "2026-02-08T11:00:00Z", "2026-02-15T11:00:00Z"},
	} {
		zone, err := time.LoadLocation(c.zone)
		if err != nil {
			t.Fatal(err)
		}
		last, next, err := plan.Ticks(c.cron, "schedule.nightly", zone, at(t, c.now))
		if err != nil {
			t.Fatal(err)
		}
		if !last.Equal(at(t, c.last)) || !next.Equal(at(t, c.next)) {
			t.Errorf("%s in %s at %s: last %s next %s, want %s and %s", c.cron, c.zone, c.now, last.UTC(), next.UTC(), c.last, c.next)
		}
	}
	if _, _, err := plan.Ticks("61 * * * *", "schedule.nightly", time.UTC, baseTime); err == nil {
		t.Error("minute 61 is accepted")
	}
}

// TestTicksAreSpread: H stands for a minute that is a schedule's own and stays.
func TestTicksAreSpread(t *testing.T) {
	minutes := map[int]bool{}
	for _, key := range []string{"schedule.a", "schedule.b", "schedule.c", "schedule.d", "schedule.e"} {
		last, next, err := plan.Ticks("H 1 * * *", key, time.UTC, baseTime)
		again, _, _ := plan.Ticks("H 1 * * *", key, time.UTC, baseTime)
		if err != nil || last.Hour() != 1 || !last.Equal(again) || next.Minute() != last.Minute() {
			t.Errorf("%s: last %s, again %s, next %s, %v", key, last, again, next, err)
		}
		minutes[last.Minute()] = true
	}
	if len(minutes) < 2 {
		t.Errorf("five schedules begin in minutes %v", minutes)
	}
}

func at(t *testing.T, s string) time.Time {
	t.Helper()
	if s == "" {
		return time.Time{}
	}
	v, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}
