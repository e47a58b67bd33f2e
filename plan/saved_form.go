package plan

import (
	"encoding/json"
	"errors"
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
	open []map[string]bool // nil for an array
	name bool              // the next string is a name
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
			w.open = w.open[:len(w.open)-1]
			w.name = false
		case ',':
			w.name = len(w.open) > 0 && w.open[len(w.open)-1] != nil
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
	if object {
		w.open = append(w.open, map[string]bool{})
	} else {
		w.open = append(w.open, nil)
	}
}

// note takes the name of a member, and refuses one that the object has already.
func (w *nameWalk) note(quoted []byte) error {
	var name string
	if err := json.Unmarshal(quoted, &name); err != nil {
		return bad("%s", err)
	}
	names := w.open[len(w.open)-1]
	if names[name] {
		return bad("the field %.60q is in one object twice", name)
	}
	names[name] = true
	w.name = false
	return nil
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
