package steps

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// errKilled is what every call gives from the moment of the kill on: a dead process changes nothing more.
var errKilled = errors.New("killed")

// kill ends the process before or after its at-th call.
type kill struct {
	at    int
	after bool
}

// fakeWorld is a world in memory whose every call can be the last.
type fakeWorld struct {
	mu        sync.Mutex
	now       time.Time
	server    state.Server
	down      error
	history   []byte
	exists    bool // the repository
	cluster   state.Cluster
	histories []wal.History
	receiving bool
	serves    bool // WAL that is thought lost
	spool     state.Spool
	target    state.Destination
	restored  bool
	started   bool
	switched  int
	journal   []JournalEntry
	locked    map[string]bool
	locks     map[wal.LSN]time.Time // of WAL, by where a stretch begins
	opening   time.Time             // the lock of what opens the cluster
	scratch   fakeScratch
	drilled   []state.Drill // evidence, oldest first

	kill      kill
	calls     int
	dead      bool
	called    []string
	tombed    []string
	dropped   []string
	deleted   []wal.Range
	invariant func(*fakeWorld) error
	broken    error
}

// do is one call: it may be the one that kills the process, before its effect or after it.
func (f *fakeWorld) do(name string, effect func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dead {
		return errKilled
	}
	f.calls++
	f.called = append(f.called, name)
	if f.calls == f.kill.at && !f.kill.after {
		f.dead = true
		return errKilled
	}
	err := effect()
	if f.invariant != nil && f.broken == nil {
		if bad := f.invariant(f); bad != nil {
			f.broken = fmt.Errorf("after call %d (%s): %w", f.calls, name, bad)
		}
	}
	if f.calls == f.kill.at {
		f.dead = true
		return errKilled
	}
	return err
}

// reborn is the next process: the locks of the dead one are gone.
func (f *fakeWorld) reborn() {
	f.dead, f.kill, f.calls, f.called, f.locked = false, kill{}, 0, nil, nil
	f.scratch.open = false
}

func (f *fakeWorld) world() World {
	return World{
		Servers: fakeServers{f}, Repositories: fakeRepositories{f}, Receivers: fakeReceivers{f}, Backups: fakeBackups{f},
		Recoveries: fakeRecoveries{f}, Spools: fakeSpools{f}, Locks: fakeLocks{f}, Journal: fakeJournal{f}, Drills: fakeDrills{f},
	}
}

func (f *fakeWorld) slot(name string) *state.Slot {
	i := slices.IndexFunc(f.server.Slots, func(s state.Slot) bool { return s.Name == name })
	if i < 0 {
		return nil
	}
	return &f.server.Slots[i]
}

func (f *fakeWorld) backup(id string) *state.Backup {
	i := slices.IndexFunc(f.cluster.Backups, func(b state.Backup) bool { return b.ID == id })
	if i < 0 {
		return nil
	}
	return &f.cluster.Backups[i]
}

type fakeServers struct{ *fakeWorld }

func (f fakeServers) Connect(context.Context, string) (Server, error) {
	return fakeServer(f), f.do("connect", func() error { return f.down })
}

func (f fakeServers) History(context.Context, string, wal.Timeline) (content []byte, err error) {
	err = f.do("history", func() error { content = f.history; return nil })
	return content, err
}

func (f fakeServers) Serves(context.Context, string, wal.Timeline, wal.LSN) (serves bool, err error) {
	err = f.do("serves", func() error { serves = f.serves; return nil })
	return serves, err
}

type fakeSpools struct{ *fakeWorld }

func (f fakeSpools) Look(context.Context, string) (sp state.Spool, err error) {
	err = f.do("look at spool", func() error { sp = f.spool; return nil })
	return sp, err
}

type fakeServer struct{ *fakeWorld }

func (f fakeServer) Facts(context.Context) (s state.Server, err error) {
	err = f.do("facts", func() error { s = f.server; return nil })
	return s, err
}

func (f fakeServer) Slot(_ context.Context, name string) (slot *state.Slot, err error) {
	err = f.do("slot", func() error {
		if s := f.slot(name); s != nil {
			one := *s
			slot = &one
		}
		return nil
	})
	return slot, err
}

