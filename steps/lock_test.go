package steps

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
)

// TestWaitForALock has a step meet a lock that is let go after a time: with patience it is done then, without it ends at
// once, and with too little when that is over. Who holds it is told once, and nobody who waits has a session.
func TestWaitForALock(t *testing.T) {
	for _, c := range []struct {
		name              string
		patience, letGo   time.Duration
		want              Outcome
		atLeast, lessThan time.Duration
		told              int
	}{
		{"no patience", 0, time.Second, OutcomeLocked, 0, time.Millisecond, 0},
		{"enough patience", time.Minute, 10 * time.Second, OutcomeDone, 10 * time.Second, 12 * time.Second, 1},
		{"too little", 5 * time.Second, time.Minute, OutcomeLocked, 5 * time.Second, 6 * time.Second, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				f.locked = map[string]bool{"advisory server orders": true}
				go func() {
					time.Sleep(c.letGo)
					f.mu.Lock()
					defer f.mu.Unlock()
					delete(f.locked, "advisory server orders")
				}()
				told := 0
				o := f.options()
				o.LockTimeout = c.patience
				o.Report = func(e Event) {
					if e.Kind == Held {
						told++
						if !strings.Contains(e.Note, "somebody@elsewhere since yesterday") {
							t.Errorf("it does not say who has it: %q", e.Note)
						}
					}
				}
				began := time.Now()
				step := plan.Step{ID: "slot", Action: aSlot, Impact: plan.Safe}
				result, _ := Apply(context.Background(), &plan.Plan{Steps: []plan.Step{step}}, f.world(), o)
				got, took := result.Steps[0], time.Since(began)
				if got.Outcome != c.want || told != c.told || took < c.atLeast || took > c.lessThan {
					t.Errorf("%s after %s (%s); the holder was told %d times", got.Outcome, took, got.Note, told)
				}
				if c.want == OutcomeLocked && (state.CodeOf(got.Err) != state.CodeLocked || result.Exit() != 6) {
					t.Errorf("exit %d: %v", result.Exit(), got.Err)
				}
				time.Sleep(2 * time.Minute) // the holder ends within the test
			})
		})
	}
}

// TestWaitForALockIsInterrupted ends the wait with the context.
func TestWaitForALockIsInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.locked = map[string]bool{"advisory server orders": true}
		ctx, interrupt := context.WithTimeout(context.Background(), 3*time.Second)
		defer interrupt()
		o := f.options()
		o.LockTimeout = time.Hour
		began := time.Now()
		step := plan.Step{ID: "slot", Action: aSlot, Impact: plan.Safe}
		result, _ := Apply(ctx, &plan.Plan{Steps: []plan.Step{step}}, f.world(), o)
		if got := result.Steps[0]; got.Outcome != OutcomeCanceled || time.Since(began) > 4*time.Second || result.Exit() != 130 {
			t.Errorf("%s after %s, exit %d", got.Outcome, time.Since(began), result.Exit())
		}
	})
}

// TestNameOfASessionFits: whatever the machine is called, the process can be read.
func TestNameOfASessionFits(t *testing.T) {
	for who, want := range map[string]string{
		"root@db1": "pgkeep apply root@db1 pid 4711",
		"postgres@" + strings.Repeat("a-very-long-name.", 9): "pgkeep apply postgres@a-very-long-name.a-very-long-nam pid 4711",
	} {
		if got := applyName(who, 4711); got != want || len(got) > nameMax {
			t.Errorf("%q of %d bytes, want %q", got, len(got), want)
		}
	}
}
