package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/steps"
)

// stage is a world for the loop: it plans what is missing and does what it is told, unless a test says otherwise.
type stage struct {
	mu       sync.Mutex
	agent    *agent
	slot     bool
	backups  int
	destroy  bool
	fail     map[string]int // how many more times a step fails
	receive  func(ctx context.Context, n int) error
	backup   func(ctx context.Context)
	starts   []time.Time // of the receiver
	tried    map[string][]time.Time
	notified []string
	watchdog time.Duration
	reload   chan os.Signal
	looks    int
}

func (s *stage) Look(context.Context, *hclspec.Spec) state.Observation {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looks++
	return state.Observation{}
}

// plan is what plan.Build would say of the stage.
func (s *stage) plan(spec *hclspec.Spec, _ state.Observation, now time.Time, _ plan.Options) (*plan.Plan, hcl.Diagnostics) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := &plan.Plan{Now: now}
	if !s.slot {
		p.Steps = append(p.Steps, plan.Step{ID: "slot", Action: plan.CreateSlot{Server: "orders"}, Impact: plan.Safe})
	}
	if len(s.agent.receivers.servers()) == 0 {
		p.Steps = append(p.Steps, plan.Step{ID: "receiver", Action: plan.StartReceiver{Server: "orders"}, Impact: plan.Safe, After: []string{"slot"}})
	}
	if s.backups == 0 {
		p.Steps = append(p.Steps, plan.Step{ID: "backup", Action: plan.TakeBackup{Server: "orders"}, Impact: plan.Safe, After: []string{"receiver"}})
	}
	if s.destroy {
		p.Steps = append(p.Steps, plan.Step{ID: "drop", Action: plan.DropSlot{Server: "legacy"}, Impact: plan.Destructive})
	}
	return p, nil
}

func (s *stage) Apply(ctx context.Context, _ *hclspec.Spec, p *plan.Plan, _ func(steps.Event)) (steps.Result, error) {
	var r steps.Result
	failed := map[string]bool{}
	for i := range p.Steps {
		step := &p.Steps[i]
		one := steps.StepResult{Step: step, Outcome: steps.OutcomeDone}
		if slices.ContainsFunc(step.After, func(id string) bool { return failed[id] }) {
			one.Outcome = steps.OutcomeSkipped
		} else if err := s.act(ctx, step); err != nil {
			one.Outcome, one.Err = steps.OutcomeFailed, err
		}
		failed[step.ID] = one.Outcome != steps.OutcomeDone
		r.Steps = append(r.Steps, one)
	}
	return r, nil
}

func (s *stage) act(ctx context.Context, step *plan.Step) error {
	s.mu.Lock()
	s.tried[step.ID] = append(s.tried[step.ID], time.Now())
	if s.fail[step.ID] > 0 {
		s.fail[step.ID]--
		s.mu.Unlock()
		return errors.New("it does not work today")
	}
	s.mu.Unlock()
	switch step.Action.(type) {
	case plan.CreateSlot:
		s.mu.Lock()
		s.slot = true
		s.mu.Unlock()
	case plan.StartReceiver:
		return s.agent.receivers.start("orders")
	case plan.TakeBackup:
		if s.backup != nil {
			s.backup(ctx)
		}
		s.mu.Lock()
		s.backups++
		s.mu.Unlock()
		return ctx.Err()
	}
	return nil
}

func (s *stage) Receive(ctx context.Context, _ *hclspec.Spec, _ string) error {
	s.mu.Lock()
	s.starts = append(s.starts, time.Now())
	n := len(s.starts)
	s.mu.Unlock()
	if s.receive != nil {
		return s.receive(ctx, n)
	}
	<-ctx.Done()
	return ctx.Err()
}

func (s *stage) Notify(text string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notified = append(s.notified, text)
	return nil
}

func (s *stage) Watchdog() (time.Duration, error) { return s.watchdog, nil }

