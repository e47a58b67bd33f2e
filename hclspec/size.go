package hclspec

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

var sizeUnits = []struct {
	name  string
	bytes int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"PiB", 1 << 50}, {"B", 1}}

// ParseSize reads "200MiB": B, KiB, MiB, GiB, TiB and PiB. "MB" is refused, because PostgreSQL and everyone else mean
// different numbers by it.
func ParseSize(s string) (int64, error) {
	n := strings.IndexFunc(s, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
	if n < 0 && s != "" {
		return 0, mistake{fmt.Sprintf("%s has no unit.", quote(s)), fmt.Sprintf("Write %q, %q or %q.", s+"B", s+"MiB", s+"GiB")}
	}
	if n <= 0 || n > 18 {
		return 0, badSize(s)
	}
	number, err := strconv.ParseFloat(s[:n], 64)
	if err != nil {
		return 0, badSize(s)
	}
	for _, u := range sizeUnits {
		if u.name != s[n:] {
			continue
		}
		if b := number * float64(u.bytes); b < math.MaxInt64/2 {
			return int64(math.Round(b)), nil
		}
		return 0, mistake{fmt.Sprintf("%s is larger than any size pgkeep can count.", quote(s)), ""}
	}
	if d := strings.ToUpper(s[n:]); len(d) == 2 && strings.Contains("KB MB GB TB PB", d) {
		return 0, twoReadings(s, s[:n], d[:1])
	}
	return 0, badSize(s)
}

// twoReadings refuses the unit that PostgreSQL counts in powers of 1024 and disks in powers of 1000.
func twoReadings(s, number, letter string) error {
	power := strings.Index("KMGTP", letter) + 1
	return mistake{
		fmt.Sprintf("%s has two readings: PostgreSQL counts %sB as 1024^%d bytes, others as 1000^%d.", quote(s), letter, power, power),
		fmt.Sprintf("Write %q for PostgreSQL's reading.", number+letter+"iB"),
	}
}

func badSize(s string) error {
	return mistake{fmt.Sprintf("%s is not a size.", quote(s)), `Units are B, KiB, MiB, GiB, TiB and PiB, for example "16MiB".`}
}

// FormatSize writes a size as ParseSize reads it, exactly.
func FormatSize(n int64) string {
	for i := len(sizeUnits) - 2; i >= 0; i-- {
		if u := sizeUnits[i]; n >= u.bytes && n%u.bytes == 0 {
			return strconv.FormatInt(n/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(n, 10) + "B"
}

// parseRate reads a size for each second: "200MiB/s".
func parseRate(s string) (int64, error) {
	size, ok := strings.CutSuffix(s, "/s")
	if !ok {
		return 0, mistake{fmt.Sprintf("%s is not a rate.", quote(s)), `A rate is a size for each second, for example "200MiB/s".`}
	}
	return ParseSize(size)
}

// parseLimit reads a size, or a share of a file system: "50GiB", "80%".
func parseLimit(s string) (Limit, error) {
	share, ok := strings.CutSuffix(s, "%")
	if !ok {
		n, err := ParseSize(s)
		if err == nil && n < 64<<20 {
			err = mistake{fmt.Sprintf("%s is too small: a spool needs room for a few segments.", quote(s)), `Write at least "64MiB".`}
		}
		return Limit{Bytes: n}, err
	}
	n, err := strconv.Atoi(share)
	if err != nil || n < 1 || n > 99 {
		return Limit{}, mistake{fmt.Sprintf("%s is not a share of a file system.", quote(s)), `Write "1%" to "99%", or a size such as "50GiB".`}
	}
	return Limit{Percent: n}, nil
}
