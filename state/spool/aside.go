package spool

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// The endings of files in quarantine/ and diverged/, before their number.
const (
	openSuffix   = ".open"   // the segment is to be fetched again
	closedSuffix = ".closed" // it was
	aheadSuffix  = ".ahead"  // WAL that a promoted server never had
	forkSuffix   = ".fork"   // WAL that a repository holds otherwise
)

// Quarantine puts a complete segment aside whose own checksums fail. It is Missing until Replace.
func (s *Spool) Quarantine(seg wal.Segment) error {
	return s.setAside(seg, s.quarantineDir(), openSuffix)
}

// Fork puts a complete segment aside that a repository holds with other bytes. The spool is refused until a person took
// it out of diverged/.
func (s *Spool) Fork(seg wal.Segment) error {
	return s.setAside(seg, s.divergedDir(), forkSuffix)
}

func (s *Spool) setAside(seg wal.Segment, dir, why string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	done, have := s.files.complete[seg]
	if !have {
		return nil
	}
	name := seg.Name(s.o.SegmentSize)
	err := os.Rename(s.path(seg, ending(done)), s.freeName(dir, name+why))
	if err == nil {
		delete(s.files.complete, seg)
		err = errors.Join(syncDir(dir), syncDir(s.dir))
	}
	return problem("put segment "+name+" aside", err)
}

// missing lists the segments that are to be fetched again.
func (s *Spool) missing() ([]wal.Segment, error) {
	files, err := names(s.quarantineDir())
	if err != nil {
		return nil, err
	}
	var out []wal.Segment
	for _, name := range files {
		base, _ := splitName(name)
		if !strings.HasSuffix(base, openSuffix) {
			continue
		}
		seg, err := wal.ParseSegmentName(strings.TrimSuffix(base, openSuffix), s.o.SegmentSize)
		if err != nil {
			continue
		}
		if !s.files.has(seg) {
			out = append(out, seg)
		}
	}
	return out, nil
}

// Replace puts a whole segment, read from r, in the place of one in quarantine, and tells whether it has the same bytes.
func (s *Spool) Replace(seg wal.Segment, r io.Reader) (same bool, err error) {
	name := seg.Name(s.o.SegmentSize)
	path := s.path(seg, "")
	if err := s.install(path, r, s.o.SegmentSize.Bytes()); err != nil {
		return false, problem("fetch segment "+name+" again", err)
	}
	s.mu.Lock()
	s.files.complete[seg] = false
	s.mu.Unlock()
	same, err = s.closeQuarantine(seg)
	return same, problem("close the quarantine of segment "+name, err)
}

// GiveUp says that a segment in quarantine cannot be fetched again: a gap was recorded.
func (s *Spool) GiveUp(seg wal.Segment) error {
	_, err := s.closeQuarantine(seg)
	return problem("close the quarantine of segment "+seg.Name(s.o.SegmentSize), err)
}

// closeQuarantine marks what is kept of a segment as settled, and tells whether one of its files equals the new one.
func (s *Spool) closeQuarantine(seg wal.Segment) (bool, error) {
	files, err := names(s.quarantineDir())
	if err != nil {
		return false, err
	}
	fresh, err := os.ReadFile(s.path(seg, ""))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return false, err
	}
	name := seg.Name(s.o.SegmentSize)
	same := false
	for _, n := range files {
		if !strings.HasPrefix(n, name+openSuffix) {
			continue
		}
		path := filepath.Join(s.quarantineDir(), n)
		equal, err := holds(path, fresh)
		if err != nil {
			return false, err
		}
		same = same || equal
		if err := os.Rename(path, s.freeName(s.quarantineDir(), name+closedSuffix)); err != nil {
			return false, err
		}
	}
	return same, syncDir(s.quarantineDir())
}

// holds tells whether the file has this content, reading it in pieces.
func holds(path string, content []byte) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	piece := make([]byte, 256<<10)
	for {
		n, err := io.ReadFull(f, piece)
		if n > len(content) || !bytes.Equal(piece[:n], content[:n]) {
			return false, nil
		}
		content = content[n:]
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return len(content) == 0, nil
		}
		if err != nil {
			return false, err
		}
	}
}

// GoBack gives up WAL of timeline t from position at on, which the promoted server never had: it is kept under
// diverged/, and the segment that holds the position becomes an unfinished one that ends there. The names of what was
// put aside come back.
func (s *Spool) GoBack(t wal.Timeline, at wal.LSN) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var aside []string
	for _, seg := range s.files.segments() {
		if seg.Timeline != t || seg.End(s.o.SegmentSize) <= at {
			continue
		}
		name, err := s.goBack(seg, at)
		if err != nil {
			return aside, problem("put segment "+seg.Name(s.o.SegmentSize)+" aside", err)
		}
		if name != "" {
			aside = append(aside, name)
		}
	}
	return aside, problem("put divergent segments aside", errors.Join(syncDir(s.divergedDir()), syncDir(s.dir)))
}

// Left gives the newest timeline of which GoBack gave up WAL; zero: none. What it puts aside stays, so that this is known
// after a restart too.
func (s *Spool) Left() (wal.Timeline, error) {
	files, err := names(s.divergedDir())
	if err != nil {
		return 0, problem("list diverged segments", err)
	}
	var newest wal.Timeline
	for _, n := range files {
		base, _ := splitName(n)
		if !strings.HasSuffix(base, aheadSuffix) {
			continue
		}
		seg, err := wal.ParseSegmentName(strings.TrimSuffix(base, aheadSuffix), s.o.SegmentSize)
		if err == nil {
			newest = max(newest, seg.Timeline)
		}
	}
	return newest, nil
}

func (s *Spool) goBack(seg wal.Segment, at wal.LSN) (string, error) {
	z := s.o.SegmentSize
	done, complete := s.files.complete[seg]
	x := s.files.partial[seg]
	if !complete && x.valid <= at {
		return "", nil
	}
	from := s.path(seg, partialSuffix)
	if complete {
		from = s.path(seg, ending(done))
	}
	to := s.freeName(s.divergedDir(), seg.Name(z)+aheadSuffix)
	if seg.Start(z) >= at {
		delete(s.files.complete, seg)
		delete(s.files.partial, seg)
		return filepath.Base(to), os.Rename(from, to)
	}
	if err := s.copyFile(from, to); err != nil {
		return "", err
	}
	if complete {
		if err := os.Rename(from, s.path(seg, partialSuffix)); err != nil {
			return "", err
		}
		delete(s.files.complete, seg)
	}
	known := at
	if !complete {
		known = min(at, x.known)
	}
	s.files.partial[seg] = extent{valid: at, known: known}
	return filepath.Base(to), s.cut(seg, at)
}

func (s *Spool) copyFile(from, to string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	return s.install(to, f, -1)
}

func (s *Spool) cut(seg wal.Segment, at wal.LSN) error {
	f, err := os.OpenFile(s.path(seg, partialSuffix), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	err = f.Truncate(int64(at - seg.Start(s.o.SegmentSize)))
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// RefuseFork gives state.CodeFork while diverged/ holds a segment that a repository has with other bytes.
func (s *Spool) RefuseFork() error {
	files, err := names(s.divergedDir())
	if err != nil {
		return problem("list diverged segments", err)
	}
	for _, n := range files {
		if strings.Contains(n, forkSuffix) {
			return &state.Error{
				Code: state.CodeFork,
				Text: fmt.Sprintf("%s holds %s, which a repository has with other bytes: two servers wrote the same timeline", s.divergedDir(), n),
				Hint: "find out which server is the right one; receiving goes on once that file is moved away",
			}
		}
	}
	return nil
}