func (f fakeServer) CreateSlot(_ context.Context, name string) error {
	return f.do("create slot", func() error {
		if f.slot(name) == nil {
			f.server.Slots = append(slices.Clone(f.server.Slots), state.Slot{Name: name, Physical: true, RestartLSN: 0x3000000, WALStatus: state.SlotReserved})
		}
		return nil
	})
}

func (f fakeServer) DropSlot(_ context.Context, name string) error {
	return f.do("drop slot", func() error {
		if s := f.slot(name); s != nil && s.WALStatus != state.SlotLost {
			f.dropped = append(f.dropped, name)
		}
		f.server.Slots = slices.DeleteFunc(slices.Clone(f.server.Slots), func(s state.Slot) bool { return s.Name == name })
		return nil
	})
}

func (f fakeServer) SwitchWAL(context.Context) (wal.LSN, error) {
	return 0x4000000, f.do("switch", func() error { f.switched++; return nil })
}

func (f fakeServer) TryLock(_ context.Context, name string) (func(), error) {
	return fakeLocks(f).TryLock(context.Background(), "advisory "+name)
}

func (f fakeServer) Close() error { return nil }

type fakeLocks struct{ *fakeWorld }

func (f fakeLocks) TryLock(_ context.Context, name string) (func(), error) {
	err := f.do("lock", func() error {
		if f.locked[name] {
			return &state.Error{Code: state.CodeLocked, Text: name + " is locked by somebody@elsewhere since yesterday"}
		}
		if f.locked == nil {
			f.locked = map[string]bool{}
		}
		f.locked[name] = true
		return nil
	})
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.locked, name)
	}, err
}

type fakeRepositories struct{ *fakeWorld }

func (f fakeRepositories) Identify(context.Context, string) (id string, err error) {
	err = f.do("identify", func() error {
		if !f.exists {
			return &state.Error{Code: state.CodeAbsent, Text: "the directory is absent"}
		}
		id = "r1"
		return nil
	})
	return id, err
}

func (f fakeRepositories) Create(context.Context, string) error {
	return f.do("create repository", func() error { f.exists = true; return nil })
}

func (f fakeRepositories) Of(string) []string { return []string{"main"} }

func (f fakeRepositories) Cluster(context.Context, string, string, string) (Cluster, error) {
	return fakeCluster(f), f.do("open cluster", func() error { return nil })
}

type fakeCluster struct{ *fakeWorld }

func (f fakeCluster) RepositoryID() string { return "r1" }

func (f fakeCluster) Backups(context.Context) (out []state.Backup, err error) {
	err = f.do("backups", func() error { out = slices.Clone(f.cluster.Backups); return nil })
	return out, err
}

func (f fakeCluster) AbortBackup(_ context.Context, id, why string, _ time.Time) (now state.BackupState, err error) {
	err = f.do("abort backup", func() error {
		b := f.backup(id)
		if b.State == state.BackupRunning || b.State == state.BackupAbandoned {
			b.State, b.Failure = state.BackupAborted, why
		}
		now = b.State
		return nil
	})
	return now, err
}

func (f fakeCluster) RemoveAborted(_ context.Context, id string) (int64, error) {
	return 1, f.do("remove aborted", func() error {
		f.cluster.Backups = slices.DeleteFunc(slices.Clone(f.cluster.Backups), func(b state.Backup) bool { return b.ID == id })
		return nil
	})
}

func (f fakeCluster) RemoveCut(ctx context.Context, id string, _ time.Time) (int64, error) {
	return f.RemoveAborted(ctx, id)
}

func (f fakeCluster) LockedUntil(_ context.Context, id string) (time.Time, error) {
	return f.backup(id).LockedUntil, nil
}

func (f fakeCluster) WALLockedUntil(_ context.Context, r wal.Range) (until time.Time, err error) {
	err = f.do("look at a lock", func() error { until = f.locks[r.From]; return nil })
	return until, err
}

func (f fakeCluster) OpeningLockedUntil(context.Context) (until time.Time, err error) {
	err = f.do("look at a lock", func() error { until = f.opening; return nil })
	return until, err
}

