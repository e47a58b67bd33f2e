package hclspec

import (
	"fmt"
	"path"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The allow-lists. Names reach the names of files, slots and processes, so nothing else is let in.
var (
	namePart   = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)
	slotName   = regexp.MustCompile(`^[a-z0-9_]{1,63}$`)
	hostName   = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$`)
	userName   = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]{0,31}$`)
	identifier = regexp.MustCompile(`^[0-9]{1,20}$`)
)

const nameRule = "Names are lower-case letters, digits, _ and -, begin with a letter or digit, and are at most 63 long."

// CheckName says why a label, a for_each key or one part of a stored name is refused; nil: it is fine.
func CheckName(s string) error {
	if namePart.MatchString(s) {
		return nil
	}
	return mistake{fmt.Sprintf("%s cannot be a name.", quote(s)), nameRule}
}

// checkStored accepts one name, or two joined by one dot.
func checkStored(s string) error {
	parts := strings.Split(s, ".")
	if len(parts) > 2 {
		return mistake{fmt.Sprintf("%s has more than one dot.", quote(s)), "A stored name is one name, or two joined by one dot, as orders.eu."}
	}
	for _, p := range parts {
		if !namePart.MatchString(p) {
			return mistake{fmt.Sprintf("%s cannot be a stored name.", quote(s)), "It is one name, or two joined by one dot, as orders.eu. " + nameRule}
		}
	}
	return nil
}

func checkSlot(s string) error {
	if slotName.MatchString(s) {
		return nil
	}
	return mistake{fmt.Sprintf("%s cannot be the name of a slot.", quote(s)), "PostgreSQL takes lower-case letters, digits and _, at most 63."}
}

// defaultSlot gives the slot's name of a server that does not name it.
func defaultSlot(stored string) string {
	return "pgkeep_" + strings.NewReplacer("-", "_", ".", "_").Replace(stored)
}

func checkHost(s string) error {
	if hostName.MatchString(s) {
		return nil
	}
	return mistake{fmt.Sprintf("%s is not the name of a machine.", quote(s)), "Write what hostname(1) prints there."}
}

// checkPath accepts absolute paths that mean what they say: no "..", no doubled or trailing slash.
func checkPath(s string) error {
	switch {
	case !strings.HasPrefix(s, "/"):
		return mistake{fmt.Sprintf("%s is not an absolute path.", quote(s)), "Begin it with /."}
	case s == "/":
		return mistake{`"/" is the root of the machine, and pgkeep wants a directory of its own.`, ""}
	case path.Clean(s) != s:
		return mistake{fmt.Sprintf("%s is not a clean path.", quote(s)), fmt.Sprintf("Write %s.", quote(path.Clean(s)))}
	case len(s) > 1024:
		return mistake{"The path is longer than 1,024 bytes.", ""}
	}
	return nil
}

// checkPlain refuses what could end a line or a string somewhere else: control characters, direction overrides, bytes
// that are not UTF-8.
func checkPlain(s string) error {
	if !utf8.ValidString(s) {
		return mistake{"The text is not UTF-8.", ""}
	}
	for _, r := range s {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029' {
			return mistake{fmt.Sprintf("%s holds the character %U, which is not printed.", quote(s), r), ""}
		}
	}
	return nil
}
