package hclspec

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// constraint is one comparison of required_version.
type constraint struct {
	op      string
	version []int
}

// parseConstraints reads ">= 0.1, < 2". ~> 1.2 means at least 1.2 and below 2; ~> 1.2.3 at least 1.2.3 and below 1.3.
func parseConstraints(s string) ([]constraint, error) {
	var out []constraint
	for part := range strings.SplitSeq(s, ",") {
		part = strings.TrimSpace(part)
		n := strings.IndexFunc(part, func(r rune) bool { return r >= '0' && r <= '9' })
		if n < 0 {
			return nil, badConstraint(part)
		}
		op := strings.TrimSpace(part[:n])
		if op == "" {
			op = "="
		}
		v, ok := parseVersion(part[n:])
		if !ok || !slices.Contains([]string{"=", "!=", ">", ">=", "<", "<=", "~>"}, op) || op == "~>" && len(v) < 2 {
			return nil, badConstraint(part)
		}
		out = append(out, constraint{op, v})
	}
	return out, nil
}

func badConstraint(part string) error {
	return mistake{fmt.Sprintf("%s is not a constraint on versions.", quote(part)), `Write for example ">= 0.1" or "~> 1.2, != 1.2.5".`}
}

func checkConstraints(s string) error { _, err := parseConstraints(s); return err }

// parseVersion reads "v1.2.3-rc1+x" as 1, 2, 3.
func parseVersion(s string) ([]int, bool) {
	s, _, _ = strings.Cut(strings.TrimPrefix(s, "v"), "-")
	s, _, _ = strings.Cut(s, "+")
	var out []int
	for part := range strings.SplitSeq(s, ".") {
		n, err := strconv.ParseUint(part, 10, 31)
		if err != nil || len(out) == 3 {
			return nil, false
		}
		out = append(out, int(n))
	}
	return out, true
}

func compareVersions(a, b []int) int {
	for i := range 3 {
		if d := at(a, i) - at(b, i); d != 0 {
			return d
		}
	}
	return 0
}

func at(v []int, i int) int {
	if i < len(v) {
		return v[i]
	}
	return 0
}

func (c constraint) met(version []int) bool {
	d := compareVersions(version, c.version)
	switch c.op {
	case "=":
		return d == 0
	case "!=":
		return d != 0
	case ">":
		return d > 0
	case ">=":
		return d >= 0
	case "<":
		return d < 0
	case "<=":
		return d <= 0
	}
	limit := append([]int(nil), c.version[:len(c.version)-1]...)
	limit[len(limit)-1]++
	return d >= 0 && compareVersions(version, limit) < 0
}
