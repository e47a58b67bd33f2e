package jsonlist

import (
	"bytes"
	"errors"
	"fmt"
	"math"
)

// Rows is a list of rows of whole numbers, none of them negative. Large lists are rows for the most part, and an Of would take three times
// as long to read them.
type Rows[T [3]int64 | [4]int64] []T

var errRow = errors.New("a list of rows of numbers with something else in it")

// UnmarshalJSON is json.Unmarshaler's.
func (l *Rows[T]) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	var row T
	n := bytes.Count(b, []byte("[")) - 1
	if shortest := 2*len(row) + 2; n*shortest > len(b) { // brackets, digits and what parts them
		return fmt.Errorf("a list of %d rows in %d bytes: no writer makes such short ones", n, len(b))
	}
	out := make(Rows[T], 0, max(0, n))
	depth, filled := 0, 0
	for i := 0; i < len(b); i++ { // of valid JSON
		switch c := b[i]; {
		case c == '[' && depth < 2:
			depth++
			filled = 0
		case c == ']':
			if depth--; depth == 0 {
				break
			}
			if filled != len(row) {
				return errRow
			}
			out = append(out, row)
		case '0' <= c && c <= '9' && depth == 2 && filled < len(row):
			v, digits := number(b[i:])
			if digits == 0 {
				return errRow
			}
			row[filled] = v
			filled++
			i += digits - 1
		case c == ',', c == ' ', c == '\n', c == '\t', c == '\r':
		default:
			return errRow
		}
	}
	*l = out
	return nil
}

// number reads the digits that b begins with; none: the number is too large.
func number(b []byte) (v int64, digits int) {
	for digits < len(b) && '0' <= b[digits] && b[digits] <= '9' {
		if v > (math.MaxInt64-9)/10 {
			return 0, 0
		}
		v = 10*v + int64(b[digits]-'0')
		digits++
	}
	return v, digits
}
