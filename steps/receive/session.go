package receive

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/spool"
	"github.com/pgkeep/pgkeep/state/wal"
)

// drainTime bounds how long the repositories are waited for once the stream has ended.
const drainTime = 5 * time.Second

// session receives the WAL of one cluster: one system identifier, one segment size.
type session struct {
	o        Options
	cluster  ClusterIdentity
	spool    *spool.Spool
	report   *reporter
	work     *mailbox[job] // what came into the spool, for the checker
	queue    *queue        // what was checked, for the uploaders
	tail     *tail         // the unfinished segment
	uploads  []*uploader
	start    startState
	recorded recordedGaps
	lacks    sync.Mutex    // held while what archives lack is kept
	hurry    chan struct{} // holds a token when somebody waits for the stream to go on
	ahead    chan struct{} // holds a token for each segment that is packed before its turn

	produce  func(context.Context) error // what fills the spool until it returns: stream
	patience time.Duration               // how long the repositories are then waited for; 0: until ctx ends
}

// startState is what the stream remembers between connections.
type startState struct {
	tried    bool    // the archives were asked how far they reach
	asked    bool    // and every one has answered
	held     bool    // the spool has held WAL
	slotAt   wal.LSN // where the slot stood when it was looked at last
	flushAt  wal.LSN // the server's flush position when it was asked last
	lastPID  int     // of our latest walsender
	noSwitch bool    // the role may not
	broke    bool    // the latest connection streamed, and broke by itself
	fenced   bool    // the slot was another receiver's when it was last asked for
	gone     *begin  // the server said that it no longer has WAL from there
	why      error
	unread   begin  // where an archive ends that cannot be decrypted here; no timeline: none
	passed   *begin // behind the gap that was recorded last; until WAL from there has come
}

func newSession(o Options, c ClusterIdentity, sp *spool.Spool, rep *reporter) *session {
	s := &session{o: o, cluster: c, spool: sp, report: rep, work: newMailbox[job](), queue: newQueue(len(o.Archives)), tail: newTail(len(o.Archives)), patience: drainTime, hurry: make(chan struct{}, 1), ahead: make(chan struct{}, packAhead(len(o.Archives)))}
	s.produce = s.stream
	for i, a := range o.Archives {
		s.uploads = append(s.uploads, &uploader{s: s, archive: a, index: i, wake: make(chan struct{}, 1)})
	}
	s.queue.wake = s.wakeUploads
	return s
}

func (s *session) wakeUploads() {
	for _, u := range s.uploads {
		u.nudge()
	}
}

// run streams until ctx ends or something stops it for good. What was received is then given a moment to reach the
// repositories, so that a stop that was asked for loses nothing but the machine's disk could.
func (s *session) run(ctx context.Context) error {
	if err := errors.Join(s.loadLacks(), s.loadWork()); err != nil {
		return err
	}
	s.loadTail()
	drain, stopDrain := context.WithCancel(context.WithoutCancel(ctx))
	defer stopDrain()
	g, ctx := errgroup.WithContext(ctx)
	var workers sync.WaitGroup
	worker := func(f func(context.Context) error) {
		workers.Add(1)
		g.Go(func() error { defer workers.Done(); return f(drain) })
	}
	worker(func(ctx context.Context) error { return s.check(ctx) })
	for _, u := range s.uploads {
		worker(u.run)
	}
	obeying, enough := context.WithCancel(ctx)
	g.Go(func() error { return s.obey(obeying) })
	g.Go(func() error {
		defer enough()
		err := s.produce(ctx)
		s.work.close()
		var forget func() bool
		if s.patience > 0 {
			forget = time.AfterFunc(s.patience, stopDrain).Stop
		} else {
			forget = context.AfterFunc(ctx, stopDrain)
		}
		workers.Wait()
		forget()
		return err
	})
	err := g.Wait()
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	return errors.Join(err, s.forgetGaps())
}

// session is made either from what the spool knows, so that WAL which waits there is saved although the server is down,
// or from what the server says.
func (o *Options) knownCluster() (ClusterIdentity, bool, error) {
	id, z, err := spool.Newest(o.Spool, o.Server)
	if err != nil || id == "" {
		return ClusterIdentity{}, false, err
	}
	if len(o.Identity) > 0 && !slices.Contains(o.Identity, id) {
		return ClusterIdentity{}, false, nil
	}
	return ClusterIdentity{Name: o.Server, SystemID: id, SegmentSize: z}, true, nil
}

// otherClusterError ends a session because the server is another cluster, and an allowed one.
type otherClusterError struct{ cluster ClusterIdentity }

func (e *otherClusterError) Error() string {
	return "the server is now the cluster " + e.cluster.SystemID
}

// identify asks the server who it is and refuses one that is not allowed, before any WAL is asked for.
func identify(ctx context.Context, o *Options, conn connection) (postgres.System, ClusterIdentity, error) {
	sys, err := conn.IdentifySystem(ctx)
	if err != nil {
		return sys, ClusterIdentity{}, err
	}
	allowed, from, err := o.allowed(ctx)
	if err != nil {
		return sys, ClusterIdentity{}, err
	}
	if len(allowed) > 0 && !slices.Contains(allowed, sys.ID) {
		return sys, ClusterIdentity{}, &state.Error{
			Code: state.CodeIdentity,
			Text: fmt.Sprintf("%s has system identifier %s, %s has %s: nothing is received from it", o.Server, sys.ID, from, join(allowed)),
			Hint: fmt.Sprintf("if it is the right server, name it: identity { system_identifiers = [%q] }; backups of the old one stay restorable", sys.ID),
		}
	}
	z, err := conn.SegmentSize(ctx)
	if err != nil {
		return sys, ClusterIdentity{}, err
	}
	return sys, ClusterIdentity{Name: o.Server, SystemID: sys.ID, Major: conn.Version() / 10000, SegmentSize: z}, nil
}

// allowed lists the system identifiers that the server may have, and who says so; empty: any.
func (o *Options) allowed(ctx context.Context) (ids []string, from string, err error) {
	if len(o.Identity) > 0 {
		return o.Identity, "its identity block", nil
	}
	ids, err = spool.SystemIDs(o.Spool, o.Server)
	if err != nil || len(ids) > 0 {
		return ids, "the spool", err
	}
	for _, a := range o.Archives {
		if a.SystemIDs == nil {
			continue
		}
		found, err := a.SystemIDs(ctx)
		if err != nil {
			return nil, "", fmt.Errorf("ask repository %s which cluster it holds of %s: %w", a.Name, o.Server, err)
		}
		ids = append(ids, found...)
	}
	return ids, "a repository", nil
}

func join(ids []string) string {
	text := ids[0]
	for _, id := range ids[1:] {
		text += " or " + id
	}
	return text
}
