package hclspec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sort"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
)

// jsonValue is one value of a JSON source, with its place.
type jsonValue struct {
	is         byte // { [ " 0 (number) t f n
	start, end int
	text       string // of a string, decoded; of a number, as written
	items      []jsonValue
	names      []jsonValue // the keys of an object; items has the values
}

// jsonReader reads JSON with places, which encoding/json does not give.
type jsonReader struct {
	src    []byte
	name   string
	at     int
	tokens int
	lines  []int // where each line begins
}

// jsonProblem is the first thing that is wrong with a JSON source.
type jsonProblem struct {
	at         int
	what, hint string
	tooBig     bool
}

func newJSONReader(name string, src []byte) *jsonReader {
	r := &jsonReader{src: src, name: name, lines: []int{0}}
	for i, c := range src {
		if c == '\n' {
			r.lines = append(r.lines, i+1)
		}
	}
	return r
}

// document reads the only value of the source.
func (r *jsonReader) document() (jsonValue, *jsonProblem) {
	if valid := bytes.ToValidUTF8(r.src, nil); len(valid) < len(r.src) {
		return jsonValue{}, &jsonProblem{at: commonPrefix(valid, r.src), what: "The file is not UTF-8."}
	}
	if bytes.HasPrefix(r.src, []byte("\ufeff")) {
		return jsonValue{}, &jsonProblem{what: "The file begins with a byte order mark.", hint: "Save it as UTF-8 without one."}
	}
	v, problem := r.value(1)
	if problem != nil {
		return v, problem
	}
	if r.space(); r.at < len(r.src) {
		return v, r.unexpected("the end of the file", "One file holds one object.")
	}
	return v, nil
}

func commonPrefix(a, b []byte) int {
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return len(a)
}

func (r *jsonReader) space() {
	for r.at < len(r.src) && bytes.IndexByte([]byte(" \t\r\n"), r.src[r.at]) >= 0 {
		r.at++
	}
}

func (r *jsonReader) unexpected(wanted, hint string) *jsonProblem {
	if r.at >= len(r.src) {
		return &jsonProblem{at: len(r.src), what: "The file ends where " + wanted + " is wanted.", hint: hint}
	}
	c, _ := utf8.DecodeRune(r.src[r.at:])
	return &jsonProblem{at: r.at, what: fmt.Sprintf("%s is wanted, and this is %q.", upperFirst(wanted), c), hint: hint}
}

func upperFirst(s string) string { return string(bytes.ToUpper([]byte(s[:1]))) + s[1:] }

// value reads one value at a depth of brackets.
func (r *jsonReader) value(depth int) (jsonValue, *jsonProblem) {
	r.space()
	r.tokens++
	if depth > maxDepth {
		return jsonValue{}, &jsonProblem{at: r.at, what: fmt.Sprintf("Brackets and quotes may nest %d deep.", maxDepth), tooBig: true}
	}
	if r.at >= len(r.src) {
		return jsonValue{}, r.unexpected("a value", "")
	}
	switch c := r.src[r.at]; {
	case c == '{':
		return r.object(depth)
	case c == '[':
		return r.array(depth)
	case c == '"':
		return r.string()
	case c == '-' || c >= '0' && c <= '9':
		return r.number()
	}
	for _, word := range []string{"true", "false", "null"} {
		if bytes.HasPrefix(r.src[r.at:], []byte(word)) {
			v := jsonValue{is: word[0], start: r.at, end: r.at + len(word)}
			r.at = v.end
			return v, nil
		}
	}
	return jsonValue{}, r.unexpected("a value", `Values are "text", 1, true, false, null, [ ] and { }. An expression stands in quotes: "${var.env}".`)
}

func (r *jsonReader) object(depth int) (jsonValue, *jsonProblem) {
	v := jsonValue{is: '{', start: r.at}
	r.at++
	if r.space(); r.take('}') {
		v.end = r.at
		return v, nil
	}
	for {
		if r.space(); r.at >= len(r.src) || r.src[r.at] != '"' {
			return v, r.unexpected("a name in quotes", "")
		}
		name, problem := r.string()
		if problem != nil {
			return v, problem
		}
		if r.space(); !r.take(':') {
			return v, r.unexpected("a colon", "")
		}
		item, problem := r.value(depth + 1)
		if problem != nil {
			return v, problem
		}
		v.names, v.items = append(v.names, name), append(v.items, item)
		if done, problem := r.next('}'); done || problem != nil {
			v.end = r.at
			return v, problem
		}
	}
}

func (r *jsonReader) array(depth int) (jsonValue, *jsonProblem) {
	v := jsonValue{is: '[', start: r.at}
	r.at++
	if r.space(); r.take(']') {
		v.end = r.at
		return v, nil
	}
	for {
		item, problem := r.value(depth + 1)
		if problem != nil {
			return v, problem
		}
		v.items = append(v.items, item)
		if done, problem := r.next(']'); done || problem != nil {
			v.end = r.at
			return v, problem
		}
	}
}

// next reads a comma, or the bracket that ends the collection.
func (r *jsonReader) next(closing byte) (done bool, problem *jsonProblem) {
	r.space()
	if r.take(closing) {
		return true, nil
	}
	if !r.take(',') {
		return false, r.unexpected(fmt.Sprintf("a comma or %c", closing), "")
	}
	if r.space(); r.at < len(r.src) && r.src[r.at] == closing {
		return false, &jsonProblem{at: r.at, what: "A comma stands before the closing bracket.", hint: "JSON has none there: take it out."}
	}
	return false, nil
}

func (r *jsonReader) take(c byte) bool {
	if r.at < len(r.src) && r.src[r.at] == c {
		r.at++
		r.tokens++
		return true
	}
	return false
}

func (r *jsonReader) string() (jsonValue, *jsonProblem) {
	v := jsonValue{is: '"', start: r.at}
	for r.at++; ; r.at++ {
		switch {
		case r.at >= len(r.src) || r.src[r.at] == '\n':
			return v, &jsonProblem{at: v.start, what: "The text has no closing quote.", hint: `A new line in text is written \n.`}
		case r.src[r.at] == '\\':
			r.at++
			continue
		case r.src[r.at] == '"':
			r.at++
			v.end = r.at
			if err := json.Unmarshal(r.src[v.start:v.end], &v.text); err != nil {
				return v, &jsonProblem{at: v.start, what: "The text holds an escape or a character that JSON does not have.", hint: `JSON has \" \\ \/ \b \f \n \r \t and \u0000.`}
			}
			return v, nil
		}
	}
}

func (r *jsonReader) number() (jsonValue, *jsonProblem) {
	v := jsonValue{is: '0', start: r.at}
	for r.at < len(r.src) && bytes.IndexByte([]byte("+-.eE0123456789"), r.src[r.at]) >= 0 {
		r.at++
	}
	v.end, v.text = r.at, string(r.src[v.start:r.at])
	if !json.Valid([]byte(v.text)) {
		return v, &jsonProblem{at: v.start, what: fmt.Sprintf("%s is not a number of JSON.", quote(v.text))}
	}
	return v, nil
}

// pos gives the place of a byte. Columns count bytes.
func (r *jsonReader) pos(at int) hcl.Pos {
	line := sort.SearchInts(r.lines, at+1)
	return hcl.Pos{Line: line, Column: at - r.lines[line-1] + 1, Byte: at}
}

func (r *jsonReader) between(start, end int) hcl.Range {
	return hcl.Range{Filename: r.name, Start: r.pos(start), End: r.pos(end)}
}

func (r *jsonReader) rangeOf(v jsonValue) hcl.Range { return r.between(v.start, v.end) }
