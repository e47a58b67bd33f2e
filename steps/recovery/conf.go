package recovery

import (
	"fmt"
	"strings"
)

// quoteSetting writes a value for postgresql.conf. Nothing that the value holds can end the line or begin another setting.
func quoteSetting(value string) string {
	var b strings.Builder
	b.WriteByte('\'')
	for _, c := range []byte(value) {
		switch {
		case c == '\'' || c == '\\':
			b.WriteByte(c)
			b.WriteByte(c)
		case c < ' ' || c == 0x7f:
			fmt.Fprintf(&b, `\%03o`, c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('\'')
	return b.String()
}

// quoteShell writes a word for sh.
func quoteShell(word string) string { return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'" }

// setting is one line of a configuration file: `name = value`.
type setting struct{ name, value string }

// parseSetting reads a line as PostgreSQL's guc-file.l does. ok is false for comments, empty lines and what it would refuse.
func parseSetting(line string) (s setting, ok bool) {
	line = strings.TrimLeft(line, " \t\r\f\v")
	n := 0
	for n < len(line) && isNameByte(line[n], n) {
		n++
	}
	if n == 0 {
		return setting{}, false
	}
	s.name = strings.ToLower(line[:n])
	rest := strings.TrimLeft(line[n:], " \t\r\f\v")
	rest = strings.TrimLeft(strings.TrimPrefix(rest, "="), " \t\r\f\v")
	if strings.HasPrefix(rest, "'") {
		s.value = unquoteSetting(rest[1:])
		return s, true
	}
	if i := strings.IndexAny(rest, " \t\r\f\v#"); i >= 0 {
		rest = rest[:i]
	}
	s.value = rest
	return s, true
}

func isNameByte(c byte, at int) bool {
	letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c >= 0x80
	return letter || at > 0 && (c >= '0' && c <= '9' || c == '$' || c == '.')
}

// unquoteSetting reads up to the closing quote.
func unquoteSetting(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\'' && i+1 < len(s) && s[i+1] == '\'':
			b.WriteByte('\'')
			i++
		case c == '\'':
			return b.String()
		case c == '\\' && i+1 < len(s):
			i++
			i += unescape(&b, s[i:])
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// unescape writes the character behind a backslash and tells how many bytes it took beyond the first.
func unescape(b *strings.Builder, s string) int {
	if i := strings.IndexByte("bfnrt", s[0]); i >= 0 {
		b.WriteByte("\b\f\n\r\t"[i])
		return 0
	}
	n, v := 0, 0
	for n < 3 && n < len(s) && s[n] >= '0' && s[n] <= '7' {
		v = v<<3 | int(s[n]-'0')
		n++
	}
	if n == 0 {
		b.WriteByte(s[0])
		return 0
	}
	b.WriteByte(byte(v))
	return n - 1
}

// parseSettings gives the last value of each name.
func parseSettings(content []byte) map[string]string {
	out := map[string]string{}
	for _, line := range strings.Split(string(content), "\n") {
		if s, ok := parseSetting(line); ok {
			out[s.name] = s.value
		}
	}
	return out
}

// without drops the lines that set one of the names, and keeps all others as they are.
func without(content []byte, names map[string]bool) string {
	var b strings.Builder
	for _, line := range strings.SplitAfter(string(content), "\n") {
		if s, ok := parseSetting(line); ok && names[s.name] {
			continue
		}
		b.WriteString(line)
	}
	if s := b.String(); s != "" && !strings.HasSuffix(s, "\n") {
		return s + "\n"
	}
	return b.String()
}
