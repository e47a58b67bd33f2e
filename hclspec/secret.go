package hclspec

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// hidden is what a Secret shows.
const hidden = "(sensitive)"

// NewSecret hides a value.
func NewSecret(value string) Secret { return Secret{value: value} }

// Reveal gives the value to the one who must send it somewhere. It must never be printed, logged or put into an error.
func (s Secret) Reveal() string { return s.value }

// Empty says that there is no value.
func (s Secret) Empty() bool { return s.value == "" }

// Equal compares two secrets without showing either.
func (s Secret) Equal(o Secret) bool { return s.value == o.value }

// String gives "(sensitive)", or nothing for an empty secret.
func (s Secret) String() string {
	if s.value == "" {
		return ""
	}
	return hidden
}

// GoString gives what String gives.
func (s Secret) GoString() string { return s.String() }

// Format prints what String gives for every verb, those included that print the fields of a struct.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// MarshalText gives what String gives; JSON and every other encoder that knows text use it.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalJSON gives what String gives, quoted.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + s.String() + `"`), nil }

// LogValue gives what String gives to slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// checkSecret refuses a connection string that libpq would not take.
func (l *loader) checkSecret(x any) error {
	conninfo, ok := x.(Secret)
	if !ok || l.o.Conninfo == nil {
		return nil
	}
	if what, hint := l.o.Conninfo(conninfo.Reveal()); what != "" {
		return mistake{asSentence(what), asSentence(hint)}
	}
	return nil
}

// asSentence begins with a capital and ends with a full stop.
func asSentence(s string) string {
	if s == "" {
		return ""
	}
	s = strings.ToUpper(s[:1]) + s[1:]
	if strings.ContainsRune(".?!", rune(s[len(s)-1])) {
		return s
	}
	return s + "."
}
