package repository

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgkeep/pgkeep/state"
)

// object is one finished object on its way to every writer.
type object struct {
	name      string
	body      []byte
	pooled    bool         // body goes back to the spare volumes
	waiting   atomic.Int32 // writers that have not finished with it
	abandoned atomic.Bool  // a writer that was given up may still read body
}

// fanout carries objects to several repositories at once. The objects in flight are bounded; a repository that is slow
// slows the stream down, and one that finishes nothing for the stall time is given up so that the others go on.
type fanout struct {
	lanes []*lane
	slots chan struct{} // one for each object in flight
	spare chan []byte
	stall time.Duration
	group sync.WaitGroup
	once  sync.Once
}

// lane is one repository's share of a fanout.
type lane struct {
	w        *BackupWriter
	queue    chan *object
	ctx      context.Context
	cancel   context.CancelCauseFunc
	mu       sync.Mutex
	err      error            // set once: the lane is given up
	pending  map[*object]bool // sent and not finished
	finished int              // objects done
}

const (
	objectsInFlight = 5
	putsPerLane     = 2
)

func newFanout(ctx context.Context, stall time.Duration, inFlight int, writers []*BackupWriter) *fanout {
	f := &fanout{slots: make(chan struct{}, inFlight), spare: make(chan []byte, inFlight), stall: stall}
	for _, w := range writers {
		l := &lane{w: w, queue: make(chan *object, inFlight), pending: map[*object]bool{}}
		l.ctx, l.cancel = context.WithCancelCause(ctx)
		f.lanes = append(f.lanes, l)
		for range putsPerLane {
			f.group.Go(func() { f.work(l) })
		}
	}
	return f
}

// work puts a lane's objects one after another. A lane that was given up is asked for nothing more; what its other putter
// had begun before may still come to its end.
func (f *fanout) work(l *lane) {
	for o := range l.queue {
		err := l.failed() // told before the context is cancelled
		if err == nil {
			err = context.Cause(l.ctx)
		}
		if err == nil {
			err = l.w.c.putObject(l.ctx, l.w.c.key.backupDir(l.w.start.ID)+o.name, o.body)
		}
		if err != nil {
			f.giveUp(l, err)
		}
		f.finish(l, o)
	}
}

// finish marks o as done with by l. Each lane counts once for each object.
func (f *fanout) finish(l *lane, o *object) {
	l.mu.Lock()
	counted := l.pending[o]
	delete(l.pending, o)
	if counted {
		l.finished++
	}
	l.mu.Unlock()
	if counted {
		f.release(o)
	}
}

// release takes one writer off an object; the last one frees its slot.
func (f *fanout) release(o *object) {
	if o.waiting.Add(-1) > 0 {
		return
	}
	if o.pooled && !o.abandoned.Load() {
		select {
		case f.spare <- o.body:
		default:
		}
	}
	<-f.slots
}

// giveUp ends a lane: its backup will be aborted. What it still holds is no longer waited for.
func (f *fanout) giveUp(l *lane, err error) {
	l.mu.Lock()
	if l.err != nil {
		l.mu.Unlock()
		return
	}
	l.err = err
	pending := l.pending
	l.pending = map[*object]bool{}
	l.mu.Unlock()
	l.cancel(err)
	for o := range pending {
		o.abandoned.Store(true)
		f.release(o)
	}
}

// send gives an object to every lane that still goes. It waits for a free slot.
func (f *fanout) send(ctx context.Context, o *object) error {
	if err := f.wait(ctx); err != nil {
		return err
	}
	live := f.live()
	if len(live) == 0 {
		<-f.slots
		return f.failure()
	}
	o.waiting.Store(int32(len(live)))
	for _, l := range live {
		l.mu.Lock()
		given := l.err != nil
		if !given {
			l.pending[o] = true
		}
		l.mu.Unlock()
		if given {
			f.release(o)
			continue
		}
		l.queue <- o // never blocks for long: there are as many places as slots
	}
	return nil
}

// wait takes a slot, giving up lanes that stall meanwhile.
func (f *fanout) wait(ctx context.Context) error {
	select {
	case f.slots <- struct{}{}:
		return nil
	default:
	}
	for {
		before := f.progress()
		timer := time.NewTimer(f.stall)
		select {
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case f.slots <- struct{}{}:
			timer.Stop()
			return nil
		case <-timer.C:
			f.giveUpStalled(before)
		}
	}
}

// drain waits until every object is done with.
func (f *fanout) drain(ctx context.Context) error {
	for n := range cap(f.slots) {
		if err := f.wait(ctx); err != nil {
			for range n {
				<-f.slots
			}
			return err
		}
	}
	for range cap(f.slots) {
		<-f.slots
	}
	if len(f.live()) == 0 {
		return f.failure()
	}
	return nil
}

// progress gives how many objects each lane has finished.
func (f *fanout) progress() map[*lane]int {
	m := map[*lane]int{}
	for _, l := range f.lanes {
		l.mu.Lock()
		if l.err == nil && len(l.pending) > 0 {
			m[l] = l.finished
		}
		l.mu.Unlock()
	}
	return m
}

// giveUpStalled gives up the lanes that had something to do all the while and finished nothing.
func (f *fanout) giveUpStalled(before map[*lane]int) {
	now := f.progress()
	for l, n := range before {
		if finished, busy := now[l]; busy && finished == n {
			f.giveUp(l, &state.Error{
				Code: state.CodeUnreachable, Hint: "pgkeep check --repository",
				Text: fmt.Sprintf("the repository took nothing for %s", f.stall),
			})
		}
	}
}

// live gives the lanes that were not given up.
func (f *fanout) live() []*lane {
	var out []*lane
	for _, l := range f.lanes {
		if l.failed() == nil {
			out = append(out, l)
		}
	}
	return out
}

func (l *lane) failed() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// failure joins what ended the lanes.
func (f *fanout) failure() error {
	var errs []error
	for _, l := range f.lanes {
		errs = append(errs, l.failed())
	}
	return errors.Join(errs...)
}

// stop ends the workers, once. Nothing may be sent any more. A put that ignores its context is not waited for.
func (f *fanout) stop() {
	f.once.Do(func() {
		for _, l := range f.lanes {
			close(l.queue)
			l.cancel(context.Canceled)
		}
	})
}
