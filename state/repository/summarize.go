package repository

import (
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/pgkeep/pgkeep/state/wal"
)

// summarize reads what stands in WAL. WAL that no scanner understands is still worth keeping: then the summary says only what
// was read before.
func (c *Cluster) summarize(seg wal.Segment, z wal.SegmentSize, plain io.Reader) (wal.Summary, error) {
	id, err := strconv.ParseUint(c.key.SystemID, 10, 64)
	if err != nil {
		return wal.Summary{}, fmt.Errorf("read system identifier: %w", err)
	}
	scanner := wal.NewScanner(z, id, seg.Timeline)
	scanner.Follow(wal.FollowOptions{})
	sum, err := scanner.Segment(seg, plain, nil)
	var broken *wal.CorruptError
	if errors.As(err, &broken) {
		return sum, nil
	}
	return sum, err
}
