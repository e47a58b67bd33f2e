package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/steps"
)

// TestExitCodes tries every code of the table in exit.go.
func TestExitCodes(t *testing.T) {
	quiet := context.Background()
	ended := func(s os.Signal) context.Context {
		ctx, cancel := context.WithCancelCause(quiet)
		cancel(interrupted{s})
		return ctx
	}
	for _, c := range []struct {
		ctx  context.Context
		err  error
		want int
	}{
		{quiet, nil, 0},
		{quiet, errors.New("x"), 1},
		{quiet, exit{code: exitChanges}, 2},
		{quiet, exit{code: exitUnformatted}, 3},
		{quiet, fmt.Errorf("apply: %w", &state.Error{Code: state.CodeStale}), 4},
		{quiet, exit{code: exitIncomplete}, 5},
		{quiet, &state.Error{Code: state.CodeLocked}, 6},
		{quiet, exit{code: exitNotApproved}, 7},
		{quiet, exit{code: exitCheck}, 8},
		{quiet, usage("x"), 64},
		{ended(os.Interrupt), errors.New("x"), 130},
		{ended(syscall.SIGTERM), exit{code: exitIncomplete}, 143},
		{ended(syscall.SIGTERM), nil, 0}, // a receiver or agent that was told to end, and did
	} {
		if got := codeOf(c.ctx, c.err); got != c.want {
			t.Errorf("%v: exit code %d, want %d", c.err, got, c.want)
		}
	}
}

