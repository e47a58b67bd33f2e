package plan

import (
	"encoding/json"
	"errors"
	"slices"
	"unicode/utf8"
)

// maxDepth is how deep the values of a saved plan may lie in each other.
const maxDepth = 40

// wellFormed tells whether data is one JSON document that is not too deep and in which no object has a name twice:
// Go's decoder would take the last of two, another reader the first.
func wellFormed(data []byte) error {
	if !json.Valid(data) {
		var syntax *json.SyntaxError
		var v json.RawMessage
		if err := json.Unmarshal(data, &v); errors.As(err, &syntax) && syntax.Offset < int64(len(data)) {
			return bad("it is no JSON from byte %d on", syntax.Offset)
		}
		return bad("it is cut short after %d bytes", len(data))
	}
	return (&nameWalk{data: data}).check()
}

// nameWalk walks over valid JSON and notes the names of the objects that are open.
type nameWalk struct {
	data []byte
	open []*openValue
	free []*openValue // those that were closed, to be used again
	name bool         // the next string is a name
}

// openValue is an object or array that is not closed yet. Most objects have few names: they are compared one by one, and
// looked up only where there are many.
type openValue struct {
	object bool
	names  []string
	many   map[string]bool
}

// fewNames is up to how many names are compared one by one.
const fewNames = 16

// add notes a name; false: the object has it already.
func (o *openValue) add(name string) bool {
	if len(o.names) < fewNames {
		if slices.Contains(o.names, name) {
			return false
		}
		o.names = append(o.names, name)
		return true
	}
	if o.many == nil {
		o.many = make(map[string]bool, 4*fewNames)
		for _, n := range o.names {
			o.many[n] = true
		}
	}
	if o.many[name] {
		return false
	}
	o.many[name] = true
	return true
}

func (w *nameWalk) check() error {
	for i := 0; i < len(w.data); i++ {
		switch w.data[i] {
		case '{', '[':
			if len(w.open) == maxDepth {
				return bad("its values lie deeper in each other than %d", maxDepth)
			}
			w.enter(w.data[i] == '{')
		case '}', ']':
			w.leave()
		case ',':
			w.name = len(w.open) > 0 && w.open[len(w.open)-1].object
		case '"':
			end := closingQuote(w.data, i)
			if w.name {
				if err := w.note(w.data[i : end+1]); err != nil {
					return err
				}
			}
			i = end
		}
	}
	return nil
}

func (w *nameWalk) enter(object bool) {
	w.name = object
	o := &openValue{}
	if n := len(w.free); n > 0 {
		o, w.free = w.free[n-1], w.free[:n-1]
	}
	o.object = object
	w.open = append(w.open, o)
}

func (w *nameWalk) leave() {
	o := w.open[len(w.open)-1]
	w.open, w.name = w.open[:len(w.open)-1], false
	o.names, o.many = o.names[:0], nil
	w.free = append(w.free, o)
}

// note takes the name of a member, and refuses one that the object has already.
func (w *nameWalk) note(quoted []byte) error {
	name := string(quoted[1 : len(quoted)-1])
	if !plainName(quoted[1 : len(quoted)-1]) {
		if err := json.Unmarshal(quoted, &name); err != nil {
			return bad("%s", err)
		}
	}
	if !w.open[len(w.open)-1].add(name) {
		return bad("the field %.60q is in one object twice", name)
	}
	w.name = false
	return nil
}

// plainName tells whether a name stands for itself: ASCII without an escape.
func plainName(text []byte) bool {
	for _, c := range text {
		if c == '\\' || c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// closingQuote gives the end of the string that begins at i.
func closingQuote(data []byte, i int) int {
	for i++; data[i] != '"'; i++ {
		if data[i] == '\\' {
			i++
		}
	}
	return i
}
