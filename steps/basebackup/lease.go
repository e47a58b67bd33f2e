package basebackup

import (
	"context"
	"time"

	"github.com/pgkeep/pgkeep/state/repository"
)

// leasing renews the lease in one repository while the backup is written, so that other machines see that its writer lives.
type leasing struct {
	lease *repository.Lease
	stop  context.CancelFunc
	done  chan struct{}
}

// releasePatience is how long the end of a backup waits for a repository that hangs to take its lease away.
const releasePatience = 5 * time.Second

// beginLease starts to renew. The first object is put by the time that data comes; a repository that does not take it is
// left to the stream, which tells why.
func (t *taking) beginLease(w *repository.BackupWriter) *leasing {
	ctx, cancel := context.WithCancel(t.ctx)
	l := &leasing{lease: w.Lease(), stop: cancel, done: make(chan struct{})}
	_ = l.lease.Renew(ctx, t.o.Now()) // it only prevents wasted work
	go func() {
		defer close(l.done)
		l.renew(ctx)
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), releasePatience)
		defer cancel()
		_ = l.lease.Release(end) // what stays goes with the backup
	}()
	return l
}

func (l *leasing) renew(ctx context.Context) {
	tick := time.NewTicker(repository.LeaseRenewal)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			_ = l.lease.Renew(ctx, now) // the next try comes in time
		}
	}
}

// endLeases lets go, after the decision. A repository that hangs is not waited for.
func (t *taking) endLeases() {
	for _, l := range t.leases {
		l.stop()
	}
	patience := time.NewTimer(releasePatience)
	defer patience.Stop()
	for _, l := range t.leases {
		select {
		case <-l.done:
		case <-patience.C:
			return
		}
	}
}
