package hclspec

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
)

// Check is one question to the copy, and the answer that it must give.
type Check struct {
	Name     string `json:"name"`
	Database string `json:"database"`
	SQL      string `json:"sql"`
	Expect   string `json:"expect"`
}

func checkBlock() block {
	return block{name: "check", label: "name", attributes: []attribute{
		{name: "database", kind: text(63), required: true},
		{name: "sql", kind: query(), required: true},
		{name: "expect", kind: text(1000), standard: `"t"`},
	}}
}

// query is SQL of one statement, which may stand on several lines.
func query() kind {
	read := func(v cty.Value, _ *time.Location) (any, error) {
		s, err := asText(v)
		if err != nil {
			return nil, err
		}
		s = strings.TrimSpace(s)
		if s == "" || len(s) > 10000 {
			return nil, mistake{"SQL of one statement is wanted, of at most 10,000 bytes.", ""}
		}
		return s, checkPlain(strings.NewReplacer("\n", " ", "\t", " ").Replace(s))
	}
	return kind{name: "SQL", read: read, refused: []refusal{{"empty", `""`}, {"longer than 10,000 bytes", `"` + long(10001) + `"`}, {"control characters but line breaks and tabs", `"select\r1"`}}}
}

// checks decodes the check blocks, of which there may be several.
func (l *loader) checks(schema *block, label string, d *decoded, blocks hcl.Blocks) []Check {
	i := slices.IndexFunc(schema.blocks, func(b block) bool { return b.name == "check" })
	inner := schema.blocks[i]
	var out []Check
	for _, b := range blocks {
		if b.Type != "check" {
			continue
		}
		c := l.decodeAt("check.", &inner, b, nil)
		d.broken = d.broken || c.broken
		if slices.ContainsFunc(out, func(o Check) bool { return o.Name == b.Labels[0] }) {
			l.refuse("Two checks of one name", mistake{fmt.Sprintf("%s %q has two checks %q.", schema.name, label, b.Labels[0]), "Give each a name of its own."}, b.DefRange)
			continue
		}
		if err := CheckName(b.Labels[0]); err != nil {
			l.refuse("Invalid name", err, b.LabelRanges[0])
		}
		out = append(out, Check{Name: b.Labels[0], Database: text0(c, "database"), SQL: text0(c, "sql"), Expect: text0(c, "expect")})
	}
	slices.SortFunc(out, func(a, b Check) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Askable refuses checks that nobody could answer when the recovery is at its target.
func (r Recovery) Askable() error {
	d := r.Destination
	switch {
	case len(r.Checks) == 0:
	case r.Target.Action == "shutdown":
		return mistake{"The server shuts down at the target, and then nobody answers a check.", `Write action = "pause" or "promote", or leave out the checks.`}
	case d.PrimaryConninfo != "":
		return mistake{"A standby has no target at which it could be asked.", "Leave out the checks, or primary_conninfo."}
	}
	for _, c := range r.Checks {
		if len(d.Databases) > 0 && !slices.Contains(d.Databases, c.Database) {
			return mistake{fmt.Sprintf("Check %q asks database %s, which is not restored.", c.Name, c.Database), "Add it to databases, or leave out the check."}
		}
	}
	return nil
}
