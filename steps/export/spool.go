package export

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
)

// spool keeps the manifest, which grows with the number of files, in an unnamed file until it is written.
type spool struct {
	file *os.File
	*bufio.Writer
}

func newSpool() (*spool, error) {
	f, err := os.CreateTemp("", "pgkeep-manifest-")
	if err != nil {
		return nil, fmt.Errorf("keep the manifest: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, fmt.Errorf("keep the manifest: %w", errors.Join(err, f.Close()))
	}
	return &spool{f, bufio.NewWriterSize(f, 64<<10)}, nil
}

// content gives everything from the first byte.
func (s *spool) content() (io.Reader, error) {
	if err := s.Flush(); err != nil {
		return nil, fmt.Errorf("keep the manifest: %w", err)
	}
	if _, err := s.file.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("keep the manifest: %w", err)
	}
	return s.file, nil
}

func (s *spool) close() { _ = s.file.Close() }
