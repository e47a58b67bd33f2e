package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/steps"
)

// TestBarsOfSteps draws on a terminal a step that moves bytes and one that moves none: of that one neither bytes nor a rate
// are told.
func TestBarsOfSteps(t *testing.T) {
	slot := &plan.Step{ID: "server.orders/slot", Action: plan.CreateSlot{Server: "orders"}}
	backup := &plan.Step{ID: "server.orders/backup", Action: plan.TakeBackup{Server: "orders"}}
	var out bytes.Buffer
	a := &app{out: &out, err: io.Discard, outTerminal: true, width: 140}
	v := a.newProgress(&plan.Plan{Steps: []plan.Step{*slot, *backup}})
	for _, e := range []steps.Event{
		{Kind: steps.Started, Step: slot},
		{Kind: steps.Done, Step: slot, Outcome: steps.OutcomeDone, Elapsed: 48 * time.Millisecond},
		{Kind: steps.Started, Step: backup},
		{Kind: steps.Progress, Step: backup, Done: 1 << 20, Total: 4 << 20, Rate: 1 << 20, ETA: 3 * time.Second},
		{Kind: steps.Done, Step: backup, Outcome: steps.OutcomeDone, Elapsed: 4 * time.Second},
	} {
		v.tell(e)
	}
	v.end(steps.Result{})
	text := out.String()
	for _, want := range []string{"create-slot server.orders/slot", "take-backup server.orders/backup: 1.0 MiB in 4 s", "done!"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not drawn:\n%s", want, text)
		}
	}
	for _, bad := range []string{"0 B", "/s]", "48ms"} {
		if strings.Contains(text, bad) {
			t.Errorf("%q is drawn:\n%s", bad, text)
		}
	}
}

// TestOneCauseIsSaidOnce: a note that holds the error is not followed by it, and what was interrupted is not said to be
// unreachable.
func TestOneCauseIsSaidOnce(t *testing.T) {
	full := &state.Error{Code: state.CodeDiskFull, Text: "the repository's disk is full"}
	broken := &state.Error{Code: state.CodeUnreachable, Text: "stream a base backup", Err: context.Canceled}
	for _, c := range []struct {
		outcome steps.Outcome
		note    string
		err     error
		want    string
	}{
		{steps.OutcomeFailed, full.Error(), full, "the repository's disk is full"},
		{steps.OutcomeFailed, "", full, "the repository's disk is full"},
		{steps.OutcomeFailed, "create it", fmt.Errorf("no: %w", full), "create it: no: the repository's disk is full"},
		{steps.OutcomeCanceled, "interrupted", broken, "interrupted"},
		{steps.OutcomeDone, "freed 42 bytes", nil, "freed 42 bytes"},
	} {
		if got := explained(c.outcome, c.note, c.err); got != c.want {
			t.Errorf("%s, %q, %v: %q, want %q", c.outcome, c.note, c.err, got, c.want)
		}
	}
}

// TestReplayIsTold: position and commit of a server that replays, without a terminal as far apart as any progress.
func TestReplayIsTold(t *testing.T) {
	var out bytes.Buffer
	a := &app{out: &out, err: io.Discard}
	began := time.Date(2026, 11, 23, 1, 0, 0, 0, time.UTC)
	s := &plan.Step{ID: "recovery.drop", Action: plan.RecoverTo{Start: true}}
	v := a.newProgress(&plan.Plan{Steps: []plan.Step{*s}})
	v.tell(steps.Event{Kind: steps.Started, Step: s, At: began})
	for _, x := range []struct {
		after  time.Duration
		replay steps.Replay
	}{
		{time.Second, steps.Replay{LSN: 0x4000028}},
		{30 * time.Second, steps.Replay{LSN: 0x5000028}},
		{31 * time.Second, steps.Replay{LSN: 0x6000028}},
		{time.Minute, steps.Replay{LSN: 0x17000028, Commit: began.Add(-time.Hour)}},
		{2 * time.Minute, steps.Replay{}},
	} {
		e := steps.Event{Kind: steps.Progress, Step: s, At: began.Add(x.after), Done: 1 << 20, Total: 4 << 20, Replay: &x.replay}
		if x.replay.LSN != 0 {
			e.Rate, e.ETA = 1<<20, 3*time.Second
		}
		v.tell(e)
	}
	const name = "recover-to recovery.drop: "
	want := "\n" + name + "begins\n" +
		name + "1.0 MiB of 4.0 MiB, 1.0 MiB/s, 3 s left, replayed up to 0/5000028\n" +
		name + "1.0 MiB of 4.0 MiB, 1.0 MiB/s, 3 s left, replayed up to 0/17000028, commits up to 2026-11-23 00:00:00 UTC\n" +
		name + "1.0 MiB of 4.0 MiB\n"
	if d := cmp.Diff(want, out.String()); d != "" {
		t.Error(d)
	}
}
