package receive

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgkeep/pgkeep/state/postgres"
)

// TestSilenceIsProven has a walsender tell, in one stream, ends that were true when it knew them and no longer when it
// told them: what is reported as the time of catching up must never be later than what was flushed by then allows.
func TestSilenceIsProven(t *testing.T) {
	word := func(d time.Duration, n int, keepalive bool) timed {
		m := postgres.Message{Keepalive: keepalive, ServerEnd: mib + 300, ServerTime: time.Now().Add(d)}
		if !keepalive {
			m.Start, m.Data = mib, make([]byte, n)
		}
		return timed{at: time.Now().Add(d), m: m}
	}
	caughtUp := func(t *testing.T, after time.Duration, st *script) time.Time {
		t.Helper()
		f := scripted(t, st, func(*Options) {})
		ctx, cancel := context.WithTimeout(t.Context(), after)
		defer cancel()
		_ = f.run(ctx)
		return f.s.report.snapshot().CaughtUpAt
	}
	t.Run("a keepalive that nobody asked for since the last message", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { // 10 s of commits may lie between: the walsender was held up
			began := time.Now()
			st := &script{messages: []timed{word(0, 300, false), word(100*time.Millisecond, 0, true), word(200*time.Millisecond, 0, true)}}
			st.messages[2].m.ServerTime = began.Add(10 * time.Second)
			if at := caughtUp(t, time.Second, st); at.After(began) {
				t.Errorf("caught up %s after the start, which nothing proves", at.Sub(began))
			}
		})
	})
	t.Run("an answer proves the time of the message before it", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			st := &script{answer: true, messages: []timed{word(0, 300, false)}}
			at := caughtUp(t, 21*time.Second, st)
			if at.Before(began.Add(10*time.Second)) || at.After(began.Add(20*time.Second)) {
				t.Errorf("after 21 s without WAL it is caught up at %s", at.Sub(began))
			}
		})
	})
	t.Run("the first answers prove the start at once", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			st := &script{answer: true, end: mib}
			if at := caughtUp(t, 100*time.Millisecond, st); !at.Equal(began) {
				t.Errorf("caught up at %s", at)
			}
			if len(st.sent) != 2 {
				t.Errorf("%d questions", len(st.sent))
			}
		})
	})
}