// seen is what a test reads of the stage, copied under its lock.
type seen struct {
	slot           bool
	backups, looks int
	starts         []time.Time
	tried          map[string][]time.Time
}

func (s *stage) seen() seen {
	s.mu.Lock()
	defer s.mu.Unlock()
	return seen{slot: s.slot, backups: s.backups, looks: s.looks, starts: slices.Clone(s.starts), tried: maps.Clone(s.tried)}
}

func (s *stage) count(prefix string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, text := range s.notified {
		if strings.HasPrefix(text, prefix) {
			n++
		}
	}
	return n
}

// play runs an agent on the stage for as long as the test's script takes, then ends it.
func play(t *testing.T, s *stage, o Options, script func()) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		spec := &hclspec.Spec{Servers: []hclspec.Server{{Name: "orders"}}, Approval: hclspec.Approval{Auto: []string{"safe", "declared"}}}
		if o.Log == nil {
			o.Log = slog.New(slog.DiscardHandler)
		}
		s.tried = map[string][]time.Time{}
		s.reload = make(chan os.Signal) // made in the bubble, so that waiting for it lets time go on
		o.Reload = s.reload
		a := newAgent(o, spec, s)
		a.world, a.build, s.agent = s, s.plan, a
		ctx, end := context.WithCancel(t.Context())
		over := make(chan error)
		go func() { over <- a.run(ctx) }()
		script()
		synctest.Wait()
		end()
		if err := <-over; err != nil {
			t.Errorf("the agent ended with %v", err)
		}
		if n := s.count("STOPPING=1"); n != 1 {
			t.Errorf("STOPPING was told %d times", n)
		}
		if live := a.receivers.servers(); len(live) != 0 {
			t.Errorf("receivers outlive the agent: %v", live)
		}
	})
}

func TestAgentBringsTheWorldInOrderAndRests(t *testing.T) {
	s := &stage{}
	play(t, s, Options{}, func() {
		time.Sleep(time.Hour)
		synctest.Wait()
		is := s.seen()
		if !is.slot || len(is.starts) != 1 || is.backups != 1 {
			t.Errorf("slot %v, %d starts, %d backups", is.slot, len(is.starts), is.backups)
		}
		if s.count("READY=1") != 1 {
			t.Error("READY was not told once")
		}
		if is.looks < 55 || is.looks > 75 {
			t.Errorf("%d looks in an hour, with one a minute", is.looks)
		}
	})
}

func TestReceiverThatEndsIsStartedAgainWithBackOff(t *testing.T) {
	s := &stage{receive: func(ctx context.Context, n int) error {
		if n <= 5 {
			return fmt.Errorf("the slot is in use")
		}
		<-ctx.Done()
		return ctx.Err()
	}}
	play(t, s, Options{}, func() {
		time.Sleep(time.Hour)
		synctest.Wait()
		is := s.seen()
		if len(is.starts) != 6 {
			t.Fatalf("%d starts", len(is.starts))
		}
		for i := 2; i < len(is.starts); i++ {
			before, now := is.starts[i-1].Sub(is.starts[i-2]), is.starts[i].Sub(is.starts[i-1])
			if now < before || now < 4*time.Second {
				t.Errorf("start %d came %s after the one before, which came after %s", i, now, before)
			}
		}
	})
}

func TestLongBackupDoesNotHoldUpTheReceiver(t *testing.T) {
	ended := make(chan struct{})
	s := &stage{
		backup: func(ctx context.Context) {
			select {
			case <-ctx.Done():
			case <-time.After(3 * time.Hour):
			}
		},
		receive: func(ctx context.Context, n int) error {
			if n == 1 {
				time.Sleep(time.Hour)
				close(ended)
				return errors.New("the server restarted")
			}
			<-ctx.Done()
			return ctx.Err()
		},
	}
	play(t, s, Options{}, func() {
		time.Sleep(2 * time.Hour)
		<-ended
		synctest.Wait()
		is := s.seen()
		if is.backups != 0 || len(is.tried["backup"]) != 1 {
			t.Errorf("%d backups, tried %d times", is.backups, len(is.tried["backup"]))
		}
		if len(is.starts) != 2 || is.starts[1].Sub(is.starts[0]) > time.Hour+10*time.Second {
			t.Errorf("starts: %v", is.starts)
		}
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		is = s.seen()
		if is.backups != 1 || len(is.tried["backup"]) != 1 {
			t.Errorf("%d backups, tried %d times", is.backups, len(is.tried["backup"]))
		}
	})
}

