package steps

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
)

// shortLived receivers leave a report of their life and are gone.
type shortLived struct {
	fakeReceivers
	left state.Receiver
}

func (r *shortLived) Start(context.Context, string) error {
	r.left.Since = epoch
	return nil
}

func (r *shortLived) Look(context.Context, string) (state.Receiver, error) { return r.left, nil }

// TestReceiverThatEndedIsNotWaitedFor: one that left a new report and runs no longer fails its step at once, with what it
// said; the agent's, which is started again, has the time that any other has.
func TestReceiverThatEndedIsNotWaitedFor(t *testing.T) {
	gap := &state.Problem{Code: state.CodeGap, Text: "the server had removed it"}
	for _, c := range []struct {
		name    string
		left    state.Receiver
		took    time.Duration
		code    state.Code
		because string
	}{
		{"with a problem", state.Receiver{Problem: gap}, 0, state.CodeGap, "the server had removed it"},
		{"without a word", state.Receiver{}, 0, state.CodeUnreachable, "the receiver of orders ended soon after its start"},
		{"of the agent", state.Receiver{Agent: true, Problem: gap}, startPatience, state.CodeGap, "the server had removed it"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				f.goodSlot()
				w, o := f.world(), f.options()
				w.Receivers, o.Now = &shortLived{fakeReceivers{f}, c.left}, time.Now
				step := plan.Step{ID: "receiver", Action: aStart, Impact: plan.Safe}
				began := time.Now()
				result, _ := Apply(t.Context(), &plan.Plan{Steps: []plan.Step{step}}, w, o)
				got, took := result.Steps[0], time.Since(began)
				if got.Outcome != OutcomeFailed || state.CodeOf(got.Err) != c.code || !strings.Contains(got.Err.Error(), c.because) {
					t.Errorf("%s: %v", got.Outcome, got.Err)
				}
				if took < c.took || took > c.took+2*time.Second {
					t.Errorf("after %s, want %s", took, c.took)
				}
			})
		})
	}
}

// TestProcessThatEndsWithoutItsLockSaysWhy starts programs that are no receivers: what they wrote is quoted, what stood in
// the log before is not.
func TestProcessThatEndsWithoutItsLockSaysWhy(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "program")
	spec := &hclspec.Spec{Servers: []hclspec.Server{{Name: "orders", Receiver: hclspec.Receiver{Spool: dir}}}}
	r := detachedReceivers{real{spec: spec, o: BindOptions{Host: "here", Program: program}.withDefaults()}}
	for _, c := range []struct{ name, script, want, not string }{
		{"silent", "exit 1", "it said nothing", "log"},
		{"an error", "echo 'Error: no such server' >&2; exit 2", "ended at once: Error: no such server", "it said nothing"},
		{"again", "echo second; exit 2", "ended at once: second", "Error"},
		{"much", "seq 1000 2000; echo last; exit 2", "2000 last", "1000"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := os.WriteFile(program, []byte("#!/bin/sh\n"+c.script+"\n"), 0o700); err != nil {
				t.Fatal(err)
			}
			err := r.Start(t.Context(), "orders")
			if state.CodeOf(err) != state.CodeUnreachable || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), c.not) {
				t.Errorf("%v", err)
			}
			if want := "look at its log: " + LogPath(dir, "orders"); state.HintOf(err) != want {
				t.Errorf("the hint is %q", state.HintOf(err))
			}
		})
	}
}
