package hclspec

import (
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"

	"github.com/pgkeep/pgkeep/state/wal"
)

// kind is how the value of an attribute is read, and what the documentation says of it.
type kind struct {
	name      string
	sensitive bool     // a sensitive value may be given
	static    bool     // a name or type that is read as it is written, never evaluated
	shape     shape    // for the JSON Schema; zero: text
	words     []string // the only ones, of a choice
	pattern   string   // that text must match at least
	item      *kind    // of a list
	least     int64    // of a whole number
	most      int64
	refused   []refusal // in the words of docs/language.md, each with a value that shows it
	read      func(v cty.Value, zone *time.Location) (any, error)
}

// shape is what a value looks like in JSON.
type shape int

const (
	shapeText shape = iota
	shapeBool
	shapeWhole
	shapeList
	shapeMap
	shapeReferences
)

// refusal is a reason for which a value is refused. The example, an HCL expression, is tried by a test; it is empty
// where the reason lies in another attribute.
type refusal struct{ when, example string }

// asText reads a string, or a number or bool as a string.
func asText(v cty.Value) (string, error) {
	s, err := convert.Convert(v, cty.String)
	if err != nil || s.IsNull() {
		return "", mistake{fmt.Sprintf("Text in quotes is wanted, and this is %s.", v.Type().FriendlyName()), ""}
	}
	return s.AsString(), nil
}

// readText makes a reader of text that passes the check.
func readText[T any](parse func(string) (T, error)) func(cty.Value, *time.Location) (any, error) {
	return func(v cty.Value, _ *time.Location) (any, error) {
		s, err := asText(v)
		if err != nil {
			return nil, err
		}
		if err := checkPlain(s); err != nil {
			return nil, err
		}
		return parse(s)
	}
}

// passing turns a check into a parser that changes nothing.
func passing(check func(string) error) func(string) (string, error) {
	return func(s string) (string, error) { return s, check(s) }
}

// oneOf is one of a few words.
func oneOf(choices ...string) kind {
	parse := func(s string) (string, error) {
		if slices.Contains(choices, s) {
			return s, nil
		}
		hint := "Write " + orList(choices) + "."
		if near := nearest(s, choices); near != "" {
			hint = fmt.Sprintf("Did you mean %q?", near)
		}
		return s, mistake{fmt.Sprintf("%s is not one of %s.", quote(s), orList(choices)), hint}
	}
	return kind{name: strings.Join(quoteAll(choices), " \\| "), words: choices, refused: []refusal{{"any other word", `"neither"`}}, read: readText(parse)}
}

func duration(shortest, longest time.Duration) kind {
	parse := func(s string) (time.Duration, error) {
		d, err := ParseDuration(s)
		if err == nil && (d < shortest || d > longest) {
			err = mistake{fmt.Sprintf("%s is not between %s and %s.", quote(s), FormatDuration(shortest), FormatDuration(longest)), ""}
		}
		return d, err
	}
	return kind{name: "duration", pattern: `^([0-9.]+(ms|s|m|h|d|w))+$`, read: readText(parse), refused: []refusal{
		{"no unit", `"10"`},
		{"shorter than " + FormatDuration(shortest), fmt.Sprintf("%q", FormatDuration(shortest/2))},
		{"longer than " + FormatDuration(longest), fmt.Sprintf("%q", FormatDuration(longest+time.Second))},
	}}
}

func whole(least, most int64) kind {
	read := func(v cty.Value, _ *time.Location) (any, error) {
		n, err := convert.Convert(v, cty.Number)
		if err != nil || n.IsNull() {
			return nil, mistake{fmt.Sprintf("A whole number is wanted, and this is %s.", v.Type().FriendlyName()), ""}
		}
		i, accuracy := n.AsBigFloat().Int64()
		if accuracy != big.Exact || i < least || i > most {
			return nil, mistake{fmt.Sprintf("A whole number from %d to %d is wanted.", least, most), ""}
		}
		return i, nil
	}
	return kind{name: "whole number", shape: shapeWhole, least: least, most: most, read: read, refused: []refusal{
		{fmt.Sprintf("below %d", least), fmt.Sprint(least - 1)}, {fmt.Sprintf("above %d", most), fmt.Sprint(most + 1)},
	}}
}

func boolean() kind {
	read := func(v cty.Value, _ *time.Location) (any, error) {
		b, err := convert.Convert(v, cty.Bool)
		if err != nil || b.IsNull() {
			return nil, mistake{fmt.Sprintf("true or false is wanted, and this is %s.", v.Type().FriendlyName()), ""}
		}
		return b.True(), nil
	}
	return kind{name: "true or false", shape: shapeBool, read: read, refused: []refusal{{"anything else", `"perhaps"`}}}
}

func directory() kind {
	return kind{name: "absolute path", pattern: "^/.", read: readText(passing(checkPath)), refused: []refusal{
		{"not absolute", `"srv/pgkeep"`}, {"not clean", `"/srv/../etc"`}, {"`/`", `"/"`}, {"holds control characters", `"/srv/\n"`},
	}}
}

func machine() kind {
	return kind{name: "machine name", read: readText(passing(checkHost)), refused: []refusal{{"not a host name", `"back up"`}}}
}

