package receive

import (
	"context"
	"errors"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
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
	if held, err := r.drain(30 * time.Second); err != nil || held < end {
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