// TestSecondSignal ends at once at the second signal, and only then.
func TestSecondSignal(t *testing.T) {
	exited := make(chan int, 1)
	ctx, stop := interruptible(context.Background(), func(code int) { exited <- code })
	defer stop()
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-ctx.Done()
	if len(exited) > 0 {
		t.Fatal("ended at the first signal")
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := <-exited; code != exitTerminated {
		t.Errorf("exit code %d", code)
	}
}

// TestHintComesLast prints code and sentence, then what to do.
func TestHintComesLast(t *testing.T) {
	var errs bytes.Buffer
	a := &app{err: &errs}
	a.say(fmt.Errorf("apply: %w", &state.Error{Code: state.CodeHBA, Text: "no pg_hba.conf entry", Hint: "add host replication …"}))
	a.say(exit{code: 2})
	if d := cmp.Diff("Error [E-HBA]: apply: no pg_hba.conf entry\n→ add host replication …\n", errs.String()); d != "" {
		t.Error(d)
	}
}

// TestConsent names what each form of --auto-approve allows.
func TestConsent(t *testing.T) {
	for _, c := range []struct {
		consent consent
		want    string
	}{
		{consent{}, ""},
		{consent{approve: "safe"}, "safe"},
		{consent{approve: "declared"}, "safe declared"},
		{consent{approve: "destructive"}, "safe declared destructive"},
		{consent{approve: "disruptive"}, "safe declared disruptive"},
		{consent{approve: "all"}, "safe declared destructive disruptive"},
		{consent{yes: true}, "safe declared destructive disruptive"},
	} {
		got, err := c.consent.impacts()
		if err != nil || strings.Join(got, " ") != c.want {
			t.Errorf("%+v: %v, %v, want %s", c.consent, got, err, c.want)
		}
	}
}

// TestAsk takes y for what is harmless, only yes for what is not, and only the server's name where backups go.
func TestAsk(t *testing.T) {
	safe := []plan.Step{{ID: "a", Action: plan.SwitchWAL{}, Impact: plan.Safe}}
	slot := []plan.Step{{ID: "b", Action: plan.DropSlot{}, Impact: plan.Destructive, Effect: "its WAL goes"}}
	prune := []plan.Step{{ID: "c", Action: plan.Prune{Server: "shop", Backups: []string{"one"}}, Impact: plan.Destructive, Effect: "two backups go"}}
	for _, c := range []struct {
		steps  []plan.Step
		answer string
		want   bool
		says   string
	}{
		{safe, "y\n", true, "Do this?"},
		{safe, "yes\n", true, "Do this?"},
		{safe, "n\n", false, "Do this?"},
		{safe, "\n", false, "Do this?"},
		{safe, "", false, "Do this?"},
		{slot, "y\n", false, "drop-slot b (destructive): its WAL goes"},
		{slot, "YES\n", true, "drop-slot b (destructive): its WAL goes"},
		{prune, "yes\n", false, "prune c (destructive): two backups go"},
		{prune, "Shop\n", false, "Type the name of the server, shop, to delete 1 of its backups"},
		{prune, "shop\n", true, "Type the name of the server, shop, to delete 1 of its backups"},
		{append(slot, prune...), "shop\n", false, "Type yes"},
		{append(slot, prune...), "shop\nyes\n", true, "Type yes"},
	} {
		var out bytes.Buffer
		a := &app{in: strings.NewReader(c.answer), out: &out}
		got, err := a.ask(&plan.Plan{Steps: c.steps})
		if err != nil || got != c.want || !strings.Contains(out.String(), c.says) {
			t.Errorf("%q to %s: %v, %v, want %v and %q", c.answer, out.String(), got, err, c.want, c.says)
		}
	}
}

// TestAskIsGivenUp: Ctrl-C at the question ends the command, though nobody answers.
func TestAskIsGivenUp(t *testing.T) {
	in, silent := io.Pipe()
	defer silent.Close()
	asked := make(chan struct{})
	a := &app{in: in, out: writes(func(b []byte) {
		if strings.Contains(string(b), "Do this?") {
			close(asked)
		}
	})}
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	go func() {
		<-asked
		cancel(interrupted{os.Interrupt})
	}()
	ok, err := a.asked(ctx, &plan.Plan{Steps: []plan.Step{{ID: "a", Action: plan.SwitchWAL{}, Impact: plan.Safe}}})
	if ok || err == nil || codeOf(ctx, err) != exitInterrupted {
		t.Errorf("%v, %v, exit code %d, want no, and %d", ok, err, codeOf(ctx, err), exitInterrupted)
	}
}

// writes calls a function with what is written.
type writes func([]byte)

func (w writes) Write(b []byte) (int, error) {
	w(b)
	return len(b), nil
}

// TestProgressLines writes a line an event where there is no terminal.
func TestProgressLines(t *testing.T) {
	var out bytes.Buffer
	a := &app{out: &out, err: &out, width: 100}
	p := &plan.Plan{Steps: []plan.Step{{ID: "server.orders/backup", Action: plan.TakeBackup{}}}}
	v := a.newProgress(p)
	at := time.Date(2026, 11, 22, 1, 0, 0, 0, time.UTC)
	s := &p.Steps[0]
	v.tell(steps.Event{Kind: steps.Started, Step: s, At: at})
	v.tell(steps.Event{Kind: steps.Progress, Step: s, At: at.Add(time.Second), Done: 1 << 20, Total: 4 << 30})
	v.tell(steps.Event{Kind: steps.Progress, Step: s, At: at.Add(time.Minute), Done: 1 << 30, Total: 4 << 30, Rate: 100 << 20, ETA: 30 * time.Second})
	failed := &state.Error{Code: state.CodeDiskFull, Text: "no space left", Hint: "make room in /srv"}
	v.tell(steps.Event{Kind: steps.Failed, Step: s, Outcome: steps.OutcomeFailed, Elapsed: 2 * time.Minute, Err: failed})
	v.end(steps.Result{Steps: []steps.StepResult{{Step: s, Outcome: steps.OutcomeFailed, Elapsed: 2 * time.Minute, Err: failed}}})
	want := `
take-backup server.orders/backup: begins
take-backup server.orders/backup: 1.0 GiB of 4.0 GiB, 100.0 MiB/s, 30 s left
take-backup server.orders/backup: failed after 2 min: no space left

STEP                              OUTCOME  TOOK
take-backup server.orders/backup  failed   2 min  [E-DISK-FULL] no space left

Apply: 0 done, 0 already so, 1 failed, 0 not done.
→ make room in /srv
`
	if d := cmp.Diff(want, out.String()); d != "" {
		t.Error(d)
	}
}

// TestRecoveryFromFlags lets flags win over the block, and keeps the block's target when none is named.
func TestRecoveryFromFlags(t *testing.T) {
	spec := &hclspec.Spec{Recoveries: []hclspec.Recovery{{
		Address: "recovery.drop", Name: "drop", Server: "orders", WALWait: 10 * time.Minute,
		Target:      hclspec.Target{XID: 771, Inclusive: false, Timeline: 3, Action: "promote"},
		Destination: hclspec.Destination{Path: "/restore", Port: 5499, WAL: "copy", Host: "db1", Tablespaces: map[string]string{"fast": "/fast"}},
	}}}
	a := &app{out: &bytes.Buffer{}, err: &bytes.Buffer{}}
	var o recoverFlags
	c := recoverCommand(a)
	r, err := o.recovery(spec, "drop", c)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(spec.Recoveries[0].Target, r.Target); d != "" || r.Destination.Host != "db1" || r.Destination.Port != 5499 {
		t.Errorf("the block is not kept: %+v\n%s", r, d)
	}
	o.text = hclspec.RecoveryText{Time: "2026-02-10T21:16:17Z", Exclusive: true, Path: "/other", Timeline: "latest"}
	o.tablespaces = []string{"fast=/mnt/fast"}
	if r, err = o.recovery(spec, "drop", c); err != nil {
		t.Fatal(err)
	}
	want := hclspec.Target{Time: time.Date(2026, 2, 10, 21, 16, 17, 0, time.UTC), Action: "promote"}
	if d := cmp.Diff(want, r.Target); d != "" || r.Destination.Path != "/other" || r.Destination.Tablespaces["fast"] != "/mnt/fast" {
		t.Errorf("the flags do not win: %+v\n%s", r, d)
	}
}