// ExtendLock makes one call for each object, the one by which the lock is told last.
func (f fakeCluster) ExtendLock(_ context.Context, n plan.LockNeed) (objects int, err error) {
	extend := func(what func()) {
		if err == nil {
			err = f.do("extend a lock", func() error { what(); objects++; return nil })
		}
	}
	if n.Opening {
		extend(func() {})
		extend(func() { f.opening = n.Until })
	}
	for _, r := range n.WAL {
		extend(func() {})
		extend(func() { f.locks[r.From] = n.Until })
	}
	for _, id := range n.Backups {
		extend(func() {})
		extend(func() { f.backup(id).LockedUntil = n.Until })
	}
	return objects, err
}

func (f fakeCluster) Tomb(_ context.Context, id string, now time.Time) error {
	return f.do("tomb", func() error {
		f.tombed = append(f.tombed, id)
		b := f.backup(id)
		b.State, b.Tombed = state.BackupDeleted, now
		return nil
	})
}

func (f fakeCluster) Sweep(_ context.Context, now time.Time) (int64, error) {
	return 0, f.do("sweep", func() error {
		f.cluster.Backups = slices.DeleteFunc(slices.Clone(f.cluster.Backups), func(b state.Backup) bool {
			return b.State == state.BackupDeleted && !countsForWAL(b, now)
		})
		return nil
	})
}

func (f fakeCluster) WALRanges(context.Context) (out []state.WALRange, err error) {
	err = f.do("wal ranges", func() error { out = slices.Clone(f.cluster.WAL); return nil })
	return out, err
}

func (f fakeCluster) DeleteWAL(_ context.Context, going []wal.Range) (freed int64, err error) {
	err = f.do("delete WAL", func() error {
		f.deleted = append(f.deleted, going...)
		var left []state.WALRange
		for _, have := range f.cluster.WAL {
			for _, part := range wal.Missing(have.Range, going) {
				left = append(left, state.WALRange{Range: part})
			}
		}
		f.cluster.WAL, freed = left, 42
		return nil
	})
	return freed, err
}

func (f fakeCluster) Gaps(context.Context) (out []state.Gap, err error) {
	err = f.do("gaps", func() error { out = slices.Clone(f.cluster.Gaps); return nil })
	return out, err
}

func (f fakeCluster) RecordGap(_ context.Context, g state.Gap) error {
	return f.do("record gap", func() error { f.cluster.Gaps = append(f.cluster.Gaps, g); return nil })
}

func (f fakeCluster) Histories(context.Context) (out []wal.History, err error) {
	err = f.do("histories", func() error { out = slices.Clone(f.histories); return nil })
	return out, err
}

func (f fakeCluster) PutHistory(_ context.Context, t wal.Timeline, content []byte) error {
	return f.do("put history", func() error {
		h, err := wal.ParseHistory(t, content)
		f.histories = append(f.histories, h)
		return err
	})
}

type fakeReceivers struct{ *fakeWorld }

func (f fakeReceivers) Names(string) (slot, application string) {
	return "pgkeep_orders", "pgkeep_orders"
}

func (f fakeReceivers) Look(context.Context, string) (r state.Receiver, err error) {
	err = f.do("look at receiver", func() error { r.Running = f.receiving; return nil })
	return r, err
}

func (f fakeReceivers) Start(context.Context, string) error {
	return f.do("start receiver", func() error {
		f.receiving = true
		s := f.slot("pgkeep_orders")
		if s == nil || s.WALStatus == state.SlotLost {
			return nil // it runs, and cannot stream
		}
		s.Active, s.ActivePID = true, 7
		f.server.Senders = []state.Sender{{PID: 7, Application: "pgkeep_orders", State: "streaming"}}
		return nil
	})
}

func (f fakeReceivers) Stop(context.Context, string) error {
	return f.do("stop receiver", func() error {
		f.receiving, f.server.Senders = false, nil
		if s := f.slot("pgkeep_orders"); s != nil {
			s.Active, s.ActivePID = false, 0
		}
		return nil
	})
}

func (f fakeReceivers) Push(_ context.Context, _ string, upTo wal.LSN) (wal.LSN, error) {
	return upTo, nil
}

type fakeBackups struct{ *fakeWorld }