func TestEndingInterruptsABackup(t *testing.T) {
	interrupted := false
	s := &stage{backup: func(ctx context.Context) { <-ctx.Done(); interrupted = true }}
	play(t, s, Options{}, func() { time.Sleep(time.Minute) })
	if !interrupted {
		t.Error("the backup was left running")
	}
}

func TestFailedStepIsHeldBackAndTheOthersGoOn(t *testing.T) {
	s := &stage{fail: map[string]int{"backup": 4}}
	play(t, s, Options{}, func() {
		time.Sleep(time.Hour)
		synctest.Wait()
		is := s.seen()
		tries := is.tried["backup"]
		if len(tries) != 5 || is.backups != 1 || len(is.starts) != 1 {
			t.Fatalf("%d tries, %d backups, %d starts", len(tries), is.backups, len(is.starts))
		}
		for i := 1; i < len(tries); i++ {
			if wait := tries[i].Sub(tries[i-1]); wait < 4*time.Second {
				t.Errorf("try %d came after %s", i, wait)
			}
		}
	})
}

func TestDestructiveStepsWait(t *testing.T) {
	var log strings.Builder
	s := &stage{destroy: true}
	play(t, s, Options{Log: slog.New(slog.NewTextHandler(&log, nil))}, func() {
		time.Sleep(time.Hour)
		synctest.Wait()
		is := s.seen()
		if len(is.tried["drop"]) != 0 {
			t.Error("a destructive step ran")
		}
	})
	if n := strings.Count(log.String(), "steps wait for approval"); n != 1 {
		t.Errorf("pending approval was logged %d times:\n%s", n, log.String())
	}
}

func TestBadConfigurationLeavesTheOneBefore(t *testing.T) {
	bad := true
	loads := 0
	var log strings.Builder
	o := Options{Log: slog.New(slog.NewTextHandler(&log, nil)), Load: func() (*hclspec.Spec, hcl.Diagnostics) {
		loads++
		if bad {
			return nil, hcl.Diagnostics{{Severity: hcl.DiagError, Summary: "Unsupported argument"}}
		}
		return &hclspec.Spec{Approval: hclspec.Approval{Auto: []string{"safe"}}}, nil // without the server
	}}
	s := &stage{}
	play(t, s, o, func() {
		time.Sleep(time.Minute)
		s.reload <- syscall.SIGHUP
		time.Sleep(time.Minute)
		if got := s.agent.receivers.servers(); !slices.Equal(got, []string{"orders"}) {
			t.Errorf("after the bad configuration these receive: %v", got)
		}
		bad = false
		s.reload <- syscall.SIGHUP
		time.Sleep(time.Minute)
		synctest.Wait()
		is := s.seen()
		// The stage's plan wants it whatever the configuration says: a second start means that the first was ended.
		if len(is.starts) != 2 {
			t.Errorf("the receiver of a server that left the configuration was started %d times, not ended and started", len(is.starts))
		}
	})
	if loads != 2 || !strings.Contains(log.String(), "the one before stays in force") {
		t.Errorf("%d loads; log:\n%s", loads, log.String())
	}
}

func TestWatchdogIsFedWhileABackupRuns(t *testing.T) {
	s := &stage{watchdog: time.Minute, backup: func(ctx context.Context) { <-ctx.Done() }}
	play(t, s, Options{}, func() {
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := s.count("WATCHDOG=1"); n < 100 {
			t.Errorf("the watchdog was fed %d times in an hour, with a minute's patience", n)
		}
	})
}
