package recovery

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"

	"github.com/pgkeep/pgkeep/state/host"
	"github.com/pgkeep/pgkeep/state/wal"
)

// FetchAhead fetches segments of a route that come after one, until PostgreSQL's recovery is over, nothing is asked for any
// more, or a segment cannot be had: wal-get then asks for it, and says why. One process does so at a time; others end at once.
func FetchAhead(ctx context.Context, route, after string) error {
	return fetchAhead(ctx, route, after, (*routeFile).open, disk{freeAt, syncFile})
}

// disk is what is asked of the disk that segments are fetched to.
type disk struct {
	free func(dir string) (int64, error) // bytes
	sync func(file string) error
}

// freeAt gives the free bytes of the file system that a directory lies in.
func freeAt(dir string) (int64, error) {
	space, err := host.SpaceAt(dir)
	return space.Free, err
}

func syncFile(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func fetchAhead(ctx context.Context, path, after string, open func(*routeFile, context.Context) *server, d disk) error {
	route, err := readRoute(path)
	if err != nil {
		return err
	}
	first, err := wal.ParseSegmentName(after, route.SegmentSize)
	if err != nil {
		return err
	}
	a, ok := aheadOf(path)
	if !ok || !a.recovers() {
		return nil
	}
	unlock, err := a.claim(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil // another does it
	}
	if err != nil {
		return fmt.Errorf("fetch ahead: %w", err)
	}
	defer unlock()
	ctx, stop := context.WithCancel(ctx)
	w := &aheadWork{ahead: a, server: open(route, ctx), disk: d, results: make(chan fetched), heard: time.Now(), coming: route.wholeAfter(first)}
	defer w.leave(stop)
	return w.run(ctx)
}

// claim makes the directory, never what it lies in, takes the lock, and removes what others have left. context.DeadlineExceeded
// when another has it.
func (a ahead) claim(ctx context.Context) (unlock func(), err error) {
	for _, dir := range []string{filepath.Dir(a.dir), a.dir} {
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
	work := a.lock()
	unlock = func() { _ = work.Unlock() }
	if err = takeLock(ctx, work); err == nil {
		err = a.clear()
	}
	if err != nil {
		unlock()
		return nil, err
	}
	return unlock, nil
}

// takeLock waits a moment: a look whether somebody holds a lock holds it too.
func takeLock(ctx context.Context, l *flock.Flock) error {
	short, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_, err := l.TryLockContext(short, aheadLook)
	return err
}

// clear removes what earlier routes and processes have left. PostgreSQL may take some of it meanwhile.
func (a ahead) clear() error {
	others, err := os.ReadDir(filepath.Dir(a.dir))
	if err != nil {
		return err
	}
	for _, e := range others {
		if e.Name() != filepath.Base(a.dir) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(filepath.Dir(a.dir), e.Name())))
		}
	}
	files, listed := os.ReadDir(a.dir)
	for _, e := range files {
		if e.Name() == workLock {
			continue
		}
		if gone := os.Remove(a.path(e.Name())); !errors.Is(gone, fs.ErrNotExist) {
			err = errors.Join(err, gone)
		}
	}
	return errors.Join(err, listed)
}

// wholeAfter lists the segments that follow one and are needed to their ends: only these are the same for whoever asks, and
// whenever.
func (f *routeFile) wholeAfter(first wal.Segment) []wal.Segment {
	var out []wal.Segment
	found := false
	for _, seg := range f.segments() {
		end := seg.End(f.SegmentSize)
		upTo, _ := f.needs(seg)
		if found && upTo == end && (f.CutAt == 0 || end <= f.CutAt) {
			out = append(out, seg)
		}
		found = found || seg == first
	}
	return out
}

// whole writes a segment that a source has to its end.
func (s *server) whole(ctx context.Context, seg wal.Segment, into string) error {
	var failed []error
	for _, src := range s.sources {
		r, err := src.segment(ctx, seg)
		if err == nil {
			err = s.write(ctx, piece{r, seg, seg.End(s.route.SegmentSize), true}, into)
		}
		if err == nil || isPermanent(err) {
			return err
		}
		failed = append(failed, err)
	}
	return s.verdict(failed)
}