// Take is killed between START and COMMIT too, as its two calls show.
func (f fakeBackups) Take(_ context.Context, order plan.TakeBackup, report func(done, total int64)) (Taken, error) {
	id := fmt.Sprintf("taken-%d", len(f.cluster.Backups))
	err := f.do("start backup", func() error {
		f.cluster.Backups = append(slices.Clone(f.cluster.Backups), state.Backup{
			ID: id, State: state.BackupRunning, Timeline: 1, Redo: 0x5000000, Began: f.now, Schedule: order.Schedule,
		})
		return nil
	})
	if err != nil {
		return Taken{ID: id}, err
	}
	report(50, 100)
	return Taken{ID: id}, f.do("commit backup", func() error {
		b := f.backup(id)
		b.State, b.Stop = state.BackupCommitted, 0x6000000
		return nil
	})
}

type fakeRecoveries struct{ *fakeWorld }

func (f fakeRecoveries) Restored(context.Context, string, plan.Route) (done bool, err error) {
	err = f.do("restored", func() error { done = f.restored; return nil })
	return done, err
}

func (f fakeRecoveries) Restore(context.Context, plan.RecoverTo, func(done, total int64)) (string, error) {
	return "", f.do("restore", func() error { f.restored = true; return nil })
}

func (f fakeRecoveries) Destination(context.Context, plan.Route) (d state.Destination, err error) {
	err = f.do("look at destination", func() error { d = f.target; return nil })
	return d, err
}

func (f fakeRecoveries) Started(context.Context, plan.Route) (reached bool, text string, err error) {
	err = f.do("started", func() error { reached = f.started; return nil })
	return reached, "target reached", err
}

func (f fakeRecoveries) Ours(context.Context, plan.Route) (bool, error) {
	return false, f.do("whose server", func() error { return nil })
}

func (f fakeRecoveries) Startable(context.Context, plan.Route, int) error {
	return f.do("startable", func() error { return nil })
}

func (f fakeRecoveries) Start(_ context.Context, _ string, _ plan.RecoverTo, report func(done, total int64, r Replay)) error {
	report(40, 40, Replay{LSN: 0x5000028, Commit: f.now, Rate: 20, Left: time.Second})
	return f.do("start", func() error { f.started = f.restored; return nil })
}

type fakeJournal struct{ *fakeWorld }

func (f fakeJournal) Write(_ context.Context, e JournalEntry) error {
	return f.do("journal", func() error { f.journal = append(f.journal, e); return nil })
}

var epoch = time.Date(2026, 2, 10, 21, 0, 0, 0, time.UTC)

// newFake gives a server on timeline 1, a repository with two committed backups and all their WAL.
func newFake(t *testing.T) *fakeWorld {
	t.Helper()
	f := &fakeWorld{now: epoch, exists: true}
	f.server = state.Server{SystemID: "7", Version: 150018, Timeline: 1, FlushLSN: 0x8000000, SegmentSize: wal.DefaultSegmentSize}
	f.cluster = state.Cluster{
		Name: "orders", SystemID: "7", Major: 15, SegmentSize: wal.DefaultSegmentSize,
		Backups: []state.Backup{
			{ID: "old", State: state.BackupCommitted, Timeline: 1, Redo: 0x1000000, Stop: 0x2000000, Began: epoch.Add(-48 * time.Hour)},
			{ID: "new", State: state.BackupCommitted, Timeline: 1, Redo: 0x4000000, Stop: 0x5000000, Began: epoch.Add(-24 * time.Hour)},
		},
		WAL: []state.WALRange{{Range: wal.Range{Timeline: 1, From: 0x1000000, To: 0x8000000}}},
	}
	return f
}

func (f *fakeWorld) options() Options {
	return Options{Auto: []plan.Impact{plan.Safe, plan.Declared}, Now: func() time.Time { return f.now }, Who: "tester@here", Host: "here"}
}

// lostSlot gives the server a lost slot of ours.
func (f *fakeWorld) lostSlot() {
	f.server.Slots = []state.Slot{{Name: "pgkeep_orders", Physical: true, WALStatus: state.SlotLost}}
}

func (f *fakeWorld) goodSlot() {
	f.server.Slots = []state.Slot{{Name: "pgkeep_orders", Physical: true, RestartLSN: 0x3000000, WALStatus: state.SlotReserved}}
}

// counted gives how often each call was made.
func counted(names []string) map[string]int {
	n := map[string]int{}
	for _, name := range names {
		n[name]++
	}
	return maps.Clone(n)
}
