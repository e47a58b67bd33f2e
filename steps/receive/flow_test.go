package receive

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/spool"
	"github.com/pgkeep/pgkeep/state/wal"
)

// script is a stream whose messages come at set times after its start. When they are at an end it is silent.
type script struct {
	messages []timed
	sent     []postgres.Status
	sentAt   []time.Time
	answer   bool      // a request for a reply is answered, as a server that is up does
	deaf     time.Time // until then it is not
	asked    bool
	end      wal.LSN
}

type timed struct {
	at time.Time
	m  postgres.Message
}

func (s *script) Next(ctx context.Context, deadline time.Time) (postgres.Message, error) {
	if s.asked && s.answer && !time.Now().Before(s.deaf) {
		s.asked = false
		return postgres.Message{Keepalive: true, ServerEnd: s.end, ServerTime: time.Now()}, nil
	}
	if len(s.messages) > 0 && !s.messages[0].at.After(deadline) {
		if err := pause(ctx, time.Until(s.messages[0].at)); err != nil {
			return postgres.Message{}, err
		}
		m := s.messages[0].m
		s.messages = s.messages[1:]
		s.end = m.ServerEnd
		return m, nil
	}
	if err := pause(ctx, time.Until(deadline)); err != nil {
		return postgres.Message{}, err
	}
	return postgres.Message{}, postgres.ErrIdle
}

func (s *script) Buffered() bool {
	return len(s.messages) > 0 && !s.messages[0].at.After(time.Now())
}

func (s *script) SendStatus(_ context.Context, st postgres.Status) error {
	s.sent, s.sentAt = append(s.sent, st), append(s.sentAt, time.Now())
	s.asked = s.asked || st.RequestReply
	return nil
}

func (s *script) Close() error { return nil }

