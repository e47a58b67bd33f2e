package receive

import (
	"sync"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// job is one thing that goes into every repository. Exactly one of its fields is set.
type job struct {
	history wal.Timeline
	gap     *state.Gap
	segment wal.Segment // complete
	missing wal.Segment // to be fetched again first
	ended   *ended
	sum     wal.Summary // of segment, once it was checked
}

// timeline is that of the WAL that the archives hold once the job is done; zero: it brings none.
func (j job) timeline() wal.Timeline {
	if j.ended != nil {
		return j.ended.segment.Timeline
	}
	return j.segment.Timeline
}

// ended is the last, unfinished segment of a timeline that was left.
type ended struct {
	segment wal.Segment
	upTo    wal.LSN
}

// queue is the line of checked jobs. Each archive goes through it at its own pace and in order; a job leaves when every
// archive is done with it.
type queue struct {
	mu     sync.Mutex
	jobs   []job
	gone   int   // jobs that left
	at     []int // how many jobs each archive is done with
	coming int   // jobs that are still being checked
	closed bool
	wake   func()
}

func newQueue(archives int) *queue { return &queue{at: make([]int, archives), wake: func() {}} }

// expect says that a job will come, or that it will not after all.
func (q *queue) expect(n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.coming += n
}

// settled tells whether archive i has everything that was received but the unfinished segment.
func (q *queue) settled(i int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.coming == 0 && q.at[i]-q.gone == len(q.jobs)
}

func (q *queue) add(j job) {
	q.mu.Lock()
	q.jobs = append(q.jobs, j)
	q.mu.Unlock()
	q.wake()
}

// close says that no more jobs come.
func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.wake()
}

// next gives archive i's next job; none when it has done all. last tells that no more will come.
func (q *queue) next(i int) (j job, some, last bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := q.at[i] - q.gone
	if n < len(q.jobs) {
		return q.jobs[n], true, false
	}
	return job{}, false, q.closed
}

// segments gives archive i's next jobs, at most n and only up to the first that is no segment.
func (q *queue) segments(i, n int) []job {
	q.mu.Lock()
	defer q.mu.Unlock()
	var out []job
	for _, j := range q.jobs[q.at[i]-q.gone:] {
		if len(out) == n || j.segment == (wal.Segment{}) {
			break
		}
		out = append(out, j)
	}
	return out
}

// done says that archive i is done with its next job. The jobs that every archive is done with come back, oldest first.
func (q *queue) done(i int) []job {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.at[i]++
	least := q.at[0]
	for _, n := range q.at {
		least = min(least, n)
	}
	n := least - q.gone
	out := append([]job(nil), q.jobs[:n]...)
	clear(q.jobs[:n])
	q.jobs = q.jobs[n:]
	q.gone = least
	return out
}

// tail is the unfinished segment, and how far each archive reaches.
type tail struct {
	mu       sync.Mutex
	timeline wal.Timeline
	segment  wal.Segment
	upTo     wal.LSN                  // durable in the spool
	demanded wal.LSN                  // to be pushed at once up to here
	parked   bool                     // not to be pushed for now
	leased   time.Time                // nor after this, while a stream runs; zero: none does
	byWall   time.Time                // leased by the wall clock: the other one stands still while a machine sleeps
	archived []wal.LSN                // by archive
	lacks    []wal.Range              // by archive: a hole behind which it counts for nothing; zero: none
	left     map[wal.Timeline]wal.LSN // where the line of history left a timeline of which we held more
}

func newTail(archives int) *tail {
	return &tail{archived: make([]wal.LSN, archives), lacks: make([]wal.Range, archives), left: map[wal.Timeline]wal.LSN{}}
}

// set moves the tail; zero segment: there is no unfinished segment now.
func (t *tail) set(tli wal.Timeline, seg wal.Segment, upTo wal.LSN) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.timeline, t.segment, t.upTo = tli, seg, upTo
}

// get gives the unfinished segment, and up to where it is durable and demanded.
func (t *tail) get() (tli wal.Timeline, seg wal.Segment, upTo, demanded wal.LSN) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.timeline, t.segment, t.upTo, t.demanded
}

// park says whether the unfinished segment is not to be pushed for now.
func (t *tail) park(yes bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.parked = yes
}

// lease says until when the unfinished segment may be pushed while a stream runs; zero: none does.
func (t *tail) lease(until time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.leased, t.byWall = until, until.Round(0)
}

func (t *tail) isParked() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	return t.parked || !t.leased.IsZero() && (!now.Before(t.leased) || !now.Round(0).Before(t.byWall))
}

// demand asks for a push at once of all that is durable.
func (t *tail) demand() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.demanded = t.upTo
}

// reached says that archive i holds everything up to l of timeline tli. What lies behind the point where the line of
// history left it counts for nothing: an upload may end long after back. Nor does what lies behind a hole of the archive.
func (t *tail) reached(i int, tli wal.Timeline, l wal.LSN) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for left, at := range t.left {
		if tli <= left {
			l = min(l, at)
		}
	}
	if lack := t.lacks[i]; lack != (wal.Range{}) {
		l = min(l, lack.From)
	}
	t.archived[i] = max(t.archived[i], l)
}

// back says that positions of timeline tli after l are of no worth: the line of history left there.
func (t *tail) back(tli wal.Timeline, l wal.LSN) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.left[tli] = l
	for i := range t.archived {
		t.archived[i] = min(t.archived[i], l)
	}
	t.timeline, t.segment, t.upTo, t.demanded = tli, wal.Segment{}, 0, 0
}

// hole says that WAL of timeline tli from l on did not come to the archives and will not: the line of history left the
// timeline in the segment that begins there, and what lies before that comes again.
func (t *tail) hole(tli wal.Timeline, l wal.LSN) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if at, left := t.left[tli]; !left || l < at {
		t.left[tli] = l
	}
	for i := range t.archived {
		t.archived[i] = min(t.archived[i], l)
	}
}

// leaves tells whether position l of timeline tli lies behind the point where the line of history left it.
func (t *tail) leaves(tli wal.Timeline, l wal.LSN) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	at, left := t.left[tli]
	return left && l > at
}

// held gives the position that at least quorum archives hold.
func (t *tail) held(quorum int) wal.LSN {
	t.mu.Lock()
	defer t.mu.Unlock()
	var best wal.LSN
	for _, l := range t.archived {
		n := 0
		for _, other := range t.archived {
			if other >= l {
				n++
			}
		}
		if n >= quorum {
			best = max(best, l)
		}
	}
	return best
}
