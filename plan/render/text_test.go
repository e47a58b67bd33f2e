package render_test

import (
	"bytes"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/plan/render"
)

func draw(t *testing.T, p *plan.Plan, o render.TextOptions) string {
	t.Helper()
	var out bytes.Buffer
	if err := render.Text(&out, p, o); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func long() *plan.Plan {
	return &plan.Plan{
		Now: time.Date(2026, 2, 10, 9, 0, 0, 0, time.UTC),
		Steps: []plan.Step{{
			ID: "server.o/slot", Action: plan.CreateSlot{Server: "o", Slot: "pgkeep_o"}, Change: plan.Add, Impact: plan.Safe,
			Because: []plan.Reason{{Code: "no-slot", Text: strings.Repeat("words and ", 30)}}, Effect: "naïve ünïcödé " + strings.Repeat("effects ", 20),
		}},
		NextDue: []plan.Due{{At: time.Date(2026, 2, 10, 10, 0, 0, 0, time.UTC), What: "take-backup", Subject: "o"}},
	}
}

// TestWidth: no line is longer than asked for, whatever the width.
func TestWidth(t *testing.T) {
	for _, width := range []int{40, 60, 80, 200} {
		for _, line := range strings.Split(draw(t, long(), render.TextOptions{Width: width}), "\n") {
			if n := utf8.RuneCountInString(line); n > width && !strings.HasPrefix(line, "Plan: ") { // which CI tools parse whole
				t.Errorf("width %d: %d characters: %q", width, n, line)
			}
		}
	}
}

// TestColor: no escape unless asked for, and the same text with it.
func TestColor(t *testing.T) {
	plain := draw(t, long(), render.TextOptions{Width: 80})
	if strings.Contains(plain, "\x1b") {
		t.Error("colours although none were asked for")
	}
	colored := draw(t, long(), render.TextOptions{Width: 80, Color: true})
	if !strings.Contains(colored, "\x1b[32m") {
		t.Error("no colour although asked for")
	}
	for _, code := range []string{"\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[0m"} {
		colored = strings.ReplaceAll(colored, code, "")
	}
	if colored != plain {
		t.Errorf("colours change the text:\n%s\n%s", plain, colored)
	}
}

// TestZone: what the clock brings is said in UTC and in the zone asked for.
func TestZone(t *testing.T) {
	zone := time.FixedZone("CET", 3600)
	if got := draw(t, long(), render.TextOptions{Zone: zone}); !strings.Contains(got, "at 2026-02-10 10:00:00 UTC (11:00 CET), in 1 h") {
		t.Error(got)
	}
}
