package receive

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/wal"
)

func TestLease(t *testing.T) {
	began := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	at := func(d time.Duration) time.Time { return began.Add(d) }
	answer, question := postgres.Message{Keepalive: true}, postgres.Message{Keepalive: true, ReplyRequested: true}

	t.Run("it ends long before the server gives its receiver up", func(t *testing.T) {
		for patience, want := range map[time.Duration]time.Duration{0: maxLease, time.Minute: maxLease, time.Second: time.Second / 2} {
			if l := newLease(patience, began); !l.until.Equal(at(want)) {
				t.Errorf("wal_sender_timeout %s: until %s", patience, l.until.Sub(began))
			}
		}
	})
	t.Run("each answer counts from its own question", func(t *testing.T) {
		l := newLease(time.Second, began)
		l.ask(at(time.Minute))
		l.ask(at(time.Hour))
		if !l.take(answer) || !l.until.Equal(at(time.Minute+time.Second/2)) {
			t.Errorf("after the first answer until %s", l.until.Sub(began))
		}
		if !l.take(answer) || !l.until.Equal(at(time.Hour+time.Second/2)) {
			t.Errorf("after the second until %s", l.until.Sub(began))
		}
	})
	t.Run("what is no answer prolongs nothing", func(t *testing.T) {
		l := newLease(time.Second, began)
		if l.take(answer) {
			t.Error("an answer to no question")
		}
		l.ask(at(time.Minute))
		if l.take(question) || l.take(postgres.Message{Data: []byte("wal")}) || !l.until.Equal(at(time.Second/2)) {
			t.Errorf("until %s", l.until.Sub(began))
		}
	})
}

// A receiver that was stopped finds WAL in its sockets when it wakes up, and whatever keepalives came before the server gave
// it up. Nothing of that lets its unfinished segment go to the archives; an answer to what it asks now does.
func TestLeaseOfOneThatSlept(t *testing.T) {
	data := postgres.Message{Start: mib, Data: make([]byte, 100), ServerEnd: mib + 100}
	question := postgres.Message{Keepalive: true, ReplyRequested: true, ServerEnd: mib + 100}
	for _, zombie := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			woke := began.Add(time.Minute)
			st := &script{answer: !zombie, deaf: woke, messages: []timed{{woke, data}, {woke, question}}}
			f := scripted(t, st, func(o *Options) { o.Timeout = time.Hour })
			f.lease = newLease(time.Second, began)
			f.s.tail.lease(f.lease.until)
			f.heard = woke // it asks nothing while it sleeps
			ctx, cancel := context.WithDeadline(t.Context(), woke.Add(time.Second))
			defer cancel()
			_ = f.run(ctx)
			if _, seg, upTo, _ := f.s.tail.get(); upTo != mib+100 || seg != wal.SegmentSize(mib).SegmentAt(1, mib) {
				t.Fatalf("the tail is %v up to %s", seg, upTo)
			}
			if f.s.tail.isParked() != zombie {
				t.Errorf("zombie %v: parked %v", zombie, f.s.tail.isParked())
			}
		})
	}
}

// A machine that sleeps, or is paused and set right again, wakes up with a lease that has not run by the clock that slept too.
func TestLeaseOfAMachineThatSlept(t *testing.T) {
	for wall, parked := range map[time.Duration]bool{-time.Hour: true, 0: false, time.Hour: false} { // set back: the other clock decides
		tail := newTail(1)
		tail.lease(time.Now().Add(time.Minute))
		tail.byWall = tail.byWall.Add(wall)
		if tail.isParked() != parked {
			t.Errorf("it ends %s from the minute by the wall clock, and parked is %v", wall, !parked)
		}
		tail.lease(time.Now().Add(time.Minute))
		if tail.isParked() {
			t.Error("the next answer gives no lease")
		}
	}
	tail := newTail(1)
	tail.lease(time.Now().Add(-time.Second))
	if tail.byWall = time.Now().Add(time.Hour); !tail.isParked() {
		t.Error("the wall clock was set back, and prolongs a lease")
	}
}

// granted is a connection that gives a stream.
type granted struct{ connection }

func (granted) SenderTimeout(context.Context) (time.Duration, error) { return time.Minute, nil }

func (granted) Stream(context.Context, postgres.StreamOptions) (stream, error) { return &script{}, nil }

// A stream that cannot be written to the spool leaves no lease behind: until the spool is mended, what is durable in it goes to
// the archives as it does while no server answers.
func TestNoLeaseWithoutAStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := scripted(t, &script{}, func(*Options) {})
		if _, err := f.s.follow(t.Context(), granted{}, begin{timeline: 1, from: mib + 100}); err == nil {
			t.Fatal("the spool holds nothing up to there, and took it")
		}
		time.Sleep(2 * maxLease)
		if f.s.tail.isParked() {
			t.Error("the unfinished segment waits for a lease that nothing renews")
		}
	})
}
