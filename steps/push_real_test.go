package steps

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/spool"
	"github.com/pgkeep/pgkeep/steps/receive"
)

// TestAPushWaitsForAnother has another push take the spool between the moment it was looked at and the moment that it
// would be emptied. The signal that the holder of the lock gets is taken here, as a drain does: the test runs alone.
func TestAPushWaitsForAnother(t *testing.T) {
	s := newSite(t, pgtest.Start(t, pgtest.Options{SegmentMB: 1}))
	s.converge()
	s.pg.Exec(t, "create table t as select generate_series(1, 20000) as n")
	s.recv.endAll()
	s.pg.Stop(t, "immediate")
	defer s.pg.StartAgain(t)
	dir := s.spec.Servers[0].Receiver.Spool
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, receive.PushSignal)
	defer signal.Stop(asked)
	pushed := make(chan struct{})
	var other sync.WaitGroup
	take := sync.OnceFunc(func() {
		claim, err := spool.Take(dir, "orders", spool.Holder{PID: os.Getpid(), Who: "another push", Since: time.Now()})
		if err != nil {
			t.Errorf("take the spool first: %v", err)
			return
		}
		other.Go(func() {
			select { // the holder's last report may already say that all is archived: then nobody asks
			case <-asked:
			case <-pushed:
			}
			if err := claim.Release(); err != nil {
				t.Error(err)
			}
		})
	})
	bind := s.bind
	bind.Receivers = nil
	bind.Now = func() time.Time { take(); return s.now() } // asked for just before the spool is taken
	ctx, done := context.WithTimeout(t.Context(), 10*time.Minute)
	defer done()
	p, err := PushWAL(ctx, s.spec, "orders", bind)
	close(pushed)
	if err != nil || p.Held == 0 || p.Held < p.Wanted {
		t.Errorf("pushed %+v, %v", p, err)
	}
	other.Wait()
}
