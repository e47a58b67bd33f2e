package steps

import (
	"context"
	"sync"
	"time"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// fragile wraps a world so that any of its calls can be the last, before its effect or after it.
func fragile(f *fakeWorld, w World) World {
	return World{
		Servers: fragileServers{f, w.Servers}, Repositories: fragileRepositories{f, w.Repositories}, Receivers: fragileReceivers{w.Receivers, f},
		Backups: fragileBackups{f, w.Backups}, Recoveries: fragileRecoveries{f, w.Recoveries}, Spools: fragileSpools{f, w.Spools},
		Copies: fragileCopies{f, w.Copies}, Verifications: w.Verifications, Locks: fragileLocks{f, w.Locks}, Journal: fragileJournal{f, w.Journal},
	}
}

func call[T any](f *fakeWorld, name string, do func() (T, error)) (T, error) {
	var v T
	err := f.do(name, func() (err error) { v, err = do(); return err })
	return v, err
}

type fragileServers struct {
	f *fakeWorld
	Servers
}

func (x fragileServers) Connect(ctx context.Context, server string) (Server, error) {
	s, err := call(x.f, "connect", func() (Server, error) { return x.Servers.Connect(ctx, server) })
	if err != nil {
		if s != nil {
			_ = s.Close() // as the kernel does for a dead process
		}
		return nil, err
	}
	return fragileServer{x.f, s}, nil
}

func (x fragileServers) History(ctx context.Context, server string, t wal.Timeline) ([]byte, error) {
	return call(x.f, "history", func() ([]byte, error) { return x.Servers.History(ctx, server, t) })
}

func (x fragileServers) Serves(ctx context.Context, server string, t wal.Timeline, from wal.LSN) (bool, error) {
	return call(x.f, "serves", func() (bool, error) { return x.Servers.Serves(ctx, server, t, from) })
}

type fragileServer struct {
	f *fakeWorld
	Server
}

// DropSlot remembers a slot that was dropped although it held WAL.
func (x fragileServer) DropSlot(ctx context.Context, name string) error {
	return x.f.do("drop slot", func() error {
		if slot, err := x.Server.Slot(ctx, name); err != nil || holdsWAL(slot) {
			x.f.dropped = append(x.f.dropped, name)
		}
		return x.Server.DropSlot(ctx, name)
	})
}

func (x fragileServer) SwitchWAL(ctx context.Context) (wal.LSN, error) {
	return call(x.f, "switch", func() (wal.LSN, error) { return x.Server.SwitchWAL(ctx) })
}

func (x fragileServer) Facts(ctx context.Context) (state.Server, error) {
	return call(x.f, "facts", func() (state.Server, error) { return x.Server.Facts(ctx) })
}

func (x fragileServer) Slot(ctx context.Context, name string) (*state.Slot, error) {
	return call(x.f, "slot", func() (*state.Slot, error) { return x.Server.Slot(ctx, name) })
}

func (x fragileServer) CreateSlot(ctx context.Context, name string) error {
	return x.f.do("create slot", func() error { return x.Server.CreateSlot(ctx, name) })
}

func (x fragileServer) TryLock(ctx context.Context, name string) (func(), error) {
	return call(x.f, "lock", func() (func(), error) { return x.Server.TryLock(ctx, name) })
}

type fragileRepositories struct {
	f *fakeWorld
	Repositories
}

func (x fragileRepositories) Identify(ctx context.Context, label string) (string, error) {
	return call(x.f, "identify", func() (string, error) { return x.Repositories.Identify(ctx, label) })
}

func (x fragileRepositories) Create(ctx context.Context, label string) error {
	return x.f.do("create repository", func() error { return x.Repositories.Create(ctx, label) })
}

func (x fragileRepositories) Cluster(ctx context.Context, label, server, systemID string) (Cluster, error) {
	c, err := call(x.f, "cluster", func() (Cluster, error) { return x.Repositories.Cluster(ctx, label, server, systemID) })
	return fragileCluster{x.f, c}, err
}

type fragileCluster struct {
	f *fakeWorld
	Cluster
}

func (x fragileCluster) Backups(ctx context.Context) ([]state.Backup, error) {
	return call(x.f, "backups", func() ([]state.Backup, error) { return x.Cluster.Backups(ctx) })
}

func (x fragileCluster) AbortBackup(ctx context.Context, id, why string, now time.Time) (state.BackupState, error) {
	return call(x.f, "abort", func() (state.BackupState, error) { return x.Cluster.AbortBackup(ctx, id, why, now) })
}

func (x fragileCluster) RemoveAborted(ctx context.Context, id string) (int64, error) {
	return call(x.f, "remove", func() (int64, error) { return x.Cluster.RemoveAborted(ctx, id) })
}

func (x fragileCluster) RemoveCut(ctx context.Context, id string, now time.Time) (int64, error) {
	return call(x.f, "remove", func() (int64, error) { return x.Cluster.RemoveCut(ctx, id, now) })
}

func (x fragileCluster) Tomb(ctx context.Context, id string, now time.Time) error {
	return x.f.do("tomb", func() error { return x.Cluster.Tomb(ctx, id, now) })
}

func (x fragileCluster) Sweep(ctx context.Context, now time.Time) (int64, error) {
	return call(x.f, "sweep", func() (int64, error) { return x.Cluster.Sweep(ctx, now) })
}

func (x fragileCluster) WALRanges(ctx context.Context) ([]state.WALRange, error) {
	return call(x.f, "ranges", func() ([]state.WALRange, error) { return x.Cluster.WALRanges(ctx) })
}

func (x fragileCluster) DeleteWAL(ctx context.Context, r []wal.Range) (int64, error) {
	return call(x.f, "delete WAL", func() (int64, error) { return x.Cluster.DeleteWAL(ctx, r) })
}

func (x fragileCluster) Gaps(ctx context.Context) ([]state.Gap, error) {
	return call(x.f, "gaps", func() ([]state.Gap, error) { return x.Cluster.Gaps(ctx) })
}

func (x fragileCluster) RecordGap(ctx context.Context, g state.Gap) error {
	return x.f.do("record gap", func() error { return x.Cluster.RecordGap(ctx, g) })
}

func (x fragileCluster) Histories(ctx context.Context) ([]wal.History, error) {
	return call(x.f, "histories", func() ([]wal.History, error) { return x.Cluster.Histories(ctx) })
}

func (x fragileCluster) PutHistory(ctx context.Context, t wal.Timeline, content []byte) error {
	return x.f.do("put history", func() error { return x.Cluster.PutHistory(ctx, t, content) })
}

type fragileReceivers struct {
	Receivers
	f *fakeWorld
}

func (x fragileReceivers) Look(ctx context.Context, server string) (state.Receiver, error) {
	return call(x.f, "look", func() (state.Receiver, error) { return x.Receivers.Look(ctx, server) })
}

func (x fragileReceivers) Start(ctx context.Context, server string) error {
	return x.f.do("start", func() error { return x.Receivers.Start(ctx, server) })
}

func (x fragileReceivers) Stop(ctx context.Context, server string) error {
	return x.f.do("stop", func() error { return x.Receivers.Stop(ctx, server) })
}

func (x fragileReceivers) Push(ctx context.Context, server string, upTo wal.LSN) (wal.LSN, error) {
	return call(x.f, "push", func() (wal.LSN, error) { return x.Receivers.Push(ctx, server, upTo) })
}

// amidst makes a moment within a long act that can be the last: the first report of bytes.
func amidst(ctx context.Context, f *fakeWorld, name string, act func(ctx context.Context, cut func()) error) error {
	if err := f.do("begin "+name, func() error { return nil }); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var once sync.Once
	cut := func() {
		once.Do(func() {
			if f.do("amidst "+name, func() error { return nil }) != nil {
				cancel()
			}
		})
	}
	err := act(ctx, cut)
	once.Do(func() {}) // an act without a report has no such moment
	if f.isDead() {
		return errKilled
	}
	return f.do("end "+name, func() error { return err })
}

func (f *fakeWorld) isDead() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.dead
}

