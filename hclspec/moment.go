package hclspec

import (
	"fmt"
	"strings"
	"time"
)

// zoned and naked are the ways to write a moment, with and without its offset.
var (
	zoned = []string{
		"2006-01-02T15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999Z07:00",
		"2006-01-02 15:04:05.999999999Z07", "2006-01-02T15:04:05.999999999Z0700",
		"2006-01-02 15:04:05.999999999-07", "2006-01-02T15:04:05.999999999-07",
		"2006-01-02T15:04Z07:00", "2006-01-02 15:04Z07:00", "2006-01-02 15:04:05.999999999 Z07:00", "2006-01-02 15:04:05.999999999 UTC",
	}
	naked = []string{
		"2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999", "2006-01-02T15:04", "2006-01-02 15:04", "2006-01-02",
	}
)

// ParseMoment reads a point in time with its offset: "2026-02-10T21:16:17Z", "2026-02-10 22:16:17+01". Without an
// offset it is refused, and the refusal names what it would mean in UTC and in zone (nil: only in UTC).
func ParseMoment(s string, zone *time.Location) (time.Time, error) {
	for _, layout := range zoned {
		if t, err := time.Parse(layout, s); err == nil {
			return inRange(s, t.UTC())
		}
	}
	bare, name := s, ""
	if i := strings.LastIndexByte(s, ' '); i > 0 && strings.Contains(s[i:], "/") {
		bare, name = s[:i], s[i+1:]
	}
	if name != "" {
		z, err := loadZone(name)
		if err != nil {
			return time.Time{}, err
		}
		zone = z
	}
	for _, layout := range naked {
		if _, err := time.Parse(layout, bare); err == nil {
			return time.Time{}, withoutOffset(s, bare, layout, zone)
		}
	}
	return time.Time{}, mistake{fmt.Sprintf("%s is not a moment.", quote(s)), `Write date, time and offset, for example "2026-02-10T21:16:17Z" or "2026-02-10 22:16:17+01:00".`}
}

// withoutOffset names both readings of a time that does not say where its clock hangs.
func withoutOffset(s, bare, layout string, zone *time.Location) error {
	inUTC, _ := time.Parse(layout, bare)
	what := fmt.Sprintf("%s has no offset, so it has more than one reading.", quote(s))
	hint := fmt.Sprintf("Write %q for UTC", inUTC.Format(time.RFC3339Nano))
	if zone != nil && zone != time.UTC {
		if there, err := time.ParseInLocation(layout, bare, zone); err == nil {
			hint += fmt.Sprintf(", or %q for %s", there.Format(time.RFC3339Nano), zoneName(zone, there))
		}
	}
	return mistake{what, hint + "."}
}

func zoneName(zone *time.Location, at time.Time) string {
	if zone.String() != "Local" {
		return zone.String()
	}
	short, _ := at.Zone()
	return "this machine's zone (" + short + ")"
}

func inRange(s string, t time.Time) (time.Time, error) {
	if t.Year() < 2000 || t.Year() > 2199 {
		return time.Time{}, mistake{fmt.Sprintf("%s is in no time that PostgreSQL's WAL could tell: years are 2000 to 2199.", quote(s)), ""}
	}
	return t, nil
}