// scripted makes a flow over a script, with one archive that never answers.
func scripted(t *testing.T, st *script, change func(*Options)) *flow {
	t.Helper()
	o := Options{
		Server: "orders", Slot: slotName, Spool: filepath.Join(t.TempDir(), "spool"), SpoolLimit: spool.Limit{Percent: 100}, AllowVolatileSpool: true,
		Archives: []Archive{newMemoryArchive(mib).archive("main")},
	}
	change(&o)
	o = o.withDefaults()
	sp, err := spool.Open(o.Spool, spool.Holder{}, spool.Options{Name: "orders", SystemID: "77", SegmentSize: mib, Limit: o.SpoolLimit, AllowVolatile: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sp.Close() })
	s := newSession(o, ClusterIdentity{Name: "orders", SystemID: "77", SegmentSize: mib}, sp, newReporter(o, nil))
	w, err := sp.Writer(1, mib, func(seg wal.Segment) { s.found(job{segment: seg}) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	now := time.Now()
	return &flow{s: s, st: st, w: w, timeline: 1, lease: newLease(time.Minute, now), heard: now, synced: now, segmentAt: now}
}

func TestFlowInTime(t *testing.T) {
	data := func(at wal.LSN, n int) postgres.Message {
		return postgres.Message{Start: at, Data: make([]byte, n), ServerEnd: at + wal.LSN(n)}
	}
	ask := func(end wal.LSN) postgres.Message {
		return postgres.Message{Keepalive: true, ReplyRequested: true, ServerEnd: end}
	}
	in := func(d time.Duration, m postgres.Message) timed { return timed{at: time.Now().Add(d), m: m} }

	t.Run("a silent server is dead after the timeout, not before", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			st := &script{}
			f := scripted(t, st, func(o *Options) { o.Timeout = 12 * time.Second })
			began := time.Now()
			err := f.run(t.Context())
			if state.CodeOf(err) != state.CodeUnreachable || time.Since(began) != 12*time.Second {
				t.Errorf("after %s: %v", time.Since(began), err)
			}
			asks := 0
			for _, s := range st.sent {
				if s.RequestReply {
					asks++
				}
			}
			if asks < 2 || asks > 5 {
				t.Errorf("it asked %d times in 12 s", asks)
			}
		})
	})

	t.Run("a server that answers lives for ever", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := scripted(t, &script{answer: true}, func(o *Options) {})
			ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
			defer cancel()
			if err := f.run(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("it ended with %v", err)
			}
		})
	})

	t.Run("what came is flushed and told when nothing more waits", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			st := &script{messages: []timed{in(time.Second/2, data(mib, 100)), in(time.Second/2, data(mib+100, 100))}}
			f := scripted(t, st, func(o *Options) {})
			ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
			defer cancel()
			began := time.Now()
			_ = f.run(ctx)
			if len(st.sent) != 2 || st.sent[1].Flushed != mib+200 || !st.sentAt[1].Equal(began.Add(time.Second/2)) {
				t.Errorf("sent %+v at %v, began %v", st.sent, st.sentAt, began)
			}
		})
	})

	t.Run("under load it is flushed and told every second", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			st := &script{}
			busy := &alwaysBuffered{script: st}
			for i := range 500 {
				st.messages = append(st.messages, in(time.Duration(i)*10*time.Millisecond, data(wal.LSN(mib+i*100), 100)))
			}
			f := scripted(t, st, func(o *Options) {})
			f.st = busy
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			_ = f.run(ctx)
			flushes := 0
			for i := 1; i < len(st.sent); i++ {
				if st.sent[i].Flushed > st.sent[i-1].Flushed {
					flushes++
				}
			}
			if flushes < 4 || flushes > 6 {
				t.Errorf("%d flushes in 5 s of load", flushes)
			}
		})
	})

	t.Run("a reply that is asked for comes at once with all that came", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			st := &script{messages: []timed{in(0, data(mib, 300)), in(0, ask(mib+300))}}
			f := scripted(t, st, func(o *Options) {})
			f.st = &alwaysBuffered{script: st}
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			defer cancel()
			_ = f.run(ctx)
			if last := st.sent[len(st.sent)-1]; last.Flushed != mib+300 {
				t.Errorf("sent %+v", st.sent)
			}
		})
	})

	t.Run("a server that wants to end and waits for dead repositories is let go", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			st := &asksAgain{script: script{messages: []timed{in(0, data(mib, 300))}}, end: mib + 300}
			f := scripted(t, &st.script, func(o *Options) { o.Acknowledge = Repository })
			f.st = st
			began := time.Now()
			err := f.run(t.Context())
			if !errors.Is(err, errLetGo) || time.Since(began) > 2*time.Second {
				t.Errorf("after %s: %v", time.Since(began), err)
			}
			if len(st.sent) > 5 {
				t.Errorf("%d keepalives were answered in a loop", len(st.sent))
			}
			for _, s := range st.sent {
				if s.Flushed != 0 {
					t.Errorf("acknowledged %s, which no repository holds", s.Flushed)
				}
			}
		})
	})

	t.Run("repositories that take it in time satisfy a server that wants to end", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			st := &script{messages: []timed{in(0, data(mib, 300)), in(time.Millisecond, ask(mib+300))}}
			f := scripted(t, st, func(o *Options) { o.Acknowledge = Repository })
			go func() { time.Sleep(200 * time.Millisecond); f.s.tail.reached(0, 1, mib+300) }()
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			_ = f.run(ctx)
			if last := st.sent[len(st.sent)-1]; last.Flushed != mib+300 {
				t.Errorf("sent %+v", st.sent)
			}
			if _, seg, _, demanded := f.s.tail.get(); demanded != mib+300 {
				t.Errorf("of %v only %s was asked to be pushed at once", seg, demanded)
			}
		})
	})

	t.Run("the slot is not taken back while the repositories are behind it", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			st := &script{messages: []timed{in(0, data(mib, 300)), in(4*time.Second, data(mib+300, 100))}}
			f := scripted(t, st, func(o *Options) { o.Acknowledge = Repository })
			f.least = mib + 200
			f.s.tail.reached(0, 1, mib+100)
			go func() { time.Sleep(2 * time.Second); f.s.tail.reached(0, 1, mib+300) }()
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			_ = f.run(ctx)
			for _, s := range st.sent {
				if s.Flushed != 0 && s.Flushed < f.least {
					t.Errorf("told %s, the slot stood at %s", s.Flushed, f.least)
				}
			}
			if last := st.sent[len(st.sent)-1]; last.Flushed != mib+300 {
				t.Errorf("sent %+v", st.sent)
			}
		})
	})

	t.Run("a walsender that is catching up proves no silence", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			first, second := data(mib, 300), data(mib+300, 100)
			first.ServerTime, second.ServerTime = time.Now(), time.Now().Add(4*time.Second)
			f := scripted(t, &script{messages: []timed{in(0, first), in(4*time.Second, second)}}, func(o *Options) {})
			f.flushAt = mib + 400
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			_ = f.run(ctx)
			if at := f.s.report.snapshot().CaughtUpAt; !at.IsZero() {
				t.Errorf("caught up at %s with %s, while the server had WAL up to %s", at, f.w.Flushed(), f.flushAt)
			}
			ctx, cancel = context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			_ = f.run(ctx)
			if at := f.s.report.snapshot().CaughtUpAt; !at.Equal(first.ServerTime) {
				t.Errorf("caught up at %s; what the second message proves is true of the first one's time, %s", at, first.ServerTime)
			}
		})
	})

	t.Run("far behind it is flushed every second all the same", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			st := &script{}
			for i := range 400 { // nothing more waits to be read between two messages, but the server has far more
				m := data(wal.LSN(mib+i*100), 100)
				m.ServerEnd += farBehind
				st.messages = append(st.messages, in(time.Duration(i)*10*time.Millisecond, m))
			}
			f := scripted(t, st, func(o *Options) {})
			ctx, cancel := context.WithTimeout(t.Context(), 3900*time.Millisecond)
			defer cancel()
			_ = f.run(ctx)
			var at []time.Time
			for i := 1; i < len(st.sent); i++ {
				if st.sent[i].Flushed > st.sent[i-1].Flushed {
					at = append(at, st.sentAt[i])
				}
			}
			if len(at) < 3 || len(at) > 5 {
				t.Errorf("flushed %d times in 3.9 s, far behind: %v", len(at), at)
			}
			for i := 1; i < len(at); i++ {
				if d := at[i].Sub(at[i-1]); d > syncEvery+20*time.Millisecond {
					t.Errorf("%s between two flushes", d)
				}
			}
		})
	})

	t.Run("a segment that stays open for an hour is ended, once an hour", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			switches := &switcher{}
			st := &script{answer: true, messages: []timed{in(0, data(mib, 300))}}
			f := scripted(t, st, func(o *Options) {
				o.Control = func(context.Context) (Control, error) { return switches, nil }
			})
			ctx, cancel := context.WithTimeout(t.Context(), 190*time.Minute)
			defer cancel()
			_ = f.run(ctx)
			if switches.n != 3 {
				t.Errorf("%d switches in 190 minutes", switches.n)
			}
		})
	})

	t.Run("a server that is slow to switch waits for no reply", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			st := &script{messages: []timed{in(0, data(mib, 300)), in(10*time.Minute+time.Second, data(mib+300, 300)), in(10*time.Minute+time.Second, ask(mib+600))}}
			st.answer = true
			f := scripted(t, st, func(o *Options) {
				o.SwitchEvery = 10 * time.Minute
				o.Control = func(ctx context.Context) (Control, error) { <-ctx.Done(); return nil, ctx.Err() }
			})
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute+5*time.Second)
			defer cancel()
			_ = f.run(ctx)
			if f.switched != nil {
				t.Error("the question outlived the stream")
			}
			for i, s := range st.sent {
				if s.Flushed == mib+600 {
					if d := st.sentAt[i].Sub(began) - 10*time.Minute - time.Second; d != 0 {
						t.Errorf("the reply came %s after it was asked for", d)
					}
					return
				}
			}
			t.Errorf("no reply: %+v", st.sent)
		})
	})

	t.Run("a role that may not switch is asked once", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			switches := &switcher{err: &state.Error{Code: state.CodePrivilege, Text: "permission denied"}}
			f := scripted(t, &script{answer: true, messages: []timed{in(0, data(mib, 300))}}, func(o *Options) {
				o.Control = func(context.Context) (Control, error) { return switches, nil }
			})
			ctx, cancel := context.WithTimeout(t.Context(), 190*time.Minute)
			defer cancel()
			_ = f.run(ctx)
			if switches.n != 1 {
				t.Errorf("%d tries", switches.n)
			}
		})
	})
}

