package recovery

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state/wal"
)

// replaying is a data directory in recovery whose route takes the segments 3 to n of timeline 1.
type replaying struct {
	t      *testing.T
	data   string
	route  string
	source *fake
	room   atomic.Int64 // free bytes; each segment that is fetched takes some, as on a disk
	panics bool
	torn   bool // the disk does not keep what is written
}

func newReplaying(t *testing.T, n uint64) *replaying {
	r := &replaying{t: t, data: filepath.Join(t.TempDir(), "data"), source: &fake{segments: map[wal.Segment][]byte{}}}
	r.route = RouteFile(r.data)
	for _, dir := range []string{r.data, filepath.Dir(r.route)} {
		check(t, os.Mkdir(dir, 0o700))
	}
	for _, name := range []string{"postmaster.pid", "recovery.signal"} {
		check(t, os.WriteFile(filepath.Join(r.data, name), nil, 0o600))
	}
	for i := uint64(3); i <= n; i++ {
		r.source.segments[seg(1, i)] = full(byte(i))
	}
	r.room.Store(1 << 40)
	b, err := json.Marshal(&routeFile{
		Version: 1, Server: "orders", SystemID: "42", SegmentSize: mib, Timeline: 1, WaitSeconds: 0.01, Repositories: []Place{{Label: "main"}},
		Path: []wal.Range{{Timeline: 1, From: seg(1, 3).Start(mib) + 40, To: seg(1, n).End(mib)}},
	})
	check(t, err)
	check(t, os.WriteFile(r.route, b, 0o600))
	return r
}

func (r *replaying) open() func(*routeFile, context.Context) *server {
	return func(f *routeFile, _ context.Context) *server {
		if r.panics {
			return &server{route: f, sources: []source{nil}}
		}
		return &server{route: f, sources: []source{r.source}}
	}
}

func (r *replaying) free(string) (int64, error) {
	return r.room.Load() - int64(len(r.lying()))*mib.Bytes(), nil
}

func (r *replaying) sync(name string) error {
	if r.torn {
		return os.ErrInvalid
	}
	return syncFile(name)
}

// fetch starts what fetches behind a segment, and gives what it ends with.
func (r *replaying) fetch(after uint64) chan error {
	ended := make(chan error, 1)
	go func() {
		ended <- fetchAhead(r.t.Context(), r.route, seg(1, after).Name(mib), r.open(), disk{r.free, r.sync})
	}()
	return ended
}

// lying lists what was fetched ahead, or is being fetched.
func (r *replaying) lying() []string {
	found, err := filepath.Glob(filepath.Join(filepath.Dir(r.route), aheadDir, "*", "0*"))
	check(r.t, err)
	return found
}

func (r *replaying) until(what string, so func() bool) {
	r.t.Helper()
	for limit := time.Now().Add(2 * time.Minute); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			r.t.Fatalf("waited for %s; there is %v", what, r.lying())
		}
	}
}

func (r *replaying) full() bool {
	n := 0
	for _, name := range r.lying() {
		if !strings.HasSuffix(name, unfinished) {
			n++
		}
	}
	return n == aheadMost
}

// get asks as PostgreSQL does; without a repository only what was fetched ahead is served.
func (r *replaying) get(i uint64, repository bool) int {
	r.t.Helper()
	into := filepath.Join(r.t.TempDir(), "RECOVERYXLOG")
	open := r.open()
	if !repository {
		open = func(f *routeFile, _ context.Context) *server { return &server{route: f, broken: []error{errDown}} }
	}
	exit, _ := walGet(r.t.Context(), WALGetOptions{Route: r.route, Name: seg(1, i).Name(mib), Into: into}, open)
	if got, err := os.ReadFile(into); exit == ExitGot && (err != nil || !bytes.Equal(got, full(byte(i)))) {
		r.t.Errorf("segment %d is another: %v", i, err)
	}
	return exit
}

func (r *replaying) ended(ended chan error, badly bool) {
	r.t.Helper()
	if err := <-ended; (err != nil) != badly {
		r.t.Errorf("it ended with %v", err)
	}
	if left := r.lying(); len(left) > 0 {
		r.t.Errorf("left behind: %v", left)
	}
}

// TestFetchAhead: what PostgreSQL asks for next is there, never more than the bound of it, and it ends with the route.
func TestFetchAhead(t *testing.T) {
	const last = 40
	r := newReplaying(t, last)
	ended := r.fetch(3)
	r.until("a full window", r.full)
	if err := <-r.fetch(3); err != nil {
		t.Errorf("a second one: %v", err)
	}
	for i := uint64(4); i <= last; i++ {
		r.until("the next segment", func() bool { return r.get(i, false) == ExitGot })
		if n := len(r.lying()); n > aheadMost {
			t.Fatalf("%d segments lie there", n)
		}
	}
	r.ended(ended, false)
}

// TestFetchAheadEndsWithTheRecovery: and takes with it what nobody came for.
func TestFetchAheadEndsWithTheRecovery(t *testing.T) {
	for _, gone := range []string{"recovery.signal", "postmaster.pid"} {
		r := newReplaying(t, 60)
		ended := r.fetch(3)
		r.until("a full window", r.full)
		check(t, os.Remove(filepath.Join(r.data, gone)))
		r.ended(ended, false)
	}
}

// TestFetchAheadStopsAtAHole: what comes before it is served, and whoever asks for it is told.
func TestFetchAheadStopsAtAHole(t *testing.T) {
	r := newReplaying(t, 20)
	delete(r.source.segments, seg(1, 9))
	ended := r.fetch(3)
	for i := uint64(4); i < 9; i++ {
		r.until("the next segment", func() bool { return r.get(i, false) == ExitGot })
	}
	if got := r.get(9, true); got != ExitFailed {
		t.Errorf("the hole: exit %d", got)
	}
	r.until("what was fetched behind the hole", func() bool {
		for i := uint64(10); i <= 20; i++ {
			r.get(i, false)
		}
		return len(r.lying()) == 0
	})
	r.ended(ended, true)
}

