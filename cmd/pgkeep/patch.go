package main

import (
	"fmt"
	"strings"
)

// patchContext is how many lines a patch shows around each change.
const patchContext = 3

// patch writes a unified diff. Laying out changes lines and never their number, so the nth line became the nth; were it
// otherwise, the whole file is one change.
func patch(name string, before, after []byte) string {
	if string(before) == string(after) {
		return ""
	}
	old, now := patchLines(before), patchLines(after)
	var b strings.Builder
	fmt.Fprintf(&b, "--- a/%s\n+++ b/%s\n", name, name)
	if len(old) != len(now) {
		hunk(&b, old, now, [2]int{0, max(len(old), len(now))})
		return b.String()
	}
	for _, h := range hunks(old, now) {
		hunk(&b, old, now, h)
	}
	return b.String()
}

func patchLines(src []byte) []string {
	lines := strings.SplitAfter(string(src), "\n")
	if lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return lines
}

// hunks gives the ranges of lines to show.
func hunks(old, now []string) [][2]int {
	var out [][2]int
	for n := range old {
		if old[n] == now[n] {
			continue
		}
		from, to := max(0, n-patchContext), min(len(old), n+1+patchContext)
		if last := len(out) - 1; last >= 0 && from <= out[last][1] {
			out[last][1] = to
			continue
		}
		out = append(out, [2]int{from, to})
	}
	return out
}

// hunk writes one range; changed lines that follow each other stand together.
func hunk(b *strings.Builder, old, now []string, at [2]int) {
	from, oldTo, nowTo := at[0], min(at[1], len(old)), min(at[1], len(now))
	fmt.Fprintf(b, "@@ -%d,%d +%d,%d @@\n", from+1, oldTo-from, from+1, nowTo-from)
	for n := from; n < oldTo || n < nowTo; {
		end := n
		for end < oldTo && end < nowTo && old[end] != now[end] {
			end++
		}
		if end == n && n < oldTo && n < nowTo {
			patchLine(b, ' ', old[n])
			n++
			continue
		}
		if end == n { // one side is longer
			end = max(oldTo, nowTo)
		}
		for i := n; i < min(end, oldTo); i++ {
			patchLine(b, '-', old[i])
		}
		for i := n; i < min(end, nowTo); i++ {
			patchLine(b, '+', now[i])
		}
		n = end
	}
}

func patchLine(b *strings.Builder, sign byte, line string) {
	b.WriteByte(sign)
	b.WriteString(line)
	if !strings.HasSuffix(line, "\n") {
		b.WriteString("\n\\ No newline at end of file\n")
	}
}
