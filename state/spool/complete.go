package spool

import (
	"os"

	"github.com/pgkeep/pgkeep/state/wal"
)

// completion is a segment that has all its bytes and is made durable beside the stream, which goes on with the next one: a receiver
// that catches up would wait for its disk half of the time. There is one at a time, so that segments become complete in their order. What
// follows it is not durable before it is: until then the next segment has a name that an Open removes, and none of it counts.
type completion struct {
	seg     wal.Segment
	f       *os.File
	path    string
	adopted bool          // its name was that of a partial
	done    chan struct{} // closed when the others are set
	suspect bool          // its fsync failed
	err     error
}

// complete lets a segment that has all its bytes be completed.
func (w *Writer) complete() error {
	if err := w.collect(true); err != nil {
		return err
	}
	if w.readOnly {
		err := w.f.Close()
		w.f, w.flushed = nil, w.written
		w.broken = problem("complete segment "+w.seg.Name(w.s.o.SegmentSize), err)
		return w.broken
	}
	c := &completion{seg: w.seg, f: w.f, path: w.path(), adopted: w.adopted, done: make(chan struct{})}
	w.f, w.dirty, w.pending = nil, false, c
	go func() {
		defer close(c.done)
		c.err = w.s.complete(c, w.completed)
	}()
	return nil
}

// complete makes a segment durable, then gives it its final name, durable too.
func (s *Spool) complete(c *completion, completed func(wal.Segment)) error {
	err := s.syncData(c.f)
	c.suspect = err != nil
	if closed := c.f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(c.path, s.path(c.seg, ""))
	}
	if err != nil {
		return err
	}
	if !c.adopted {
		if err := s.syncDir(s.dir); err != nil {
			_ = os.Remove(s.path(c.seg, "")) // it had no durable name before this one
			return err
		}
	}
	s.mu.Lock()
	delete(s.files.partial, c.seg)
	s.files.complete[c.seg] = false
	s.mu.Unlock()
	completed(c.seg)
	if c.adopted {
		return s.syncDir(s.dir) // its bytes are durable under either name
	}
	return nil
}

// collect takes what came of the segment that is being completed, if any is; wait waits for it.
func (w *Writer) collect(wait bool) error {
	c := w.pending
	if c == nil {
		return w.broken
	}
	if !wait {
		select {
		case <-c.done:
		default:
			return w.broken
		}
	}
	<-c.done
	w.pending = nil
	if c.err == nil {
		w.flushed = max(w.flushed, c.seg.End(w.s.o.SegmentSize))
		return w.broken
	}
	if w.broken == nil {
		w.abandon(false)
	}
	w.s.giveUp(c.seg, c.path, c.adopted, c.suspect)
	w.s.makeRoom(c.err)
	w.broken = problem("complete segment "+c.seg.Name(w.s.o.SegmentSize), c.err)
	return w.broken
}

// unnamed gives how many bytes of the segment that is being completed the spool does not know of.
func (w *Writer) unnamed() int64 {
	if w.pending == nil || w.pending.adopted {
		return 0
	}
	return w.s.o.SegmentSize.Bytes()
}

// adopt gives the unfinished segment its name, durably, once the one before it is complete.
func (w *Writer) adopt() error {
	if w.f == nil || w.adopted {
		return nil
	}
	start := w.seg.Start(w.s.o.SegmentSize)
	named := w.s.path(w.seg, partialSuffix)
	err := os.Rename(w.path(), named)
	if err == nil {
		if err = w.s.syncDir(w.s.dir); err != nil {
			_ = os.Remove(named) // whoever goes on with it would take its name for durable
		}
	}
	if err != nil {
		return w.fail("name segment", err, false)
	}
	w.adopted = true
	w.s.mu.Lock()
	w.s.files.partial[w.seg] = extent{valid: start, known: start}
	w.s.mu.Unlock()
	return nil
}

// path is the name of the segment that is being received.
func (w *Writer) path() string {
	if w.adopted {
		return w.s.path(w.seg, partialSuffix)
	}
	return w.s.path(w.seg, partialSuffix+newSuffix)
}

// abandon gives up the segment that is being received, if any is; suspect: its fsync failed.
func (w *Writer) abandon(suspect bool) {
	if w.f == nil {
		return
	}
	w.f.Close()
	w.f, w.dirty = nil, false
	if !w.readOnly {
		w.s.giveUp(w.seg, w.path(), w.adopted, suspect)
	}
}

// giveUp keeps of a segment what was durable: none of it, as long as it had no name. Of a file whose fsync failed only a copy is used
// again.
func (s *Spool) giveUp(seg wal.Segment, path string, adopted, suspect bool) {
	if !adopted {
		_ = os.Remove(path)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, complete := s.files.complete[seg]; complete {
		return
	}
	x := s.files.partial[seg]
	durable := max(x.known, seg.Start(s.o.SegmentSize))
	s.files.partial[seg] = extent{valid: max(x.valid, durable), known: durable, kept: x.kept, suspect: suspect}
}
