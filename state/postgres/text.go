package postgres

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/pgkeep/pgkeep/state/wal"
)

// cleanText makes text from a server fit for a terminal and one line of a log: no control characters, not long.
func cleanText(s string) string {
	const most = 400
	var b strings.Builder
	for _, r := range strings.ToValidUTF8(s, "?") {
		if b.Len() >= most {
			b.WriteString("…")
			break
		}
		if !unicode.IsPrint(r) { // controls, and the marks that turn the direction of writing
			r = ' '
		}
		b.WriteRune(r)
	}
	return b.String()
}

func isLowerHex(s string) bool {
	return strings.Trim(s, "0123456789abcdef") == ""
}

// checkSystemID accepts a 64-bit decimal number other than 0, without sign or leading zeros.
func checkSystemID(s string) error {
	if n, err := strconv.ParseUint(s, 10, 64); err != nil || n == 0 || strconv.FormatUint(n, 10) != s {
		return fmt.Errorf("%q is not a system identifier", cleanText(s))
	}
	return nil
}

// parseSegmentSize reads wal_segment_size as SHOW prints it: "16MB", "1GB".
func parseSegmentSize(s string) (wal.SegmentSize, error) {
	unit := uint64(1)
	digits := s
	switch {
	case strings.HasSuffix(s, "GB"):
		unit, digits = 1<<30, s[:len(s)-2]
	case strings.HasSuffix(s, "MB"):
		unit, digits = 1<<20, s[:len(s)-2]
	case strings.HasSuffix(s, "kB"):
		unit, digits = 1<<10, s[:len(s)-2]
	}
	n, err := strconv.ParseUint(digits, 10, 31)
	if err != nil || n*unit > 1<<30 {
		return 0, fmt.Errorf("%q is not a WAL segment size", cleanText(s))
	}
	z := wal.SegmentSize(n * unit)
	return z, z.Check()
}

// parseSettingTime reads a setting in milliseconds as SHOW prints it, in the greatest unit that divides it: "500ms", "1min",
// "0" (src/backend/utils/misc/guc.c, time_unit_conversion_table, 13 to 18).
func parseSettingTime(s string) (time.Duration, error) {
	digits := strings.TrimRight(s, "adhimns")
	units := map[string]time.Duration{"ms": time.Millisecond, "s": time.Second, "min": time.Minute, "h": time.Hour, "d": 24 * time.Hour}
	unit, known := units[s[len(digits):]]
	n, err := strconv.ParseUint(digits, 10, 31)
	if err != nil || !known && s != "0" || n > uint64(1<<31*time.Millisecond/max(unit, 1)) {
		return 0, fmt.Errorf("%q is not a time", cleanText(s))
	}
	return time.Duration(n) * unit, nil
}

// parseServerVersion makes 150018 of "15.18 (Debian 15.18-0+deb12u1)" and 180000 of "18beta1".
func parseServerVersion(s string) (int, error) {
	digits := func(s string) string {
		if i := strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' }); i >= 0 {
			return s[:i]
		}
		return s
	}
	major, err := strconv.ParseUint(digits(s), 10, 10)
	if err != nil {
		return 0, fmt.Errorf("%q is not a PostgreSQL version", cleanText(s))
	}
	_, after, ok := strings.Cut(s, ".")
	if !ok || len(digits(s))+1+len(after) != len(s) {
		return int(major) * 10000, nil
	}
	minor, err := strconv.ParseUint(digits(after), 10, 12)
	if err != nil || minor > 9999 {
		return 0, fmt.Errorf("%q is not a PostgreSQL version", cleanText(s))
	}
	return int(major)*10000 + int(minor), nil
}

// quoteLiteral writes a string constant for the walsender's grammar, which knows no backslashes.
func quoteLiteral(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// quoteName writes an identifier.
func quoteName(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }
