package repository

import (
	"context"
	"fmt"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/pgkeep/pgkeep/state/repository/seal"
)

// orderedChunk is how many bytes of files are put together at once: frames that a chunk needs more than once are read once.
const orderedChunk = 4 << 20

// InOrder visits every wanted member in the order of Files, and the bytes of each regular file from its first to its last.
// A member without bytes is visited once, with no data; a file of several stretches once for each. Frames are read and
// proved by several goroutines ahead of visit, which is called by one; its error ends the read. Memory is bounded by
// o.Workers chunks of 4 MiB, twice, and what a range of a volume takes; o.Budget is not used. f and data are valid during
// the call only.
func (b *BackupReader) InOrder(ctx context.Context, o PieceOptions, visit func(f *File, offset int64, data []byte) error) error {
	workers := o.Workers
	if workers <= 0 {
		workers = min(runtime.GOMAXPROCS(0), 4)
	}
	group, ctx := errgroup.WithContext(ctx)
	work, ordered := make(chan *orderedPart), make(chan *orderedPart, workers)
	for range workers {
		group.Go(func() error { return b.fillChunks(ctx, work) })
	}
	group.Go(func() error {
		defer close(work)
		defer close(ordered)
		return b.cutChunks(ctx, o.Want, func(c *orderedPart) error {
			for _, to := range []chan *orderedPart{ordered, work} {
				select {
				case <-ctx.Done():
					return context.Cause(ctx)
				case to <- c:
				}
			}
			return nil
		})
	})
	group.Go(func() error {
		for c := range ordered {
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-c.filled:
			}
			for _, s := range c.stretches {
				if err := visit(s.file, s.offset, c.data[s.at:s.at+s.length]); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err := group.Wait(); err != nil {
		return fmt.Errorf("read backup %s: %w", b.rec.id, err)
	}
	return nil
}

// orderedPart is a run of members, with the bytes of those that have any.
type orderedPart struct {
	stretches []stretch
	size      int
	data      []byte
	filled    chan struct{}
}

type stretch struct {
	file   *File
	part   File // the file with the extents of this stretch alone
	offset int64
	at     int // in the chunk's data
	length int
}

// cutChunks cuts the backup into chunks.
func (b *BackupReader) cutChunks(ctx context.Context, want func(*File) bool, emit func(*orderedPart) error) error {
	for n := range b.rec.decided.FileShards {
		files, err := b.fileShard(ctx, n)
		if err != nil {
			return err
		}
		c := &orderedPart{filled: make(chan struct{})}
		for i := range files {
			f := &files[i]
			if want != nil && !want(f) {
				continue
			}
			for rest := f.Extents; ; {
				taken := c.take(f, rest)
				if rest = rest[taken:]; len(rest) == 0 {
					break
				}
				if err := emit(c); err != nil {
					return err
				}
				c = &orderedPart{filled: make(chan struct{})}
			}
		}
		if err := emit(c); err != nil {
			return err
		}
	}
	return nil
}

// take adds as many of a file's extents as there is room for, at least one to an empty chunk, and says how many.
func (c *orderedPart) take(f *File, extents []Extent) int {
	s := stretch{file: f, at: c.size}
	n := 0
	for ; n < len(extents) && (c.size == 0 || c.size+extents[n].Length <= orderedChunk); n++ {
		c.size += extents[n].Length
	}
	if n == 0 && len(extents) > 0 {
		return 0
	}
	if n > 0 {
		s.offset = extents[0].Offset
	}
	s.part = *f
	s.part.Extents = extents[:n]
	s.length = c.size - s.at
	c.stretches = append(c.stretches, s)
	return n
}

// fillChunks reads what chunks need until there are no more.
func (b *BackupReader) fillChunks(ctx context.Context, work <-chan *orderedPart) error {
	d, err := seal.NewDeframer()
	if err != nil {
		return err
	}
	defer d.Close()
	for c := range work {
		if err := b.fillChunk(ctx, c, d); err != nil {
			return err
		}
		close(c.filled)
	}
	return nil
}

func (b *BackupReader) fillChunk(ctx context.Context, c *orderedPart, d *seal.Deframer) error {
	c.data = make([]byte, c.size)
	parts := make([]File, len(c.stretches))
	into := make(map[*File]*stretch, len(parts))
	for i := range c.stretches {
		parts[i] = c.stretches[i].part
		into[&parts[i]] = &c.stretches[i]
	}
	job := pieceJob{b: b, d: d, write: func(p Piece) error {
		s := into[p.File]
		copy(c.data[s.at+int(p.Offset-s.offset):], p.Data)
		return nil
	}}
	for _, j := range planReads(parts, PieceOptions{}) {
		if err := job.run(ctx, j); err != nil {
			return err
		}
	}
	return nil
}