// alwaysBuffered is a stream under load.
type alwaysBuffered struct{ *script }

func (alwaysBuffered) Buffered() bool { return true }

// asksAgain is a server in shutdown: it asks for a reply at once after each answer.
type asksAgain struct {
	script
	end     wal.LSN
	replies int
}

func (s *asksAgain) Next(ctx context.Context, deadline time.Time) (postgres.Message, error) {
	if len(s.messages) == 0 && len(s.sent) > s.replies {
		s.replies = len(s.sent)
		return postgres.Message{Keepalive: true, ReplyRequested: true, ServerEnd: s.end}, nil
	}
	return s.script.Next(ctx, deadline)
}

// switcher counts what endIdleSegment asks for.
type switcher struct {
	Control
	n   int
	err error
}

func (s *switcher) SwitchWAL(context.Context) (wal.LSN, error) { s.n++; return 0, s.err }
func (s *switcher) Close() error                               { return nil }
func (s *switcher) Identify(context.Context) (state.Server, error) {
	return state.Server{SystemID: "77"}, nil
}

func TestBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackoff()
		began := time.Now()
		for range 30 {
			if err := b.wait(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if d := time.Since(began); d < 24*time.Second || d > 5*time.Minute {
			t.Errorf("30 tries took %s: more than one a second, or too slow to go on by itself", d)
		}
		b.worked()
		now := time.Now()
		_ = b.wait(t.Context())
		if time.Since(now) != 0 {
			t.Error("after a connection that worked the next one is not made at once")
		}
	})
}
