package jsonlist

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
)

// Of is a list that is read from JSON which somebody else has written. Written as JSON it is what []T is.
type Of[T any] []T

// most is how many times as long as the JSON of a list its entries may be in memory. The shortest entries that any writer of pgkeep
// makes stay below it: a test beside each type looks.
const most = 7

// UnmarshalJSON is json.Unmarshaler's.
func (l *Of[T]) UnmarshalJSON(b []byte) error {
	n, err := measure[T](b)
	if err != nil {
		return err
	}
	var out []T
	if n > 0 {
		out = make([]T, 0, n) // at once: a list that grows is in memory several times
	}
	if err := json.Unmarshal(b, &out); err != nil {
		return err
	}
	*l = out
	return nil
}

// Measured reads nothing of a list, and refuses what an Of refuses: for a type that has a slice where an Of might be.
type Measured[T any] struct{}

// UnmarshalJSON is json.Unmarshaler's.
func (Measured[T]) UnmarshalJSON(b []byte) error {
	_, err := measure[T](b)
	return err
}

// measure counts a list, and refuses one whose entries would need too much memory.
func measure[T any](b []byte) (int, error) {
	n := count(b)
	if size := int(reflect.TypeFor[T]().Size()); n > most*len(b)/max(1, size) {
		return n, fmt.Errorf("a list of %d entries in %d bytes: no writer makes such short ones", n, len(b))
	}
	return n, nil
}

// Count reads of a list how many entries it has, and nothing else; of a list that stands there twice, how many both have.
type Count int

// UnmarshalJSON is json.Unmarshaler's.
func (n *Count) UnmarshalJSON(b []byte) error {
	*n += Count(count(b))
	return nil
}

// count gives how many entries stand in a list, whose JSON is valid. Of what is no list it gives 0.
func count(b []byte) int {
	if len(b) < 2 || b[0] != '[' || len(bytes.TrimSpace(b[1:len(b)-1])) == 0 {
		return 0
	}
	n, depth := 1, 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			for i++; i < len(b) && b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
		case '[', '{':
			depth++
		case ']', '}':
			depth--
		case ',':
			if depth == 1 {
				n++
			}
		}
	}
	return n
}
