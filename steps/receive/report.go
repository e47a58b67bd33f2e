package receive

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/spool"
	"github.com/pgkeep/pgkeep/state/wal"
)

// What a problem is about; the first that has one is the receiver's problem. Those of archives come after, by name.
const (
	aboutSpool  = "1 spool"
	aboutCheck  = "2 check"
	aboutStream = "3 stream"
	aboutRoom   = "4 room"
	aboutGap    = "5 gap"
)

func aboutArchive(name string) string { return "6 archive " + name }

// reporter gathers what the receiver says of itself and writes it for those who look.
type reporter struct {
	o       Options
	claim   *spool.Claim
	changed chan struct{}

	mu       sync.Mutex
	now      state.Receiver
	problems map[string]state.Problem
	eager    time.Time // until then every step is written at once
}

func newReporter(o Options, claim *spool.Claim) *reporter {
	return &reporter{o: o, claim: claim, changed: make(chan struct{}, 1), problems: map[string]state.Problem{}}
}

// Times of the report.
const (
	reportMoves = 200 * time.Millisecond // how soon a moved position is seen
	reportEvery = time.Second            // how soon it is seen that nothing moved
)

// run writes the report at every change of importance, soon after positions moved, and every second.
func (r *reporter) run(ctx context.Context) error {
	tick := time.NewTicker(reportMoves)
	defer tick.Stop()
	for {
		written, at := r.positions(), time.Now()
		r.write()
		for now := false; !now; {
			select {
			case <-ctx.Done():
				return nil
			case <-r.changed:
				now = true
			case <-tick.C:
				now = r.positions() != written || time.Since(at) >= reportEvery
			}
		}
	}
}

// positions gives how far the receiver is.
func (r *reporter) positions() [3]wal.LSN {
	r.mu.Lock()
	defer r.mu.Unlock()
	return [3]wal.LSN{r.now.Written, r.now.Flushed, r.now.Archived}
}

// last writes the report that stays when the receiver has ended.
func (r *reporter) last(err error) {
	r.update(func(s *state.Receiver) { s.Streaming = false })
	if err != nil && !errors.Is(err, context.Canceled) {
		r.problem(aboutSpool, err)
	}
	r.write()
}

func (r *reporter) write() {
	if err := r.claim.Report(r.snapshot()); err != nil {
		r.o.Log.Warn("the receiver's status could not be written", "server", r.o.Server, "error", err)
	}
}

func (r *reporter) snapshot() state.Receiver {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now
	now.Reported = time.Now().UTC()
	for _, about := range slices.Sorted(maps.Keys(r.problems)) {
		p := r.problems[about]
		now.Problem = &p
		break
	}
	return now
}

// update changes the positions; it tells nobody at once.
func (r *reporter) update(f func(*state.Receiver)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(&r.now)
}

// problem says that something does not work. The moment it began is kept while its code stays the same.
func (r *reporter) problem(about string, err error) {
	if errors.Is(err, context.Canceled) {
		return
	}
	p := state.Problem{Code: state.CodeOf(err), Text: err.Error(), Hint: state.HintOf(err), Since: time.Now().UTC()}
	if p.Code == "" {
		p.Code = state.CodeIO
	}
	r.mu.Lock()
	before, again := r.problems[about]
	again = again && before.Code == p.Code
	if again {
		p.Since = before.Since
	}
	r.problems[about] = p
	r.mu.Unlock()
	if !again {
		r.o.Log.Warn("the receiver has a problem", "server", r.o.Server, "code", p.Code, "error", p.Text)
		r.tell()
	}
}

// solved says that it works again.
func (r *reporter) solved(about string) {
	r.mu.Lock()
	_, had := r.problems[about]
	delete(r.problems, about)
	r.mu.Unlock()
	if had {
		r.tell()
	}
}

// hurry has every step until then written at once, beginning with where things stand.
func (r *reporter) hurry(until time.Time) {
	r.mu.Lock()
	r.eager = until
	r.mu.Unlock()
	r.wake()
}

// tell lets a change be seen at once.
func (r *reporter) tell() {
	r.wake()
	r.o.Notice(r.snapshot())
}

func (r *reporter) wake() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}
