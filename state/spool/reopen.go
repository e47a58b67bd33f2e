package spool

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/pgkeep/pgkeep/state/wal"
)

// openNew opens a file of this name: the one that was prepared, or an empty one.
func openNew(path, prepared string) (*os.File, error) {
	flags := os.O_RDWR | os.O_CREATE | os.O_TRUNC | unix.O_NOFOLLOW
	if prepared != "" && os.Rename(prepared, path) == nil {
		flags = os.O_RDWR | unix.O_NOFOLLOW
	}
	return os.OpenFile(path, flags, 0o600)
}

// create begins a segment whose name is durable before any byte of it is acknowledged, in the file that was prepared for it;
// empty: in one that grows.
func (s *Spool) create(seg wal.Segment, prepared string) (*os.File, error) {
	path := s.path(seg, partialSuffix)
	f, err := openNew(path, prepared)
	if err != nil {
		return nil, err
	}
	if err := s.syncDir(s.dir); err != nil {
		f.Close()
		os.Remove(path)
		return nil, err
	}
	start := seg.Start(s.o.SegmentSize)
	s.mu.Lock()
	s.files.partial[seg] = extent{valid: start, known: start}
	s.mu.Unlock()
	return f, nil
}

// reopen goes on with a partial. One whose fsync failed is replaced by a copy of its durable beginning, in a new file.
func (s *Spool) reopen(seg wal.Segment, x extent) (*os.File, error) {
	if x.suspect {
		if err := s.rebuild(seg, x); err != nil {
			return nil, err
		}
	}
	f, err := os.OpenFile(s.path(seg, partialSuffix), os.O_RDWR|unix.O_NOFOLLOW, 0)
	if errors.Is(err, os.ErrNotExist) {
		return s.create(seg, "")
	}
	if err != nil {
		return nil, err
	}
	if err := f.Truncate(int64(max(x.valid, x.kept) - seg.Start(s.o.SegmentSize))); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// rebuild copies the durable beginning of a partial. Where even that cannot be read again, the segment begins anew: the
// server keeps the whole segment that a slot stands in.
func (s *Spool) rebuild(seg wal.Segment, x extent) error {
	path := s.path(seg, partialSuffix)
	n := int64(x.known - seg.Start(s.o.SegmentSize))
	old, err := os.Open(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err == nil {
		err = s.install(path, io.LimitReader(old, n), n)
		old.Close()
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files.partial[seg] = extent{valid: x.known, known: x.known}
	return nil
}
