package seal

import (
	"fmt"
	"io"
	"os"
)

// spillAt is how much of an object is held in memory; what is longer goes to a file that has no name.
const spillAt = 24 << 20

// spill is a buffer that is written once and then read at any place, as a put that may be tried again does.
type spill struct {
	dir  string // of the file; empty: the system's directory for temporary files
	at   int    // memory bound
	mem  []byte
	file *os.File
	size int64
}

// Write appends p.
func (s *spill) Write(p []byte) (int, error) {
	if s.file == nil && len(s.mem)+len(p) > s.at {
		if err := s.open(); err != nil {
			return 0, err
		}
	}
	if s.file == nil {
		s.mem = append(s.mem, p...)
		s.size += int64(len(p))
		return len(p), nil
	}
	n, err := s.file.WriteAt(p, s.size-int64(len(s.mem)))
	s.size += int64(n)
	return n, err
}

// open makes the file and takes its name away at once, so that nothing is left behind however the process ends.
func (s *spill) open() error {
	f, err := os.CreateTemp(s.dir, "pgkeep-*")
	if err != nil {
		return fmt.Errorf("make room for a large object: %w", err)
	}
	s.file = f
	if err := os.Remove(f.Name()); err != nil {
		return fmt.Errorf("make room for a large object: %w", err)
	}
	return nil
}

// ReadAt is io.ReaderAt's.
func (s *spill) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off >= s.size {
		return 0, io.EOF
	}
	n := 0
	if off < int64(len(s.mem)) {
		n = copy(p, s.mem[off:])
	}
	if n == len(p) {
		return n, nil
	}
	if s.file == nil {
		return n, io.EOF
	}
	m, err := s.file.ReadAt(p[n:], off+int64(n)-int64(len(s.mem)))
	return n + m, err
}

// Close frees the file.
func (s *spill) Close() error {
	s.mem = nil
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}
