package recovery

import (
	"strings"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

const at = "2026-11-23 01:04:35.123456 UTC [4242] "

// read gives what a log says.
func read(lines ...string) *serverLog {
	l := &serverLog{}
	for _, line := range lines {
		l.take(line)
	}
	return l
}

func moment(text string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		panic(err)
	}
	return t
}

// TestJudge gives logs as PostgreSQL writes them to recoveries that wanted the same, and to ones that wanted otherwise.
func TestJudge(t *testing.T) {
	byTime := hclspec.Target{Time: moment("2026-11-23T01:00:00Z"), Inclusive: true}
	exclusive := byTime
	exclusive.Inclusive = false
	commit := func(word, when string) string {
		return at + "startup: LOG:  recovery stopping " + word + " commit of transaction 7, time " + when
	}
	late, exact := "2026-11-23 02:00:00.000001+01", "2026-11-23 01:00:00+00"
	paused := []string{at + "startup: LOG:  pausing at the end of recovery", at + "postmaster: LOG:  database system is ready to accept read-only connections"}
	promoted := []string{at + "startup: LOG:  archive recovery complete", at + "postmaster: LOG:  database system is ready to accept connections"}
	for name, x := range map[string]struct {
		target hclspec.Target
		end    bool
		stop   string
		rest   []string
		want   string // a part of why not; empty: reached
		note   bool
	}{
		"time":                        {byTime, false, commit("before", late), paused, "", false},
		"time, stopped too early":     {byTime, false, commit("before", exact), paused, "the target is time", false},
		"exclusive time":              {exclusive, false, commit("before", exact), paused, "", false},
		"time, another transaction":   {byTime, false, strings.Replace(commit("before", late), "7,", "8,", 1), paused, "the target is time", false},
		"time, at an abort":           {byTime, false, strings.NewReplacer("commit", "abort", "7,", "8,").Replace(commit("before", late)), paused, "", false},
		"time, ended without a stop":  {byTime, false, "", promoted, "the WAL ended before time", false},
		"xid":                         {hclspec.Target{XID: 7, Inclusive: true}, false, commit("after", late), paused, "", false},
		"xid, before it":              {hclspec.Target{XID: 7, Inclusive: true}, false, commit("before", late), paused, "transaction 7", false},
		"exclusive xid":               {hclspec.Target{XID: 7}, false, commit("before", late), paused, "", false},
		"another xid":                 {hclspec.Target{XID: 9, Inclusive: true}, false, commit("after", late), paused, "transaction 9", false},
		"position":                    {hclspec.Target{LSN: 0x5000028, Inclusive: true}, false, at + `startup: LOG:  recovery stopping after WAL location (LSN) "0/5000060"`, paused, "", false},
		"position, before it":         {hclspec.Target{LSN: 0x5000028, Inclusive: true}, false, at + `startup: LOG:  recovery stopping after WAL location (LSN) "0/5000000"`, paused, "position", false},
		"restore point":               {hclspec.Target{Restore: `a"b`}, false, at + `startup: LOG:  recovery stopping at restore point "a"b", time ` + late, paused, "", false},
		"another restore point":       {hclspec.Target{Restore: "c"}, false, at + `startup: LOG:  recovery stopping at restore point "b", time ` + late, paused, "restore point", false},
		"immediate":                   {hclspec.Target{Immediate: true}, false, at + "startup: LOG:  recovery stopping after reaching consistency", paused, "", false},
		"latest":                      {hclspec.Target{Latest: true}, false, "", promoted, "", false},
		"latest, stopped":             {hclspec.Target{Latest: true}, false, commit("before", late), paused, "end of the WAL", false},
		"at the end":                  {byTime, true, "", promoted, "", false},
		"promoted instead of paused":  {byTime, false, commit("before", late), promoted, "", true},
		"a client speaks of stopping": {byTime, false, strings.Replace(commit("before", late), "startup", "client backend", 1), promoted, "the WAL ended before time", false},
		"not at an end":               {byTime, false, "", nil, "did not end", false},
	} {
		t.Run(name, func(t *testing.T) {
			l := read(append([]string{x.stop}, x.rest...)...)
			r, why := l.judge(&plan.Route{Target: x.target, AtEnd: x.end, After: &state.Commit{XID: 7}})
			if (why == "") != (x.want == "") || !strings.Contains(why, x.want) {
				t.Errorf("it judges %q, not %q", why, x.want)
			}
			if (r.Note != "") != x.note {
				t.Errorf("it notes %q", r.Note)
			}
			if len(x.rest) > 0 && !l.atRest() {
				t.Error("recovery is not said to have ended")
			}
		})
	}
}

func TestLogTime(t *testing.T) {
	for text, want := range map[string]string{
		"2026-11-23 01:04:35.418253+00":    "2026-11-23T01:04:35.418253Z",
		"2026-11-23 01:04:35+05:30":        "2026-11-22T19:34:35Z",
		"2026-11-23 01:04:35.5-03":         "2026-11-23T04:04:35.5Z",
		"1900-01-01 00:00:00.25-00:25:21":  "1900-01-01T00:25:21.25Z",
		"no time at all, whatever it says": "0001-01-01T00:00:00Z",
	} {
		if got := logTime(text).Format(time.RFC3339Nano); got != want {
			t.Errorf("%s: %s, not %s", text, got, want)
		}
	}
}

// TestTheEndHoldsTheLastTransaction: a recovery to the end of the WAL that ended early did not reach its target.
func TestTheEndHoldsTheLastTransaction(t *testing.T) {
	route := &plan.Route{
		Target: hclspec.Target{Latest: true}, Path: []wal.Range{{Timeline: 1, From: 0xB00028, To: 0xC02268}}, End: 0xC02268,
		Before: &state.Commit{XID: 729, LSN: 0xC02268, Time: moment("2026-11-23T14:52:55.561054Z")},
	}
	done := func(redo, last string) []string {
		out := []string{at + "startup: LOG:  redo done at " + redo + " system usage: CPU: user: 0.00 s"}
		if last != "" {
			out = append(out, at+"startup: LOG:  last completed transaction was at log time "+last)
		}
		return append(out, at+"startup: LOG:  archive recovery complete", at+"postmaster: LOG:  database system is ready to accept connections")
	}
	const committed, earlier = "2026-11-23 15:52:55.561054+01", "2026-11-23 15:52:55.5+01"
	for name, x := range map[string]struct {
		lines   []string
		reached bool
	}{
		"the commit is the last record":    {done("0/C02240", committed), true},
		"others follow":                    {done("0/C02268", earlier), true},
		"no transaction was replayed":      {done("0/BFFFA0", ""), false},
		"an earlier one is the last":       {done("0/BFFFA0", earlier), false},
		"the log does not say how far":     {done("x", ""), true},
		"several commits at the same time": {done("0/C02200", committed), true},
	} {
		if _, why := read(x.lines...).judge(route); (why == "") != x.reached {
			t.Errorf("%s: %q", name, why)
		}
	}
	held := *route
	held.Before = &state.Commit{XID: 700, LSN: 0xA00000}
	if _, why := read(done("0/B00060", "")...).judge(&held); why != "" {
		t.Errorf("the backup holds the last one: %q", why)
	}
}
