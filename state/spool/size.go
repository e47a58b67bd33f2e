package spool

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/pgkeep/pgkeep/state/wal"
)

// sizeName is the file that tells a cluster's segment size in bytes: without it the names of segments mean nothing.
const sizeName = "segment_size"

// keepSize writes the segment size at first, and compares it later: initdb chooses it for good.
func (s *Spool) keepSize() error {
	z, err := sizeOf(s.dir)
	if err == nil && z == s.o.SegmentSize {
		return nil
	}
	if err == nil {
		return fmt.Errorf("the server has WAL segments of %d bytes, the spool was made for %d", s.o.SegmentSize, z)
	}
	if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	content := strconv.AppendInt(nil, s.o.SegmentSize.Bytes(), 10)
	return s.install(filepath.Join(s.dir, sizeName), bytes.NewReader(append(content, '\n')), -1)
}

// sizeOf reads a cluster's segment size.
func sizeOf(dir string) (wal.SegmentSize, error) {
	content, err := os.ReadFile(filepath.Join(dir, sizeName))
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(string(bytes.TrimSpace(content)), 10, 32)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", filepath.Join(dir, sizeName), err)
	}
	z := wal.SegmentSize(n)
	return z, z.Check()
}
