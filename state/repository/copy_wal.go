package repository

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sync/errgroup"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/seal"
	"github.com/pgkeep/pgkeep/state/wal"
)

// WALCopyOptions go with CopyWAL.
type WALCopyOptions struct {
	Ranges    []wal.Range    // from segment border to segment border
	Histories []wal.Timeline // whose history files are copied first
	Report    func(done, total int64)
}

// CopiedWAL says what a copy of WAL has brought.
type CopiedWAL struct {
	Segments int // whole ones and parts
	Bytes    int64
}

// CopyWAL copies archived WAL into another repository, segment by segment in order, each proved to its last byte before it is
// put, and compressed as the other repository does. History files come first, the index last. What is there already is left
// as it is; other bytes under the same name, or under that of a neighbour of what is copied, are CodeFork: two servers have written
// that timeline, and a mixture of both would be nobody's history. A segment that is damaged here is left out, and the others
// are copied: the error is of CodeCorrupt and names it. One that was pruned meanwhile is CodeStale.
func CopyWAL(ctx context.Context, from, to *Cluster, o WALCopyOptions) (CopiedWAL, error) {
	c := &walCopy{from: from, to: to, o: o}
	if err := c.run(ctx); err != nil {
		return c.copied, fmt.Errorf("copy WAL of %s: %w", from.key.Name, err)
	}
	return c.copied, nil
}

// walCopy is one run of CopyWAL.
type walCopy struct {
	from, to    *Cluster
	o           WALCopyOptions
	z           wal.SegmentSize
	copied      CopiedWAL
	done, total int64
	damaged     []error
}

func (c *walCopy) run(ctx context.Context) error {
	if err := copyable(c.from, c.to); err != nil {
		return err
	}
	facts, err := c.from.Facts(ctx)
	if err != nil {
		return err
	}
	if err := c.to.ensureLike(ctx, facts); err != nil {
		return err
	}
	c.z = facts.SegmentSize
	for _, t := range c.o.Histories {
		content, err := c.from.History(ctx, t)
		if err != nil {
			return err
		}
		if err := c.to.PutHistory(ctx, t, content); err != nil {
			return err
		}
	}
	touched := map[wal.Timeline]bool{}
	for _, r := range c.o.Ranges {
		c.total += r.Bytes()
		touched[r.Timeline] = true
	}
	for _, r := range wal.Merge(c.o.Ranges) {
		if err := c.copyRange(ctx, r); err != nil {
			return err
		}
	}
	for t := range touched { // what lies before the end of an index is seen by nobody until the index names it
		if err := c.to.RebuildIndex(ctx, t); err != nil {
			return err
		}
	}
	return errors.Join(c.damaged...)
}

// readyWAL is one object that was proved and packed.
type readyWAL struct {
	packed *packedObject // nil: it is there already, or damaged
	err    error         // of CodeCorrupt
}

// copyRange packs the next segment while one is put. Puts are in order, which DurableEnd relies on.
func (c *walCopy) copyRange(ctx context.Context, r wal.Range) error {
	first, last := c.z.SegmentAt(r.Timeline, r.From).Number, c.z.SegmentAt(r.Timeline, r.To-1).Number
	for _, n := range []uint64{first - 1, last + 1} { // before the first of all there is none
		if err := c.sameHistory(ctx, wal.Segment{Timeline: r.Timeline, Number: n}); err != nil {
			return err
		}
	}
	group, inner := errgroup.WithContext(ctx)
	ready := make(chan readyWAL, 1)
	group.Go(func() error {
		defer close(ready)
		for n := first; n <= last; n++ {
			p, err := c.pack(inner, wal.Segment{Timeline: r.Timeline, Number: n})
			if err != nil && !isCorrupt(err) {
				return err
			}
			select {
			case <-inner.Done():
				if p != nil {
					_ = p.o.Close() // it holds memory only
				}
				return context.Cause(inner)
			case ready <- readyWAL{packed: p, err: err}:
			}
		}
		return nil
	})
	err := c.putAll(inner, ready)
	for w := range ready {
		if w.packed != nil {
			_ = w.packed.o.Close()
		}
	}
	return errors.Join(err, group.Wait())
}

func (c *walCopy) putAll(ctx context.Context, ready <-chan readyWAL) error {
	for w := range ready {
		switch {
		case w.err != nil:
			c.damaged = append(c.damaged, w.err)
		case w.packed != nil:
			err := w.packed.put(ctx)
			c.copied.Bytes += w.packed.o.Size()
			_ = w.packed.o.Close()
			if err != nil {
				return err
			}
			c.copied.Segments++
		}
		c.done += c.z.Bytes()
		if c.o.Report != nil {
			c.o.Report(min(c.done, c.total), c.total)
		}
	}
	return nil
}

