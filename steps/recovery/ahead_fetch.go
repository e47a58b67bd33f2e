package recovery

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/pgkeep/pgkeep/state/wal"
)

// FetchAhead fetches segments of a route that come after one, until PostgreSQL's recovery is over, nothing is asked for any
// more, or a segment cannot be had: wal-get then asks for it, and says why. One process does so at a time; others end at once.
func FetchAhead(ctx context.Context, route, after string) error {
	return fetchAhead(ctx, route, after, (*routeFile).open)
}

func fetchAhead(ctx context.Context, path, after string, open func(*routeFile, context.Context) *server) error {
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
	if err := os.MkdirAll(a.dir, 0o700); err != nil {
		return fmt.Errorf("fetch ahead: %w", err)
	}
	lock := a.lock()
	short, cancel := context.WithTimeout(ctx, time.Second) // a look whether somebody holds it holds it too
	defer cancel()
	if held, err := lock.TryLockContext(short, aheadLook); !held {
		if errors.Is(err, context.DeadlineExceeded) {
			return nil
		}
		return err
	}
	defer func() { _ = lock.Unlock() }()
	if err := a.clear(); err != nil {
		return fmt.Errorf("fetch ahead: %w", err)
	}
	ctx, stop := context.WithCancel(ctx)
	w := &aheadWork{ahead: a, server: open(route, ctx), results: make(chan fetched), heard: time.Now(), coming: route.wholeAfter(first)}
	defer w.leave(stop)
	return w.run(ctx)
}

// clear removes what earlier routes, boots and processes have left.
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
		if e.Name() != "lock" {
			err = errors.Join(err, os.Remove(a.path(e.Name())))
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
			err = s.write(r, seg, seg.End(s.route.SegmentSize), true, into)
		}
		if err == nil {
			return nil
		}
		failed = append(failed, err)
	}
	return s.verdict(failed)
}

// aheadWork is one process that fetches.
type aheadWork struct {
	ahead
	server  *server
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
	for w.failed == nil && len(w.coming) > 0 && w.flying < aheadFetches && w.flying+len(w.there) < room {
		seg := w.coming[0]
		w.coming = w.coming[1:]
		w.flying++
		go func() { w.results <- fetched{seg, w.server.whole(ctx, seg, w.path(w.name(seg)+unfinished))} }()
	}
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