type fragileBackups struct {
	f *fakeWorld
	Backups
}

func (x fragileBackups) Take(ctx context.Context, order plan.TakeBackup, report func(done, total int64)) (taken Taken, err error) {
	err = amidst(ctx, x.f, "take", func(ctx context.Context, cut func()) (err error) {
		taken, err = x.Backups.Take(ctx, order, func(done, total int64) { cut(); report(done, total) })
		return err
	})
	return taken, err
}

type fragileRecoveries struct {
	f *fakeWorld
	Recoveries
}

func (x fragileRecoveries) Restored(ctx context.Context, recovery string, r plan.Route) (bool, error) {
	return call(x.f, "restored", func() (bool, error) { return x.Recoveries.Restored(ctx, recovery, r) })
}

func (x fragileRecoveries) Restore(ctx context.Context, a plan.RecoverTo, report func(done, total int64)) (note string, err error) {
	err = amidst(ctx, x.f, "restore", func(ctx context.Context, cut func()) (err error) {
		note, err = x.Recoveries.Restore(ctx, a, func(done, total int64) { cut(); report(done, total) })
		return err
	})
	return note, err
}

func (x fragileRecoveries) Destination(ctx context.Context, r plan.Route) (state.Destination, error) {
	return call(x.f, "destination", func() (state.Destination, error) { return x.Recoveries.Destination(ctx, r) })
}

type fragileSpools struct {
	f *fakeWorld
	Spools
}

func (x fragileSpools) Look(ctx context.Context, server string) (state.Spool, error) {
	return call(x.f, "spool", func() (state.Spool, error) { return x.Spools.Look(ctx, server) })
}

type fragileLocks struct {
	f *fakeWorld
	Locks
}

// TryLock gives the lock back when the process is killed with it, as the kernel does.
func (x fragileLocks) TryLock(ctx context.Context, name string) (func(), error) {
	unlock, err := call(x.f, "lock", func() (func(), error) { return x.Locks.TryLock(ctx, name) })
	if err != nil && unlock != nil {
		unlock()
	}
	return unlock, err
}

type fragileJournal struct {
	f *fakeWorld
	Journal
}

func (x fragileJournal) Write(ctx context.Context, e JournalEntry) error {
	return x.f.do("journal", func() error { return x.Journal.Write(ctx, e) })
}
