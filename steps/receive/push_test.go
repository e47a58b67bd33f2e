package receive

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/host/hosttest"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/spool"
	"github.com/pgkeep/pgkeep/state/wal"
)

// TestPushesWhenAsked does not run beside others: the signal reaches every receiver of the process.
func TestPushesWhenAsked(t *testing.T) {
	s := startServer(t, pgtest.Options{SegmentMB: 1})
	r := newRig(t, s, mib, 2)
	r.o.PushEvery = time.Hour
	stop := r.start()
	busy(t, s, "zero")
	at := flushed(t, s)
	await(t, "the spool has it", func() bool { return r.look().Receiver.Flushed >= at })
	if err := syscall.Kill(os.Getpid(), PushSignal); err != nil { // the first push comes unasked, or by this
		t.Fatal(err)
	}
	r.awaitArchived(at)
	busy(t, s, "one")
	end := flushed(t, s)
	await(t, "the spool has it", func() bool { return r.look().Receiver.Flushed >= end })
	if held := r.archives[0].end().To; held >= end {
		t.Fatalf("archived up to %s unasked", held)
	}
	if err := syscall.Kill(os.Getpid(), PushSignal); err != nil {
		t.Fatal(err)
	}
	r.awaitArchived(end)
	await(t, "the report says so", func() bool { return r.look().Receiver.Archived >= end })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

// TestDrain has a receiver end before its repositories took anything, and the server go for good.
func TestDrain(t *testing.T) {
	t.Parallel()
	s := startServer(t, pgtest.Options{SegmentMB: 1})
	r := newRig(t, s, mib, 2)
	stop := r.start()
	busy(t, s, "archived")
	r.awaitArchived(flushed(t, s))
	for _, a := range r.archives {
		a.breakWith(errors.New("away"))
	}
	busy(t, s, "spooled")
	end := flushed(t, s)
	await(t, "the spool has it", func() bool { return r.look().Receiver.Flushed >= end })
	s.Stop(t, "immediate")
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if held, err := r.drain(200 * time.Millisecond); err == nil || held >= end {
		t.Errorf("with no repository that answers it drained up to %s, %v", held, err)
	}
	for _, a := range r.archives {
		a.breakWith(nil)
	}
	if held, err := r.drain(patience); err != nil || held < end {
		t.Errorf("drained up to %s of %s, %v", held, end, err)
	}
	for i, a := range r.archives {
		if to := a.end().To; to < end {
			t.Errorf("archive %d ends at %s, before %s", i, to, end)
		}
	}
	f := r.look()
	if f.Receiver.Running || f.Receiver.Archived < end || f.Receiver.Flushed < end || len(f.Spool.Pending) > 0 {
		t.Errorf("after it: %+v, pending %v", f.Receiver, f.Spool.Pending)
	}
	r.compare(s)
}

// TestDrainOfALongRecord: a record of several segments has come, some of which are archived or none, when the server is gone. The segment
// that it ends in is proven by its beginning, which the spool still has.
func TestDrainOfALongRecord(t *testing.T) {
	for name, archived := range map[string]bool{"archived": true, "not archived": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t, pgtest.Options{SegmentMB: 1, Settings: map[string]string{"wal_level": "logical"}})
			r := newRig(t, s, mib, 1)
			r.o.PushEvery = time.Hour
			stop := r.start()
			busy(t, s, "before")
			r.awaitArchived(flushed(t, s) / mib * mib)
			if !archived {
				r.archives[0].breakWith(errors.New("away"))
			}
			s.SQL(t, "select pg_logical_emit_message(false, 'x', repeat('y', 2500000))")
			end, err := wal.ParseLSN(s.SQL(t, "select pg_current_wal_insert_lsn()"))
			if err != nil {
				t.Fatal(err)
			}
			await(t, "the spool has it", func() bool { return r.look().Receiver.Flushed >= end })
			if archived {
				await(t, "its whole segments are archived", func() bool { return r.archives[0].end().To >= end/mib*mib })
				r.archives[0].breakWith(errors.New("away")) // or the last words would push the rest
			}
			s.Stop(t, "immediate")
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			r.archives[0].breakWith(nil)
			if held, err := r.drain(patience); err != nil || held < end || r.archives[0].end().To < end {
				t.Errorf("drained up to %s of %s, %v", held, end, err)
			}
		})
	}
}

// TestDrainSaysWhatItCannotCheck: the segments are gone in which a record began that the unfinished one goes on with, whether or not others
// follow it.
func TestDrainSaysWhatItCannotCheck(t *testing.T) {
	for name, more := range map[string]bool{"the last record": false, "others follow": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t, pgtest.Options{SegmentMB: 1, Settings: map[string]string{"wal_level": "logical"}})
			r := newRig(t, s, mib, 1)
			r.o.PushEvery = time.Hour
			stop := r.start()
			s.SQL(t, "select pg_logical_emit_message(false, 'x', repeat('y', 2500000))")
			if more {
				busy(t, s, "after")
			}
			end, err := wal.ParseLSN(s.SQL(t, "select pg_current_wal_insert_lsn()"))
			if err != nil {
				t.Fatal(err)
			}
			await(t, "the spool has it", func() bool { return r.look().Receiver.Flushed >= end })
			await(t, "the whole segments are archived", func() bool { return r.archives[0].end().To >= end/mib*mib })
			r.archives[0].breakWith(errors.New("away"))
			s.Stop(t, "immediate")
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			r.archives[0].breakWith(nil)
			done, err := filepath.Glob(filepath.Join(r.o.Spool, "orders", "*", "*.done"))
			if err != nil || len(done) == 0 {
				t.Fatalf("%v, %v", done, err)
			}
			for _, path := range done {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			}
			held, err := r.drain(patience)
			if err == nil || held >= end || !strings.Contains(err.Error(), "cannot be checked") || !strings.Contains(err.Error(), "WAL up to "+end.String()) {
				t.Errorf("drained up to %s of %s, %v", held, end, err)
			}
			r.refuseShorter(end)
		})
	}
}

