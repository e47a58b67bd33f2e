package receive

import (
	"sync"

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
	segment  wal.Segment
	upTo     wal.LSN   // durable in the spool
	demanded wal.LSN   // to be pushed at once up to here
	archived []wal.LSN // by archive
}

func newTail(archives int) *tail { return &tail{archived: make([]wal.LSN, archives)} }

// set moves the tail; zero segment: there is no unfinished segment now.
func (t *tail) set(seg wal.Segment, upTo wal.LSN) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.segment, t.upTo = seg, upTo
}

func (t *tail) get() (seg wal.Segment, upTo, demanded wal.LSN) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.segment, t.upTo, t.demanded
}

// demand asks for a push at once of all that is durable.
func (t *tail) demand() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.demanded = t.upTo
}

// reached says that archive i holds everything up to l.
func (t *tail) reached(i int, l wal.LSN) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.archived[i] = max(t.archived[i], l)
}

// back says that positions after l are of no worth: the line of history left there.
func (t *tail) back(l wal.LSN) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range t.archived {
		t.archived[i] = min(t.archived[i], l)
	}
	t.segment, t.upTo, t.demanded = wal.Segment{}, 0, 0
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
