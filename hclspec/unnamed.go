package hclspec

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// unnamed is a name that nothing declares, with every place that uses it: one wrong label is one error, however often the
// right one is written elsewhere.
type unnamed struct {
	said   *hcl.Diagnostic
	places []hcl.Range
}

// missing reports a name that nothing declares. name tells such names apart: the first use gives the words, and the later
// ones only their places.
func (l *loader) missing(name, summary, detail, hint string, at *hcl.Range) {
	u := l.unnamed[name]
	if u == nil {
		u = &unnamed{said: failure(summary, detail, hint, at)}
		l.unnamed[name], l.diags = u, append(l.diags, u.said)
	}
	if at != nil && !slices.Contains(u.places, *at) {
		u.places = append(u.places, *at)
	}
}

// morePlaces is how many further uses of a missing name are told; more are counted.
const morePlaces = 5

// tellPlaces puts each report of a missing name at its first use, and names the others.
func (l *loader) tellPlaces() {
	for _, u := range l.unnamed {
		if len(u.places) < 2 {
			continue
		}
		slices.SortFunc(u.places, func(a, b hcl.Range) int {
			return cmp.Or(cmp.Compare(a.Filename, b.Filename), cmp.Compare(a.Start.Byte, b.Start.Byte))
		})
		u.said.Subject = &u.places[0]
		var more []string
		for _, at := range u.places[1:] {
			if s := spot(relocated(l.files, at)); !slices.Contains(more, s) {
				more = append(more, s)
			}
		}
		rest := ""
		if n := len(more) - morePlaces; n > 0 {
			rest, more = fmt.Sprintf(" and %d more", n), more[:morePlaces]
		}
		u.said.Detail += " It is used at " + strings.Join(more, ", ") + rest + " too."
	}
}

// relocated counts the lines of a place in JSON again: text with \n in it has more lines than the file.
func relocated(files map[string]*hcl.File, at hcl.Range) hcl.Range {
	if f := files[at.Filename]; f != nil && strings.HasSuffix(at.Filename, ".json") && at.Start.Byte <= len(f.Bytes) {
		at.Start.Line = 1 + bytes.Count(f.Bytes[:at.Start.Byte], []byte("\n"))
	}
	return at
}

// stray reports a value for a variable that nothing declares, unless what could not be read may declare it.
func (l *loader) stray(summary, detail, hint string, at *hcl.Range) {
	if !l.half {
		l.fail(summary, detail, hint, at)
	}
}
