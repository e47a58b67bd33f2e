package render

import (
	"strings"
	"unicode"
)

// prose writes text so that no Markdown or HTML in it is obeyed, nobody is mentioned and no issue is linked: names and
// messages of servers are other people's words. Line breaks become blanks.
func prose(s string) string {
	var out strings.Builder
	for _, r := range oneLine(s) {
		switch {
		case strings.ContainsRune("\\`*_{}[]()#+!|~$", r):
			out.WriteByte('\\')
			out.WriteRune(r)
		default:
			entity(&out, r)
		}
	}
	return out.String()
}

// html writes text inside HTML, where Markdown is not obeyed.
func html(s string) string {
	var out strings.Builder
	for _, r := range oneLine(s) {
		entity(&out, r)
	}
	return out.String()
}

func entity(out *strings.Builder, r rune) {
	switch r {
	case '&':
		out.WriteString("&amp;")
	case '<':
		out.WriteString("&lt;")
	case '>':
		out.WriteString("&gt;")
	case '"':
		out.WriteString("&quot;")
	case '@':
		out.WriteString("@\u200b") // a blank without width keeps the forge from telling somebody
	default:
		out.WriteRune(r)
	}
}

// code writes text as a code span that nothing in it ends, also inside a table.
func code(s string) string {
	s = strings.ReplaceAll(oneLine(s), "|", "\\|")
	fence := "`"
	for strings.Contains(s, fence) {
		fence += "`"
	}
	if strings.HasPrefix(s, "`") || strings.HasSuffix(s, "`") {
		s = " " + s + " "
	}
	return fence + s + fence
}

// oneLine makes blanks of line breaks, and drops what a terminal or a page would obey.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			return ' '
		case unicode.IsControl(r) || r == '\u202e' || r == '\u2066' || r == '\u2067' || r == '\u202d':
			return -1
		}
		return r
	}, s)
}