// TestFetchAheadLeavesNothingOld: what another route has left is never served, nor what PostgreSQL went past.
func TestFetchAheadLeavesNothingOld(t *testing.T) {
	r := newReplaying(t, 30)
	old := filepath.Join(filepath.Dir(r.route), aheadDir, "another-route")
	check(t, os.MkdirAll(old, 0o700))
	check(t, os.WriteFile(filepath.Join(old, seg(1, 5).Name(mib)), full('x'), 0o600))
	ended := r.fetch(3)
	r.until("segment 8", func() bool { return r.get(8, false) == ExitGot })
	r.until("what lies before it to go", func() bool {
		for _, name := range r.lying() {
			if filepath.Base(name) < seg(1, 8).Name(mib) {
				return false
			}
		}
		return true
	})
	check(t, os.Remove(filepath.Join(r.data, "recovery.signal")))
	r.ended(ended, false)
}

// TestAnotherRoutesSegmentsAreNotServed: what was fetched ahead for one route is nothing to another one of the same directory, neither to
// wal-get nor to the shell of its restore_command: it may be another cluster's.
func TestAnotherRoutesSegmentsAreNotServed(t *testing.T) {
	r := newReplaying(t, 30)
	one, _ := aheadOf(r.route)
	check(t, os.MkdirAll(one.dir, 0o700))
	check(t, os.WriteFile(one.path(seg(1, 4).Name(mib)), full('x'), 0o600))
	b, err := os.ReadFile(r.route)
	check(t, err)
	b = bytes.Replace(b, []byte(`"system_id":"42"`), []byte(`"system_id":"43"`), 1)
	check(t, os.WriteFile(r.route, b, 0o600))
	if got := r.get(4, false); got != ExitFailed {
		t.Errorf("exit %d", got)
	}
	if other := aheadPath(r.route, b); strings.Contains(restoreCommand("/p", r.route, other), one.dir) {
		t.Errorf("the shell looks into %s", one.dir)
	}
}

// TestNothingIsFetchedAheadOfNobody: where no PostgreSQL recovers there is none who would come for it.
func TestNothingIsFetchedAheadOfNobody(t *testing.T) {
	r := newReplaying(t, 30)
	check(t, os.Remove(filepath.Join(r.data, "postmaster.pid")))
	r.ended(r.fetch(3), false)
}

// TestOnlyTheWholeOfTheDeadIsServed: of a process that was killed what has its name is whole and durable, and what it was at is nothing.
func TestOnlyTheWholeOfTheDeadIsServed(t *testing.T) {
	r := newReplaying(t, 30)
	a, ok := aheadOf(r.route)
	if !ok {
		t.Fatal("nothing can be fetched ahead here")
	}
	check(t, os.MkdirAll(a.dir, 0o700))
	check(t, os.WriteFile(a.path(workLock), nil, 0o600))
	check(t, os.WriteFile(a.path(seg(1, 4).Name(mib)), full(4), 0o600))
	check(t, os.WriteFile(a.path(seg(1, 5).Name(mib)+unfinished), full('x'), 0o600))
	if got := r.get(4, false); got != ExitGot {
		t.Errorf("a whole segment: exit %d", got)
	}
	if got := r.get(5, false); got != ExitFailed {
		t.Errorf("a part of one: exit %d", got)
	}
	if got := r.get(5, true); got != ExitGot {
		t.Errorf("from the repository: exit %d", got)
	}
}

// TestWhatIsNotDurableIsNotServed: a segment gets its name after its fsync, because after a loss of power it would be torn.
func TestWhatIsNotDurableIsNotServed(t *testing.T) {
	r := newReplaying(t, 30)
	r.torn = true
	ended := r.fetch(3)
	if err := <-ended; err == nil {
		t.Error("it ended well")
	}
	for _, name := range r.lying() {
		if !strings.HasSuffix(name, unfinished) {
			t.Errorf("%s has its name", name)
		}
	}
	if got := r.get(4, false); got != ExitFailed {
		t.Errorf("exit %d", got)
	}
}

// TestFetchAheadLeavesRoom: the last free space is PostgreSQL's, which needs it to go on.
func TestFetchAheadLeavesRoom(t *testing.T) {
	r := newReplaying(t, 40)
	r.room.Store(aheadSpare + 3*mib.Bytes() + 1)
	ended := r.fetch(3)
	most := 0
	for i := uint64(4); i <= 40; i++ {
		r.until("the next segment", func() bool {
			most = max(most, len(r.lying()))
			return r.get(i, false) == ExitGot
		})
	}
	if r.ended(ended, false); most > 3 {
		t.Errorf("%d segments lay where there was room for 3", most)
	}
}

// TestFetchAheadInARemovedDirectory makes nothing anew where somebody has removed it all.
func TestFetchAheadInARemovedDirectory(t *testing.T) {
	r := newReplaying(t, 30)
	a, _ := aheadOf(r.route)
	check(t, os.RemoveAll(filepath.Dir(r.route)))
	if _, err := a.claim(t.Context()); err == nil {
		t.Error("it was claimed")
	}
	if _, err := os.Lstat(filepath.Dir(r.route)); err == nil {
		t.Error("the directory is back")
	}
}

// TestFetchAheadPanics ends as any failure does.
func TestFetchAheadPanics(t *testing.T) {
	r := newReplaying(t, 30)
	r.panics = true
	r.ended(r.fetch(3), true)
}