// aheadWork is one process that fetches.
type aheadWork struct {
	ahead
	server *server
	disk
	coming  []wal.Segment // not begun
	there   []wal.Segment // fetched, in the order of the route, until somebody takes them
	flying  int           // on their way
	results chan fetched
	heard   time.Time // when something was last fetched or taken
	failed  error     // of a fetch: no other is begun
}

type fetched struct {
	seg wal.Segment
	err error
}

// run fetches and looks what was taken.
func (w *aheadWork) run(ctx context.Context) error {
	look := time.NewTicker(aheadLook)
	defer look.Stop()
	for {
		w.look()
		w.begin(ctx)
		done := w.flying == 0 && len(w.there) == 0 && (len(w.coming) == 0 || w.failed != nil)
		if done || !w.recovers() || time.Since(w.heard) > aheadIdle && w.flying == 0 {
			return w.failed
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case r := <-w.results:
			w.landed(r)
		case <-look.C:
		}
	}
}

func (w *aheadWork) name(seg wal.Segment) string { return seg.Name(w.server.route.SegmentSize) }

// begin starts as many fetches as there is room for.
func (w *aheadWork) begin(ctx context.Context) {
	room := min(aheadMost, max(2, int(aheadBytes/w.server.route.SegmentSize.Bytes())))
	for w.failed == nil && len(w.coming) > 0 && w.flying < aheadFetches && w.flying+len(w.there) < room && w.spare() {
		seg := w.coming[0]
		w.coming = w.coming[1:]
		w.flying++
		go func() { w.results <- fetched{seg, w.fetch(ctx, seg)} }()
	}
}

// spare tells whether another segment leaves PostgreSQL room for what it writes. Without room nothing is fetched until some is
// taken or the process has waited long enough.
func (w *aheadWork) spare() bool {
	free, err := w.free(w.dir)
	return err == nil && free >= aheadSpare+int64(w.flying+1)*w.server.route.SegmentSize.Bytes()
}

// fetch ends a panic as a failure: it would end the process with a code that a PostgreSQL which is the first process of its
// container, and whose child this one has become, takes for a crash of its own.
func (w *aheadWork) fetch(ctx context.Context, seg wal.Segment) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("fetch %s: panic: %v", w.name(seg), p)
		}
	}()
	into := w.path(w.name(seg) + unfinished)
	if err := w.server.whole(ctx, seg, into); err != nil {
		return err
	}
	return w.sync(into)
}

// landed gives a segment the name that wal-get looks for.
func (w *aheadWork) landed(r fetched) {
	w.flying--
	w.heard = time.Now()
	name := w.path(w.name(r.seg))
	if r.err == nil && !w.recovers() {
		w.failed = os.Remove(name + unfinished)
		return
	}
	if r.err == nil {
		r.err = os.Rename(name+unfinished, name)
	}
	if r.err != nil {
		w.failed = errors.Join(w.failed, r.err)
		return
	}
	w.there = append(w.there, r.seg)
}

// look notes which segments were taken. One that lies before them is not asked for any more.
func (w *aheadWork) look() {
	var kept []wal.Segment
	taken := wal.Segment{}
	for _, seg := range w.there {
		if _, err := os.Lstat(w.path(w.name(seg))); !errors.Is(err, fs.ErrNotExist) {
			kept = append(kept, seg)
			continue
		}
		w.heard = time.Now()
		if seg.Number > taken.Number {
			taken = seg
		}
	}
	w.there = kept[:0]
	for _, seg := range kept {
		if seg.Number < taken.Number && os.Remove(w.path(w.name(seg))) == nil {
			continue
		}
		w.there = append(w.there, seg)
	}
}

// leave waits for what is on its way and removes what nobody took.
func (w *aheadWork) leave(stop context.CancelFunc) {
	stop()
	for ; w.flying > 0; w.flying-- {
		r := <-w.results
		_ = os.Remove(w.path(w.name(r.seg) + unfinished))
	}
	for _, seg := range w.there {
		_ = os.Remove(w.path(w.name(seg)))
	}
}