// refuseShorter fails the test when what a repository has of the spool's unfinished segment would take its place although it ends before l.
func (r *rig) refuseShorter(l wal.LSN) {
	r.t.Helper()
	o := r.o.withDefaults()
	c, _, err := o.knownCluster()
	if err != nil {
		r.t.Fatal(err)
	}
	claim, err := spool.Take(o.Spool, o.Server, o.Holder)
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() {
		if err := claim.Release(); err != nil {
			r.t.Error(err)
		}
	}()
	sp, err := claim.Open(spool.Options{Name: o.Server, SystemID: c.SystemID, SegmentSize: c.SegmentSize, AllowVolatile: true})
	if err != nil {
		r.t.Fatal(err)
	}
	s := newSession(o, c, sp, newReporter(o, claim))
	start := c.SegmentSize.Floor(l)
	for upTo, want := range map[wal.LSN]bool{start + 8192: false, l: false, l + 8: true} {
		if got := s.isFurther(wal.Range{Timeline: 1, From: start, To: upTo}); got != want {
			r.t.Errorf("what ends at %s is further than what ends at %s: %v", upTo, l, got)
		}
	}
}

// TestALongRecordOnASmallDisk: its segments are archived at once, but all of them would not fit. The stream goes on, and nothing is lost.
func TestALongRecordOnASmallDisk(t *testing.T) {
	for _, full := range []Full{Wait, Gap} {
		t.Run(string(full), func(t *testing.T) {
			t.Parallel()
			s := startServer(t, pgtest.Options{SegmentMB: 1, Settings: map[string]string{"wal_level": "logical"}})
			r := newRig(t, s, mib, 1)
			r.o.Spool, r.o.SpoolLimit, r.o.OnSpoolFull = hosttest.Tmpfs(t, 8<<10), spool.Limit{}, full
			stop := r.start()
			busy(t, s, "before")
			r.awaitArchived(flushed(t, s))
			s.SQL(t, "select pg_logical_emit_message(false, 'x', repeat('y', 20000000))")
			busy(t, s, "after")
			r.awaitArchived(flushed(t, s))
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			r.compare(s)
		})
	}
}

func TestDrainLeavesARunningReceiverAlone(t *testing.T) {
	t.Parallel()
	s := startServer(t, pgtest.Options{SegmentMB: 1})
	r := newRig(t, s, mib, 1)
	if held, err := r.drain(time.Second); held != 0 || err != nil {
		t.Errorf("a spool that is not there: %s, %v", held, err)
	}
	stop := r.start()
	busy(t, s, "one")
	r.awaitArchived(flushed(t, s))
	if _, err := r.drain(time.Second); state.CodeOf(err) != state.CodeLocked {
		t.Errorf("a spool that a receiver holds: %v", err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

func (r *rig) drain(limit time.Duration) (wal.LSN, error) {
	ctx, done := context.WithTimeout(context.Background(), limit)
	defer done()
	return Drain(ctx, r.o)
}

// TestDrainForgetsAFalseReport has the last report say that more is archived than is.
func TestDrainForgetsAFalseReport(t *testing.T) {
	t.Parallel()
	s := startServer(t, pgtest.Options{SegmentMB: 1})
	r := newRig(t, s, mib, 2)
	stop := r.start()
	busy(t, s, "one")
	r.awaitArchived(flushed(t, s))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	truth := min(r.archives[0].end().To, r.archives[1].end().To)
	lie := func() {
		t.Helper()
		claim, err := spool.Take(r.o.Spool, r.o.Server, r.o.Holder)
		if err != nil {
			t.Fatal(err)
		}
		last := r.look().Receiver
		last.Archived = truth + 64*mib
		if err := errors.Join(claim.Report(last), claim.Release()); err != nil {
			t.Fatal(err)
		}
	}
	lie()
	if _, err := r.drain(patience); err != nil {
		t.Fatal(err)
	}
	if told := r.look().Receiver.Archived; told != truth {
		t.Errorf("the report says %s; the repositories hold WAL up to %s", told, truth)
	}
	lie()
	r.archives[1].breakWith(errors.New("away"))
	if _, err := r.drain(200 * time.Millisecond); err == nil {
		t.Error("it succeeded with a repository away")
	}
	if told := r.look().Receiver.Archived; told > truth {
		t.Errorf("with a repository away the report says %s; they hold WAL up to %s", told, truth)
	}
	lie()
	r.archives[1].breakWith(nil)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, _ = Drain(ctx, r.o)
	if told := r.look().Receiver.Archived; told != truth {
		t.Errorf("interrupted, it says %s; the repositories hold WAL up to %s", told, truth)
	}
}