// pack reads and proves one segment, or the longest part of one that was never whole; nil: the other repository has it.
func (c *walCopy) pack(ctx context.Context, seg wal.Segment) (*packedObject, error) {
	there, err := c.to.exists(ctx, c.to.key.segmentFile(seg, c.z))
	if err != nil {
		return nil, err
	}
	if there {
		return nil, c.sameHistory(ctx, seg)
	}
	n := walName{Segment: seg}
	w, err := c.from.OpenSegment(ctx, seg)
	if isAbsent(err) {
		if n, err = c.from.longestPartial(ctx, seg, c.z); err == nil {
			w, err = c.from.openWAL(ctx, n, c.z)
		}
	}
	if isAbsent(err) {
		return nil, &state.Error{
			Code: state.CodeStale, Text: fmt.Sprintf("segment %s is not there any more", seg.Name(c.z)), Hint: "look again: pgkeep plan", Err: err,
		}
	}
	if err != nil {
		return nil, err
	}
	defer w.Close()
	return c.to.repackWAL(n, c.z, w)
}

// sameHistory refuses a segment of which each repository has other bytes. What one of them lacks, or whose note cannot be read,
// says nothing.
func (c *walCopy) sameHistory(ctx context.Context, seg wal.Segment) error {
	if seg.Number > uint64(^wal.LSN(0))/uint64(c.z) {
		return nil
	}
	n := walName{Segment: seg}
	ours, err := c.to.head(ctx, n, c.z)
	if err == nil {
		var theirs walHead
		if theirs, err = c.from.head(ctx, n, c.z); err == nil && theirs.plain.SHA256 != ours.plain.SHA256 {
			return forked(fmt.Sprintf("segment %s of %s", seg.Name(c.z), c.to.key.Name), ours.plain.SHA256, theirs.plain.SHA256)
		}
	}
	if isAbsent(err) || isCorrupt(err) {
		return nil
	}
	return err
}

// repackWAL reads archived WAL of another repository to its end, which proves it, and packs it for this one. What stands in
// it is taken over from its note.
func (c *Cluster) repackWAL(n walName, z wal.SegmentSize, w *WALReader) (*packedObject, error) {
	plain, release, err := wholly(w, w.Size())
	if err != nil {
		return nil, err
	}
	defer release()
	s := c.walSealing(n, z)
	s.info = w.head.info
	return c.packSealed(s, plain, w.Size())
}

// holdInMemory is how long a segment may be to be held in memory while it is copied; a longer one goes to a nameless file.
const holdInMemory = 64 << 20

// wholly reads all of r, which has size bytes, and gives it to be read at any place.
func wholly(r io.Reader, size int64) (plain io.ReaderAt, release func(), err error) {
	if size <= holdInMemory {
		b := make([]byte, size)
		if _, err := io.ReadFull(r, b); err != nil {
			return nil, nil, err
		}
		if err := toEnd(r); err != nil {
			return nil, nil, err
		}
		return bytes.NewReader(b), func() {}, nil
	}
	f, err := os.CreateTemp("", "pgkeep-*")
	if err != nil {
		return nil, nil, fmt.Errorf("make room for a large segment: %w", err)
	}
	release = func() { _ = f.Close() }
	err = os.Remove(f.Name())
	if err == nil {
		_, err = io.Copy(f, r)
	}
	if err != nil {
		release()
		return nil, nil, err
	}
	return f, release, nil
}

// toEnd reads to the end, where a reader of sealed objects has proved what it gave.
func toEnd(r io.Reader) error {
	var one [1]byte
	n, err := r.Read(one[:])
	switch {
	case n > 0:
		return errors.New("read WAL: it is longer than its note says")
	case errors.Is(err, io.EOF):
		return nil
	case err == nil:
		return toEnd(r)
	}
	return err
}

// walSealing says as what a WAL object is put, but for its info.
func (c *Cluster) walSealing(n walName, z wal.SegmentSize) sealing {
	s := sealing{
		key: c.key.walFile(n, z), kind: kindSegment, what: fmt.Sprintf("segment %s of %s", n.Segment.Name(z), c.key.Name),
		check: func(m seal.Meta) error {
			_, err := c.checkHead(m, n, z)
			return err
		},
	}
	if n.partial() {
		s.kind, s.what = kindPartial, fmt.Sprintf("the first %d bytes of %s", n.Offset, s.what)
	}
	return s
}