func rate() kind {
	parse := func(s string) (int64, error) {
		n, err := parseRate(s)
		if err == nil && (n < 32<<10 || n > 1<<30) {
			err = mistake{fmt.Sprintf("%s is not between 32KiB/s and 1GiB/s, which is what PostgreSQL takes.", quote(s)), ""}
		}
		return n, err
	}
	return kind{name: "size/s", pattern: `^[0-9.]+([KMGTP]i)?B/s$`, read: readText(parse), refused: []refusal{
		{"no `/s`", `"200MiB"`}, {"below 32KiB/s", `"1KiB/s"`}, {"above 1GiB/s", `"2GiB/s"`}, {"`MB`: two readings", `"200MB/s"`},
	}}
}

func limit() kind {
	return kind{name: "size or %", pattern: `^[0-9.]+(([KMGTP]i)?B|%)$`, read: readText(parseLimit), refused: []refusal{
		{"below 64MiB", `"1MiB"`}, {"not 1% to 99%", `"100%"`}, {"`GB`: two readings", `"5GB"`},
	}}
}

func secretText() kind {
	read := func(v cty.Value, _ *time.Location) (any, error) {
		s, err := asText(v)
		if err != nil || strings.TrimSpace(s) == "" || strings.ContainsRune(s, 0) {
			return nil, mistake{"A connection string of libpq is wanted.", `Write for example "host=10.0.1.1 user=pgkeep dbname=postgres".`}
		}
		return NewSecret(s), nil
	}
	return kind{name: "connection string", sensitive: true, read: read, refused: []refusal{
		{"empty", `""`}, {"a keyword that libpq does not know", ""}, {"no user, unless a service is named", ""},
	}}
}

func matching(name string, check func(string) error, refused ...refusal) kind {
	return kind{name: name, read: readText(passing(check)), refused: refused}
}

func lsn() kind {
	parse := func(s string) (wal.LSN, error) {
		l, err := wal.ParseLSN(s)
		if err != nil || l == 0 {
			return 0, mistake{fmt.Sprintf("%s is not a position in the WAL.", quote(s)), `Write it as PostgreSQL does, for example "16/B374D848".`}
		}
		return l, nil
	}
	return kind{name: "LSN", pattern: "^[0-9A-Fa-f]+/[0-9A-Fa-f]+$", read: readText(parse), refused: []refusal{{"not an LSN", `"16B374D848"`}, {"`0/0`", `"0/0"`}}}
}

func moment() kind {
	read := func(v cty.Value, zone *time.Location) (any, error) {
		s, err := asText(v)
		if err != nil {
			return nil, err
		}
		return ParseMoment(s, zone)
	}
	return kind{name: "moment with offset", pattern: "^2[01][0-9]{2}-", read: read, refused: []refusal{{"no offset: both readings are named", `"2026-02-10 21:16:17"`}}}
}

// listOf reads a list, set or tuple of what one reads.
func listOf(one kind, name string, refused ...refusal) kind {
	read := func(v cty.Value, zone *time.Location) (any, error) {
		t := v.Type()
		if !t.IsTupleType() && !t.IsListType() && !t.IsSetType() {
			return nil, mistake{fmt.Sprintf("A list in brackets is wanted, and this is %s.", t.FriendlyName()), ""}
		}
		var out []string
		for _, item := range v.AsValueSlice() {
			if item.IsNull() {
				return nil, mistake{"The list holds null.", ""}
			}
			x, err := one.read(item, zone)
			if err != nil {
				return nil, err
			}
			if slices.Contains(out, x.(string)) {
				return nil, mistake{fmt.Sprintf("%s stands in the list twice.", quote(x.(string))), ""}
			}
			out = append(out, x.(string))
		}
		return out, nil
	}
	return kind{name: name, shape: shapeList, item: &one, read: read, refused: refused}
}

func directories() kind {
	read := func(v cty.Value, zone *time.Location) (any, error) {
		if t := v.Type(); !t.IsObjectType() && !t.IsMapType() {
			return nil, mistake{fmt.Sprintf("A map from tablespace to directory is wanted, and this is %s.", t.FriendlyName()), `Write { fast = "/mnt/nvme/fast" }.`}
		}
		out := map[string]string{}
		for name, item := range v.AsValueMap() {
			if name == "" || len(name) > 63 || checkPlain(name) != nil {
				return nil, mistake{fmt.Sprintf("%s cannot be the name of a tablespace.", quote(name)), ""}
			}
			if item.IsNull() {
				return nil, mistake{fmt.Sprintf("Tablespace %s has no directory.", quote(name)), ""}
			}
			dir, err := directory().read(item, zone)
			if err != nil {
				return nil, err
			}
			out[name] = dir.(string)
		}
		return out, nil
	}
	return kind{name: "map of absolute paths", shape: shapeMap, read: read, refused: []refusal{
		{"a path that is not absolute and clean", `{ fast = "mnt" }`}, {"two tablespaces in one directory, or inside each other", ""},
	}}
}

func quoteAll(words []string) []string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = fmt.Sprintf("%q", w)
	}
	return out
}

func orList(words []string) string {
	q := quoteAll(words)
	if len(q) < 2 {
		return strings.Join(q, "")
	}
	return strings.Join(q[:len(q)-1], ", ") + " or " + q[len(q)-1]
}
