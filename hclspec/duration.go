package hclspec

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// mistake is why a value is refused. Its text never holds a sensitive value: such values are refused before they are
// read.
type mistake struct{ what, hint string }

// Error gives the sentence and the hint.
func (m mistake) Error() string {
	if m.hint == "" {
		return m.what
	}
	return m.what + " " + m.hint
}

// units of a duration; a month and a year are not there because their length differs.
var units = []struct {
	name string
	long time.Duration
}{
	{"ms", time.Millisecond},
	{"s", time.Second},
	{"m", time.Minute},
	{"h", time.Hour},
	{"d", 24 * time.Hour},
	{"w", 7 * 24 * time.Hour},
}

// ParseDuration reads "7d", "1h30m", "500ms". Units are ms, s, m (minutes), h, d (24 hours) and w.
func ParseDuration(s string) (time.Duration, error) {
	rest, total := s, float64(0)
	if rest == "" {
		return 0, mistake{"A duration is a number with its unit, and this is empty.", `Write for example "10s", "4h" or "7d".`}
	}
	for rest != "" {
		n := strings.IndexFunc(rest, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
		if n <= 0 || n > 15 {
			return 0, badDuration(s, n < 0)
		}
		number, err := strconv.ParseFloat(rest[:n], 64)
		if err != nil {
			return 0, badDuration(s, false)
		}
		rest = rest[n:]
		u := strings.IndexFunc(rest, func(r rune) bool { return r >= '0' && r <= '9' || r == '.' })
		if u < 0 {
			u = len(rest)
		}
		long, ok := unitOf(rest[:u])
		if !ok {
			return 0, badDuration(s, false)
		}
		total += number * float64(long)
		rest = rest[u:]
	}
	if total > math.MaxInt64/2 {
		return 0, mistake{fmt.Sprintf("%s is longer than any duration pgkeep can count.", quote(s)), ""}
	}
	return time.Duration(math.Round(total)), nil
}

func unitOf(name string) (time.Duration, bool) {
	for _, u := range units {
		if u.name == name {
			return u.long, true
		}
	}
	return 0, false
}

func badDuration(s string, noUnit bool) error {
	hint := `Units are ms, s, m (minutes), h, d and w, for example "10s", "1h30m" or "7d".`
	if noUnit {
		return mistake{fmt.Sprintf("%s has no unit.", quote(s)), fmt.Sprintf("Write %q, %q or %q.", s+"s", s+"h", s+"d")}
	}
	return mistake{fmt.Sprintf("%s is not a duration.", quote(s)), hint}
}

// FormatDuration writes a duration as ParseDuration reads it, in the largest units that fit: "7d", "1h30m".
func FormatDuration(d time.Duration) string {
	if d == 0 {
		return "0s"
	}
	var b strings.Builder
	for i := len(units) - 2; i >= 0; i-- { // weeks are read, not written
		if n := d / units[i].long; n > 0 {
			fmt.Fprintf(&b, "%d%s", n, units[i].name)
			d -= n * units[i].long
		}
	}
	return b.String()
}

// quote shows a value that is wrong, cut when it is long, and without a secret key that strayed there.
func quote(s string) string {
	s = secretKey.ReplaceAllString(s, "***")
	if r := []rune(s); len(r) > 60 {
		s = string(r[:57]) + "..."
	}
	return strconv.Quote(s)
}
