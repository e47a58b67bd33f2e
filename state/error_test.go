package state

import (
	"errors"
	"testing"
)

// TestErrorSaysItOnce: a sentence that holds its cause already is not followed by it once more.
func TestErrorSaysItOnce(t *testing.T) {
	cause := errors.New("connection refused")
	for _, c := range []struct{ text, want string }{
		{"back up orders: connection refused", "back up orders: connection refused"},
		{"back up orders", "back up orders: connection refused"},
	} {
		if got := (&Error{Text: c.text, Err: cause}).Error(); got != c.want {
			t.Errorf("%q gives %q, want %q", c.text, got, c.want)
		}
	}
}
