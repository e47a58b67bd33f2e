package wal

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestParseHistory(t *testing.T) {
	content := "# a comment\n1\t0/5000060\tno recovery target specified\n\n  3\tA/10\tbefore 2026-02-10 21:16:17+00\n"
	got, err := ParseHistory(5, []byte(content))
	if err != nil {
		t.Fatal(err)
	}
	want := History{Timeline: 5, Parents: []HistoryLine{
		{Timeline: 1, Switch: 0x5000060, Reason: "no recovery target specified"},
		{Timeline: 3, Switch: 0xA00000010, Reason: "before 2026-02-10 21:16:17+00"},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestParseHistoryRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		timeline Timeline
		content  string
	}{
		"timeline 1":              {1, ""},
		"empty":                   {2, ""},
		"only comments":           {2, "# nothing\n"},
		"no switch point":         {2, "1\n"},
		"bad switch point":        {2, "1\t5000060\tx\n"},
		"negative timeline":       {2, "-1\t0/1\tx\n"},
		"timeline 0":              {2, "0\t0/1\tx\n"},
		"parent not older":        {2, "2\t0/1\tx\n"},
		"timelines do not grow":   {9, "3\t0/1\tx\n3\t0/2\tx\n"},
		"switch points shrink":    {9, "3\t0/2\tx\n4\t0/1\tx\n"},
		"too large":               {9, "#" + strings.Repeat("x", maxHistory)},
		"not text":                {2, "1\t0/1\t\xff\n"},
		"switch point over 8 hex": {2, "1\t000000000000001/1\tx\n"},
	} {
		if h, err := ParseHistory(c.timeline, []byte(c.content)); err == nil {
			t.Errorf("%s: %+v", name, h)
		}
	}
}

func drawHistory(t *rapid.T) History {
	h := History{Timeline: 1}
	for range rapid.IntRange(0, 4).Draw(t, "parents") {
		last := LSN(0)
		if n := len(h.Parents); n > 0 {
			last = h.Parents[n-1].Switch
		}
		h.Parents = append(h.Parents, HistoryLine{Timeline: h.Timeline, Switch: last + LSN(rapid.IntRange(0, 8).Draw(t, "length"))})
		h.Timeline += Timeline(rapid.IntRange(1, 3).Draw(t, "step"))
	}
	return h
}

// TestPathIsWhatTimelineAtSays checks Path, TimelineAt and Contains against each other, byte by byte.
func TestPathIsWhatTimelineAtSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := drawHistory(t)
		from, to := LSN(rapid.IntRange(0, 50).Draw(t, "from")), LSN(rapid.IntRange(0, 50).Draw(t, "to"))
		at := from
		for _, r := range h.Path(from, to) {
			if r.From != at || r.Empty() {
				t.Fatalf("%+v: path %v", h, h.Path(from, to))
			}
			for ; at < r.To; at++ {
				if h.TimelineAt(at) != r.Timeline || !h.Contains(r.Timeline, at) {
					t.Fatalf("%+v: %s is of timeline %d, the path says %d", h, at, h.TimelineAt(at), r.Timeline)
				}
			}
		}
		if from < to && at != to {
			t.Fatalf("%+v: the path from %s ends at %s, not %s", h, from, at, to)
		}
		for _, p := range h.Parents {
			if !h.Contains(p.Timeline, p.Switch) || h.Contains(p.Timeline, p.Switch+1) {
				t.Fatalf("%+v: wrong at %s", h, p.Switch)
			}
		}
	})
}

func TestHistoryRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := drawHistory(t)
		if len(h.Parents) == 0 {
			return
		}
		var b strings.Builder
		for _, p := range h.Parents {
			fmt.Fprintf(&b, "%d\t%s\t%s\n", p.Timeline, p.Switch, p.Reason)
		}
		got, err := ParseHistory(h.Timeline, []byte(b.String()))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(h, got); diff != "" {
			t.Fatal(diff)
		}
	})
}

func FuzzParseHistory(f *testing.F) {
	f.Add(uint32(2), []byte("1\t0/5000060\tno recovery target specified\n"))
	f.Add(uint32(9), []byte("# x\n1 0/1 a\n2 0/1 b\n"))
	f.Fuzz(func(t *testing.T, timeline uint32, content []byte) {
		h, err := ParseHistory(Timeline(timeline), content)
		if err != nil {
			return
		}
		for i, p := range h.Parents {
			if p.Timeline >= h.Timeline || i > 0 && (p.Timeline <= h.Parents[i-1].Timeline || p.Switch < h.Parents[i-1].Switch) {
				t.Fatalf("%+v", h)
			}
		}
		h.Path(0, 1<<63)
	})
}
