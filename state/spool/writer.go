package spool

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// Writer takes a stream of WAL of one timeline. It belongs to one goroutine. After an error it is of no more use: Close
// it, and ask the spool for its Position again.
type Writer struct {
	s         *Spool
	timeline  wal.Timeline
	completed func(wal.Segment)

	written, flushed wal.LSN

	f        *os.File // of the segment being received; nil: between two
	seg      wal.Segment
	known    wal.LSN // up to here the file's bytes are proven: what comes is compared with them
	readOnly bool    // the segment is complete: everything is compared, nothing is written
	dirty    bool
	adopted  bool        // it has its name, and the spool knows of it
	pending  *completion // of the segment before; nil: it is complete
	next     *prepared
	late     sync.WaitGroup // discards what was prepared too late
	broken   error          // what ended the writer's use
	again    []byte         // buffer for comparing
}

// Writer begins to take WAL of timeline t from position at on, which is Position().Resume, or the start of a segment
// when the spool has nothing there. completed is told each segment that became complete, when it is durable.
func (s *Spool) Writer(t wal.Timeline, at wal.LSN, completed func(wal.Segment)) (*Writer, error) {
	w := &Writer{s: s, timeline: t, completed: completed, written: at, flushed: at}
	if s.o.SegmentSize.Offset(at) == 0 {
		return w, nil
	}
	if err := w.open(); err != nil {
		return nil, err
	}
	if at > w.known {
		w.f.Close()
		return nil, fmt.Errorf("receive from %s: the spool holds timeline %d only up to %s", at, t, w.known)
	}
	return w, nil
}

// Written gives the position up to which bytes were taken.
func (w *Writer) Written() wal.LSN { return w.written }

// Flushed gives the position up to which bytes are durable.
func (w *Writer) Flushed() wal.LSN {
	_ = w.collect(false) // what came of it is told by the next Write or Sync
	return w.flushed
}

// Segment gives the unfinished segment that holds what was taken last, and whether there is one.
func (w *Writer) Segment() (wal.Segment, bool) { return w.seg, w.f != nil && !w.readOnly }

// Write takes the bytes that begin at start, which must be where the last ones ended. Bytes that differ from those that
// are already there give state.CodeFork and change nothing.
func (w *Writer) Write(start wal.LSN, data []byte) error {
	if err := w.collect(false); err != nil {
		return err
	}
	if start != w.written {
		return &state.Error{
			Code: state.CodeIO,
			Text: fmt.Sprintf("the server sent WAL from %s where %s was to follow", start, w.written),
			Hint: "the connection is made anew by itself; if it goes on, look at what stands between pgkeep and the server",
		}
	}
	for len(data) > 0 {
		if w.f == nil {
			if err := w.open(); err != nil {
				return err
			}
		}
		n := min(int64(len(data)), int64(w.seg.End(w.s.o.SegmentSize)-w.written))
		if err := w.put(data[:n]); err != nil {
			return err
		}
		data = data[n:]
		if w.written == w.seg.End(w.s.o.SegmentSize) {
			if err := w.complete(); err != nil {
				return err
			}
		}
	}
	return nil
}

// create makes the file of a segment that the spool knows nothing of.
func (w *Writer) create() (*os.File, error) {
	prepared := w.take(w.seg)
	if w.pending == nil {
		w.adopted = true
		return w.s.create(w.seg, prepared)
	}
	return openNew(w.path(), prepared)
}

// put takes bytes of one segment: those below known are compared, the others written.
func (w *Writer) put(data []byte) error {
	if w.written < w.known {
		n := min(int64(len(data)), int64(w.known-w.written))
		if err := w.compare(data[:n]); err != nil {
			return err
		}
		w.written += wal.LSN(n)
		data = data[n:]
	}
	if len(data) == 0 {
		return nil
	}
	w.dirty = true
	if _, err := w.f.WriteAt(data, w.offset()); err != nil {
		return w.fail("write segment", err, false)
	}
	w.written += wal.LSN(len(data))
	return nil
}

func (w *Writer) offset() int64 { return w.s.o.SegmentSize.Offset(w.written) }

func (w *Writer) compare(data []byte) error {
	if cap(w.again) < len(data) {
		w.again = make([]byte, len(data))
	}
	have := w.again[:len(data)]
	if _, err := w.f.ReadAt(have, w.offset()); err != nil && !errors.Is(err, io.EOF) {
		return w.fail("read segment", err, false)
	}
	if bytes.Equal(have, data) {
		return nil
	}
	i := 0
	for have[i] == data[i] {
		i++
	}
	return &state.Error{
		Code: state.CodeFork,
		Text: fmt.Sprintf("the server sends other WAL than %s holds: timeline %d differs at %s", w.s.dir, w.timeline, w.written+wal.LSN(i)),
		Hint: "two servers wrote the same timeline; find out which is the right one before anything is deleted",
	}
}

// Sync makes what was taken durable. After an error nothing more may be taken.
func (w *Writer) Sync() error {
	if err := w.collect(true); err != nil {
		return err
	}
	if err := w.adopt(); err != nil {
		return err
	}
	if w.dirty {
		if err := w.s.syncData(w.f); err != nil {
			return w.fail("fsync segment", err, true)
		}
		w.dirty = false
		w.note()
	}
	w.flushed = w.written
	return nil
}

// note tells the spool how far the partial is durable.
func (w *Writer) note() {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	proven := max(w.written, w.known)
	x := w.s.files.partial[w.seg]
	w.s.files.partial[w.seg] = extent{valid: max(proven, x.valid), known: proven, kept: x.kept}
}

// datasync is fsync without the times of the file.
func datasync(f *os.File) error {
	for {
		if err := unix.Fdatasync(int(f.Fd())); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// open opens the segment that holds the next byte.
func (w *Writer) open() error {
	z := w.s.o.SegmentSize
	seg := z.SegmentAt(w.timeline, w.written)
	w.s.mu.Lock()
	done, complete := w.s.files.complete[seg]
	x, begun := w.s.files.partial[seg]
	w.s.mu.Unlock()
	var err error
	w.seg, w.readOnly, w.adopted = seg, complete, complete || begun
	switch {
	case complete:
		w.known = seg.End(z)
		w.f, err = os.Open(w.s.path(seg, ending(done)))
	case begun:
		w.known = x.known
		w.f, err = w.s.reopen(seg, x)
	default:
		w.known = seg.Start(z)
		if err = w.s.checkRoomBeside(w.unnamed()); err == nil {
			w.f, err = w.create()
		}
	}
	if err != nil {
		w.s.makeRoom(err)
		_ = w.collect(true) // what was complete before counts
	}
	w.broken = problem("open segment "+seg.Name(z), err)
	return w.broken
}

// fail gives the file up.
func (w *Writer) fail(doing string, err error, suspect bool) error {
	name := w.seg.Name(w.s.o.SegmentSize)
	w.abandon(suspect)
	w.s.makeRoom(err)
	w.broken = problem(doing+" "+name, err)
	return w.broken
}

// Close makes what was taken durable, if it can, and closes the file. After an error of the file it gives that again.
func (w *Writer) Close() error {
	w.forget()
	defer w.late.Wait()
	if err := w.collect(true); err != nil || w.f == nil {
		return err
	}
	if err := w.Sync(); err != nil {
		return err
	}
	err := w.f.Close()
	w.f = nil
	return problem("close segment "+w.seg.Name(w.s.o.SegmentSize), err)
}
