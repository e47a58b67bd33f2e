package repository

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/wal"
)

func isAbsent(err error) bool { return errors.Is(err, store.ErrNotExist) }

// PutPartial archives what there is of an unfinished segment: plain from its start up to upTo. What stands in it is read on the
// way. Each push is an object of its own; the longest counts, and those of a segment that is archived whole go with DeleteWAL.
func (c *Cluster) PutPartial(ctx context.Context, seg wal.Segment, upTo wal.LSN, plain io.ReaderAt) error {
	z, err := c.segmentSize(ctx)
	if err != nil {
		return err
	}
	if upTo <= seg.Start(z) || upTo > seg.End(z) {
		return fmt.Errorf("archive a part of segment %s: %s does not lie in it", seg.Name(z), upTo)
	}
	n := walName{Segment: seg, Offset: int64(upTo - seg.Start(z))}
	sum, err := c.summarize(seg, z, io.NewSectionReader(plain, 0, n.Offset))
	if err != nil {
		return fmt.Errorf("archive a part of segment %s: %w", seg.Name(z), err)
	}
	return c.putWAL(ctx, n, z, sum, plain)
}

// longestPartial finds the partial that reaches farthest.
func (c *Cluster) longestPartial(ctx context.Context, seg wal.Segment, z wal.SegmentSize) (walName, error) {
	var best walName
	prefix := c.key.segmentFile(seg, z) + ".partial-"
	for info, err := range c.repo.st.List(ctx, prefix, "", false) {
		if err != nil {
			return walName{}, fmt.Errorf("look for parts of segment %s: %w", seg.Name(z), err)
		}
		if n, ok := c.key.parseWALFile(info.Key, z); ok && n.Offset > best.Offset {
			best = n
		}
	}
	if !best.partial() {
		return walName{}, fmt.Errorf("part of segment %s: %w", seg.Name(z), store.ErrNotExist)
	}
	return best, nil
}

// OpenPartial opens the longest archived part of a segment and tells up to where it reaches. The error wraps store.ErrNotExist when the
// repository answered that it has none. The caller closes the reader.
func (c *Cluster) OpenPartial(ctx context.Context, seg wal.Segment) (*WALReader, wal.LSN, error) {
	z, err := c.segmentSize(ctx)
	if err != nil {
		return nil, 0, err
	}
	n, err := c.longestPartial(ctx, seg, z)
	if err != nil {
		return nil, 0, err
	}
	w, err := c.openWAL(ctx, n, z)
	if err != nil {
		return nil, 0, err
	}
	return w, seg.Start(z) + wal.LSN(n.Offset), nil
}
