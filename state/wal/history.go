package wal

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxHistory bounds a history file. A line has some forty bytes plus its reason, so this is thousands of promotions.
const maxHistory = 1 << 20

// History is the line of descent of one timeline, as its history file tells it: which timelines came before, and where
// each was left. Timeline 1 has no file; History{Timeline: 1} is its history.
type History struct {
	Timeline Timeline      `json:"timeline"`
	Parents  []HistoryLine `json:"parents,omitempty"` // oldest first
}

// HistoryLine is one line of a history file: Timeline was left at Switch, the first position that is not its own.
type HistoryLine struct {
	Timeline Timeline `json:"timeline"`
	Switch   LSN      `json:"switch"`
	Reason   string   `json:"reason,omitempty"`
}

// ParseHistory reads the content of timeline t's history file. It accepts what PostgreSQL's readTimeLineHistory
// accepts and refuses the rest: a timeline that does not grow, a switch point before the previous one, a line of another
// shape. The content may come from anywhere.
func ParseHistory(t Timeline, content []byte) (History, error) {
	h := History{Timeline: t}
	if t <= 1 {
		return h, fmt.Errorf("parse history: timeline %d has no history file", t)
	}
	if len(content) > maxHistory {
		return h, fmt.Errorf("parse history of timeline %d: %d bytes are more than any history file has", t, len(content))
	}
	for i, line := range strings.Split(string(content), "\n") {
		text := strings.TrimLeft(line, " \t\r\v\f")
		if text == "" || text[0] == '#' {
			continue
		}
		l, err := parseHistoryLine(text)
		if err == nil {
			err = follows(h.Parents, l)
		}
		if err != nil {
			return History{Timeline: t}, fmt.Errorf("parse history of timeline %d, line %d: %w", t, i+1, err)
		}
		h.Parents = append(h.Parents, l)
	}
	n := len(h.Parents)
	switch {
	case n == 0:
		return h, fmt.Errorf("parse history of timeline %d: it names no parent", t)
	case h.Parents[n-1].Timeline >= t:
		return History{Timeline: t}, fmt.Errorf("parse history of timeline %d: its parent %d is not older", t, h.Parents[n-1].Timeline)
	}
	return h, nil
}

// follows tells whether l may stand after the lines before it.
func follows(before []HistoryLine, l HistoryLine) error {
	if len(before) == 0 {
		return nil
	}
	last := before[len(before)-1]
	if l.Timeline <= last.Timeline {
		return fmt.Errorf("timeline %d stands after timeline %d", l.Timeline, last.Timeline)
	}
	if l.Switch < last.Switch {
		return fmt.Errorf("timeline %d was left at %s, before it began at %s", l.Timeline, l.Switch, last.Switch)
	}
	return nil
}

func parseHistoryLine(text string) (HistoryLine, error) {
	number, rest := cutSpace(text)
	position, reason := cutSpace(rest)
	if !utf8.ValidString(text) {
		return HistoryLine{}, errors.New("it is not text")
	}
	for _, c := range []byte(number) {
		if c < '0' || c > '9' {
			return HistoryLine{}, fmt.Errorf("%.40q is not a timeline", number)
		}
	}
	t, err := strconv.ParseUint(number, 10, 32)
	if err != nil || t == 0 {
		return HistoryLine{}, fmt.Errorf("%.40q is not a timeline", number)
	}
	if len(position) > len("FFFFFFFF/FFFFFFFF") {
		return HistoryLine{}, fmt.Errorf("%.40q is not a switch point", position)
	}
	l, err := ParseLSN(position)
	if err != nil {
		return HistoryLine{}, err
	}
	return HistoryLine{Timeline: Timeline(t), Switch: l, Reason: strings.TrimSpace(reason)}, nil
}

// cutSpace gives the first word and what stands after the white space that follows it.
func cutSpace(s string) (word, rest string) {
	i := strings.IndexAny(s, " \t\r\v\f")
	if i < 0 {
		return s, ""
	}
	return s[:i], strings.TrimLeft(s[i:], " \t\r\v\f")
}

// begin gives the first position of the i-th timeline of the line of descent; i == len(Parents) is Timeline itself.
func (h History) begin(i int) LSN {
	if i == 0 {
		return 0
	}
	return h.Parents[i-1].Switch
}

// Path gives the stretches that recovery walks from from up to to, oldest first. A timeline that was left where it began
// has none.
func (h History) Path(from, to LSN) []Range {
	var out []Range
	for i := range len(h.Parents) + 1 {
		r := Range{Timeline: h.Timeline, From: max(from, h.begin(i)), To: to}
		if i < len(h.Parents) {
			r.Timeline, r.To = h.Parents[i].Timeline, min(to, h.Parents[i].Switch)
		}
		if !r.Empty() {
			out = append(out, r)
		}
	}
	return out
}

// TimelineAt gives the timeline whose own WAL holds the byte at l: at a switch point, the younger one.
func (h History) TimelineAt(l LSN) Timeline {
	for _, p := range h.Parents {
		if l < p.Switch {
			return p.Timeline
		}
	}
	return h.Timeline
}

// Contains tells whether position l of timeline t lies on this line of descent: whether a server that stands there can
// go on to h.Timeline without losing anything.
func (h History) Contains(t Timeline, l LSN) bool {
	if t == h.Timeline {
		return true
	}
	for _, p := range h.Parents {
		if p.Timeline == t {
			return l <= p.Switch
		}
	}
	return false
}
