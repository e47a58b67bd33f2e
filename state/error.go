package state

import (
	"errors"
	"strings"
)

// Error is a failure that an operator will read: a stable code, one sentence that names the object and the evidence,
// and the next thing to do. Its text never holds a secret.
type Error struct {
	Code Code
	Text string
	Hint string // the next command, SQL or line to add; empty: none
	Err  error  // the cause; nil: none
}

// Error gives the sentence, followed by the cause when the sentence does not hold it already.
func (e *Error) Error() string {
	if e.Err == nil {
		return e.Text
	}
	cause := e.Err.Error()
	if strings.Contains(e.Text, cause) {
		return e.Text
	}
	return e.Text + ": " + cause
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// CodeOf gives the code of the outermost Error in the chain; empty when there is none.
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// HintOf gives the first hint in the chain; empty when there is none.
func HintOf(err error) string {
	for err != nil {
		var e *Error
		if !errors.As(err, &e) {
			return ""
		}
		if e.Hint != "" {
			return e.Hint
		}
		err = e.Err
	}
	return ""
}
