package seal

import (
	"fmt"
	"io"
	"os"
)

// spillAt is how much of an object is held in memory, in pieces of spillPiece, so that growing leaves nothing behind; what is
// longer goes to a file that has no name.
const (
	spillAt    = 24 << 20
	spillPiece = 256 << 10
)

// spill is a buffer that is written once and then read at any place, as a put that may be tried again does.
type spill struct {
	dir  string   // of the file; empty: the system's directory for temporary files
	at   int      // memory bound
	mem  [][]byte // all but the last are full
	held int64    // bytes in mem
	file *os.File
	size int64
}

// Write appends p.
func (s *spill) Write(p []byte) (int, error) {
	if s.file == nil && s.held+int64(len(p)) > int64(s.at) {
		if err := s.open(); err != nil {
			return 0, err
		}
	}
	if s.file == nil {
		s.hold(p)
		return len(p), nil
	}
	n, err := s.file.WriteAt(p, s.size-s.held)
	s.size += int64(n)
	return n, err
}

func (s *spill) hold(p []byte) {
	s.held += int64(len(p))
	s.size = s.held
	for len(p) > 0 {
		last := len(s.mem) - 1
		if last < 0 || len(s.mem[last]) == spillPiece {
			s.mem = append(s.mem, make([]byte, 0, spillPiece))
			continue
		}
		n := min(len(p), spillPiece-len(s.mem[last]))
		s.mem[last] = append(s.mem[last], p[:n]...)
		p = p[n:]
	}
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
	for at := off; n < len(p) && at < s.held; at = off + int64(n) {
		n += copy(p[n:], s.mem[at/spillPiece][at%spillPiece:])
	}
	if n == len(p) {
		return n, nil
	}
	if s.file == nil {
		return n, io.EOF
	}
	m, err := s.file.ReadAt(p[n:], off+int64(n)-s.held)
	return n + m, err
}

// Close frees the file.
func (s *spill) Close() error {
	s.mem, s.held = nil, 0
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}
