package hclspec

import (
	"fmt"
	"strings"
	"time"

	cron "github.com/netresearch/go-cron"
)

// cronFields are the five fields of cron(5), with H for a value spread by name, and with day of month or day of week,
// as cron(5) has it, when both are given.
const cronFields = cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.DowOrDom | cron.Hash

// unscheduled is a mistake in a cron expression or a time zone, which has a code in docs/errors.md.
type unscheduled struct{ mistake }

// Unwrap gives the mistake.
func (u unscheduled) Unwrap() error { return u.mistake }

// checkCron refuses what is not five fields, and what never comes.
func checkCron(expression string) error {
	hint := `Write minute, hour, day of month, month and day of week, for example "0 1 * * *" for every night at one.`
	if strings.HasPrefix(expression, "@") {
		return unscheduled{mistake{fmt.Sprintf("%s is a nickname, not five fields.", quote(expression)), hint}}
	}
	if strings.Contains(expression, "TZ=") {
		return unscheduled{mistake{fmt.Sprintf("%s names a time zone inside the expression.", quote(expression)), "Use the attribute timezone."}}
	}
	if len(expression) > 200 || len(strings.Fields(expression)) != 5 {
		return unscheduled{mistake{fmt.Sprintf("%s is not five fields.", quote(expression)), hint}}
	}
	s, err := ParseCron(expression, "check")
	if err != nil {
		return unscheduled{mistake{fmt.Sprintf("%s is not a cron expression: %v.", quote(expression), err), hint}}
	}
	if s.Next(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return unscheduled{mistake{fmt.Sprintf("%s never comes: no calendar has such a day.", quote(expression)), ""}}
	}
	return nil
}

// ParseCron reads the five fields of cron(5). H is spread by key, the address of the schedule, so that equal files give
// equal times. The schedule's Next works in the time zone of its argument. Load has refused what never comes and what names
// a zone; here only what cannot be read is an error.
func ParseCron(expression, key string) (cron.Schedule, error) {
	p, err := cron.TryNewParser(cronFields)
	if err != nil {
		return nil, err
	}
	return p.ParseWithHashKey(expression, key)
}

// loadZone finds an IANA time zone. "Local" is refused: a configuration means the same on every machine.
func loadZone(name string) (*time.Location, error) {
	refused := unscheduled{mistake{fmt.Sprintf("%s is not a time zone.", quote(name)), `Write an IANA name, for example "UTC" or "Europe/Berlin".`}}
	if name == "" || name == "Local" {
		return nil, refused
	}
	z, err := time.LoadLocation(name)
	if err != nil {
		return nil, refused
	}
	return z, nil
}
