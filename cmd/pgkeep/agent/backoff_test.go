package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
	"github.com/pgkeep/pgkeep/steps"
)

const backoffHCL = `
repository "main" {
  path = "/srv/pgkeep"
}

server "orders" {
  conninfo     = "host=10.0.1.1 user=pgkeep dbname=postgres"
  repositories = [repository.main]
}

schedule "nightly" {
  servers      = [server.orders]
  backup       = "full"
  cron         = "0 1 * * *"
  timezone     = "UTC"
  start_within = "%s"
}
`

// failing is a world whose backups all end aborted, as the repository shows them. It outlives agents.
type failing struct {
	mu      sync.Mutex
	backups []state.Backup
	tried   []time.Time
	heals   int // the try that succeeds; 0: none
	removed int
}

func (f *failing) Look(context.Context, *hclspec.Spec) state.Observation {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now().UTC()
	var end wal.LSN = 0x5000060
	cluster := state.Cluster{
		Name: "orders", SystemID: "7", Major: 15, SegmentSize: wal.DefaultSegmentSize, Backups: append([]state.Backup(nil), f.backups...),
		WAL: []state.WALRange{{Range: wal.Range{Timeline: 1, From: 0x2000000, To: 0x5000000}, Partial: end}},
	}
	return state.Observation{
		At: now, Host: "here",
		Servers: map[string]state.Server{"orders": {
			SystemID: "7", Version: 150018, Timeline: 1, FlushLSN: end, SegmentSize: wal.DefaultSegmentSize, Now: now, Role: state.Role{Name: "pgkeep", Replication: true},
			Slots: []state.Slot{{Name: "pgkeep_orders", Physical: true, Active: true, ActivePID: 9, RestartLSN: 0x5000000, WALStatus: state.SlotReserved}},
		}},
		Repositories: map[string]state.Repository{"main": {ID: "1", Now: now, Free: -1, Total: -1, Clusters: map[string][]state.Cluster{"orders": {cluster}}}},
		Receivers:    map[string]state.Receiver{"orders": {Running: true, Streaming: true, Timeline: 1, Flushed: end, Archived: end, ServerEnd: end, CaughtUpAt: now, Reported: now}},
		Spools:       map[string]state.Spool{"orders": {Path: "/spool", SystemID: "7", Timeline: 1, Durable: end}},
	}
}

func (f *failing) Apply(_ context.Context, _ *hclspec.Spec, p *plan.Plan, _ func(steps.Event)) (steps.Result, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var r steps.Result
	for i := range p.Steps {
		one := steps.StepResult{Step: &p.Steps[i], Outcome: steps.OutcomeDone}
		switch p.Steps[i].Action.(type) {
		case plan.TakeBackup:
			one.Outcome, one.Err = f.take()
		case plan.RemoveIncomplete:
			if len(p.Steps[i].After) > 0 && i > 0 && r.Steps[0].Err != nil {
				one.Outcome = steps.OutcomeSkipped // it comes after the backup
				break
			}
			f.removed++
		}
		r.Steps = append(r.Steps, one)
	}
	return r, nil
}

// take begins a backup, which ends at once: aborted, or committed when it is the one that heals.
func (f *failing) take() (steps.Outcome, error) {
	now := time.Now().UTC()
	f.tried = append(f.tried, now)
	b := state.Backup{
		ID: fmt.Sprintf("%s-F-%04x", now.Format("20060102T150405Z"), len(f.tried)), State: state.BackupAborted, Kind: "full",
		Timeline: 1, Redo: 0x4000028, Began: now, Ended: now, Schedule: "nightly", Failure: "it does not work today",
	}
	if len(f.tried) == f.heals {
		b.State, b.Stop = state.BackupCommitted, 0x4000100
	}
	f.backups = append(f.backups, b)
	if b.State == state.BackupAborted {
		return steps.OutcomeFailed, errors.New(b.Failure)
	}
	return steps.OutcomeDone, nil
}

func (f *failing) Receive(ctx context.Context, _ *hclspec.Spec, _ string) error {
	<-ctx.Done()
	return ctx.Err()
}

// restarted runs agents on the world for a day from the tick's midnight on; each agent lives as long as every says.
func restarted(t *testing.T, f *failing, startWithin string, every time.Duration) []time.Duration {
	t.Helper()
	spec, diags := hclspec.Load(fstest.MapFS{"pgkeep.hcl": {Data: []byte(fmt.Sprintf(backoffHCL, startWithin))}}, ".", hclspec.LoadOptions{Version: "0.1.0", Hostname: "here"})
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	var midnight time.Time
	synctest.Test(t, func(t *testing.T) {
		midnight = time.Now().UTC()
		f.backups = []state.Backup{{
			ID: midnight.Add(-23*time.Hour).Format("20060102T150405Z") + "-F-0000", State: state.BackupCommitted, Kind: "full", Timeline: 1,
			Redo: 0x2000028, Stop: 0x2000100, Began: midnight.Add(-23 * time.Hour), Ended: midnight.Add(-22 * time.Hour), Schedule: "nightly",
		}}
		for time.Since(midnight) < 24*time.Hour {
			a := newAgent(Options{Log: slog.New(slog.DiscardHandler), Reload: make(chan os.Signal)}, spec, &stage{})
			a.world = f
			ctx, end := context.WithCancel(t.Context())
			over := make(chan error)
			go func() { over <- a.run(ctx) }()
			time.Sleep(every)
			synctest.Wait()
			end()
			if err := <-over; err != nil {
				t.Fatal(err)
			}
		}
	})
	var out []time.Duration
	for _, at := range f.tried {
		out = append(out, at.Sub(midnight).Truncate(time.Minute)-time.Hour)
	}
	return out
}

// TestBackOffIsReadFromTheRepository: tries of a schedule that fail are repeated after 1, 2, 4 … minutes, at most an
// hour, up to start_within; how often the agent is restarted meanwhile makes no difference.
func TestBackOffIsReadFromTheRepository(t *testing.T) {
	var want []time.Duration
	for _, minutes := range []int{0, 1, 3, 7, 15, 31, 63, 123, 183} {
		want = append(want, time.Duration(minutes)*time.Minute)
	}
	for _, every := range []time.Duration{24 * time.Hour, time.Hour, 7 * time.Minute, 20 * time.Second} {
		t.Run(every.String(), func(t *testing.T) {
			f := &failing{}
			got := restarted(t, f, "4h", every)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("tries after the tick, with a new agent every %s: %s", every, diff)
			}
			if f.removed != 0 {
				t.Error("what the back-off is told by was removed")
			}
		})
	}
}

// TestBackOffEndsWithSuccess: once a try succeeds nothing more is tried until the next tick, and what failed is removed.
func TestBackOffEndsWithSuccess(t *testing.T) {
	f := &failing{heals: 4}
	got := restarted(t, f, "4h", 7*time.Minute)
	if len(got) != 4 || got[3] != 7*time.Minute || f.removed == 0 {
		t.Errorf("tries %v, removals %d", got, f.removed)
	}
}
