package spool

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pgkeep/pgkeep/state/wal"
)

func (s *Spool) divergedDir() string   { return filepath.Join(s.dir, "diverged") }
func (s *Spool) quarantineDir() string { return filepath.Join(s.dir, "quarantine") }

// path gives the file of a segment with this ending.
func (s *Spool) path(seg wal.Segment, ending string) string {
	return filepath.Join(s.dir, seg.Name(s.o.SegmentSize)+ending)
}

func ending(done bool) string {
	if done {
		return doneSuffix
	}
	return ""
}

// freeName gives a path in dir that no file has, from a base name.
func (s *Spool) freeName(dir, base string) string {
	for n := 1; ; n++ {
		path := filepath.Join(dir, fmt.Sprintf("%s.%d", base, n))
		if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
			return path
		}
	}
}

// Position tells how far the spool reaches.
func (s *Spool) Position() Position {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.files.position(s.o.SegmentSize)
}

// OpenSegment opens a complete segment for reading. os.ErrNotExist when the spool does not have it.
func (s *Spool) OpenSegment(seg wal.Segment) (*os.File, error) {
	s.mu.Lock()
	done, have := s.files.complete[seg]
	s.mu.Unlock()
	if !have {
		return nil, fmt.Errorf("open segment %s of the spool: %w", seg.Name(s.o.SegmentSize), os.ErrNotExist)
	}
	f, err := os.Open(s.path(seg, ending(done)))
	return f, problem("open segment "+seg.Name(s.o.SegmentSize), err)
}

// OpenPartial opens an unfinished segment for reading. os.ErrNotExist when there is none of that number; it may have
// been completed since.
func (s *Spool) OpenPartial(seg wal.Segment) (*os.File, error) {
	f, err := os.Open(s.path(seg, partialSuffix))
	return f, problem("open unfinished segment "+seg.Name(s.o.SegmentSize), err)
}

// Work lists what waits to go into the repositories, and removes unfinished segments that came to nothing. It is true
// until the first Write.
func (s *Spool) Work() (Work, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var w Work
	for t := range s.files.histories {
		w.Histories = append(w.Histories, t)
	}
	slices.Sort(w.Histories)
	if err := s.removeEmpty(); err != nil {
		return w, problem("tidy spool "+s.dir, err)
	}
	segs := s.files.segments()
	for i, seg := range segs {
		done, complete := s.files.complete[seg]
		switch {
		case done:
			w.Before = append(w.Before, seg)
		case complete:
			w.Segments = append(w.Segments, seg)
		case i < len(segs)-1: // a timeline that was left, or WAL before a gap
			if x := s.files.partial[seg]; x.valid > seg.Start(s.o.SegmentSize) {
				w.Ended = append(w.Ended, Ended{Segment: seg, UpTo: x.valid})
			}
		}
	}
	var err error
	if w.Gaps, err = s.readGaps(); err != nil {
		return w, problem("read the gaps of spool "+s.dir, err)
	}
	w.Missing, err = s.missing()
	return w, problem("list quarantine of spool "+s.dir, err)
}

// removeEmpty removes unfinished segments before the last that hold no WAL: a kill left one when its first bytes had come
// and none was whole, and then the stream went on elsewhere, behind a gap or on another timeline. No repository takes a
// part of a segment that has no bytes. The last one stays, for it is where the stream goes on.
func (s *Spool) removeEmpty() error {
	segs := s.files.segments()
	for _, seg := range segs[:max(0, len(segs)-1)] {
		x, begun := s.files.partial[seg]
		if !begun || max(x.valid, x.kept) > seg.Start(s.o.SegmentSize) {
			continue
		}
		if err := s.remove(s.path(seg, partialSuffix)); err != nil {
			return err
		}
		delete(s.files.partial, seg)
	}
	return nil
}

// Done says that every repository holds a complete segment. Its file becomes .done, and those before it go: but for the ones in which
// a record lies that may cross its end, without which what comes of that record could not be checked. They go too where room is scarce: the
// record's end may need it.
func (s *Spool) Done(seg wal.Segment) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	done, have := s.files.complete[seg]
	if !have || done {
		return nil
	}
	if err := os.Rename(s.path(seg, ""), s.path(seg, doneSuffix)); err != nil {
		return problem("mark segment "+seg.Name(s.o.SegmentSize)+" as archived", err)
	}
	s.files.complete[seg] = true
	first := s.firstOfRecord(seg)
	if kept := int64(seg.Number - first.Number); kept > 0 && !s.spare(kept) {
		first = seg
	}
	return s.removeDone(first)
}

// removeDone removes what every repository holds and lies before a segment.
func (s *Spool) removeDone(first wal.Segment) error {
	for old, done := range s.files.complete {
		if !done || compareSegments(old, first) >= 0 {
			continue
		}
		if err := s.remove(s.path(old, doneSuffix)); err != nil {
			return problem("remove archived segment "+old.Name(s.o.SegmentSize), err)
		}
		delete(s.files.complete, old)
	}
	return nil
}

// firstOfRecord goes back from a segment to the one in which the record begins that may cross its end, as far as they are at hand.
func (s *Spool) firstOfRecord(seg wal.Segment) wal.Segment {
	for range s.o.SegmentSize.LongestRecord() {
		if seg.Number == 0 {
			break
		}
		before := wal.Segment{Timeline: seg.Timeline, Number: seg.Number - 1}
		f, err := os.Open(s.path(seg, ending(s.files.complete[seg])))
		if err != nil {
			break
		}
		within := wal.Within(s.o.SegmentSize, f)
		f.Close()
		if !within || !s.files.has(before) {
			break
		}
		seg = before
	}
	return seg
}

// DoneEnded says that every repository holds the unfinished last segment of a timeline that was left.
func (s *Spool) DoneEnded(seg wal.Segment) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, have := s.files.partial[seg]; !have {
		return nil
	}
	if err := s.remove(s.path(seg, partialSuffix)); err != nil {
		return problem("remove archived segment "+seg.Name(s.o.SegmentSize), err)
	}
	delete(s.files.partial, seg)
	return nil
}

// remove deletes a file; that it is gone already is no error. The name may come back after a power cut, which hurts
// nothing: it is archived again as the same bytes.
func (s *Spool) remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// install writes a whole file under a new name that is durable when it returns. The length must be want; negative: any.
func (s *Spool) install(path string, r io.Reader, want int64) error {
	temporary := path + newSuffix
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	n, err := io.Copy(f, r)
	if err == nil && want >= 0 && n != want {
		err = fmt.Errorf("%d bytes came, %d were to: %w", n, want, io.ErrUnexpectedEOF)
	}
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		os.Remove(temporary)
		return err
	}
	return syncDir(filepath.Dir(path))
}

// names lists the regular files of a directory.
func names(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		if e.Type().IsRegular() && !strings.HasSuffix(e.Name(), newSuffix) {
			out = append(out, e.Name())
		}
	}
	return out, nil
}
