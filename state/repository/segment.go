package repository

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/seal"
	"github.com/pgkeep/pgkeep/state/wal"
)

// PutSegment archives a whole segment: the first SegmentSize bytes of plain. It is durable on return. The same bytes again are
// success; other bytes are CodeFork. Segments of one timeline must be put in order: DurableEnd relies on it.
func (c *Cluster) PutSegment(ctx context.Context, seg wal.Segment, sum wal.Summary, plain io.ReaderAt) error {
	p, err := c.PackSegment(ctx, seg, sum, plain)
	if err != nil {
		return err
	}
	defer p.Close()
	return p.Put(ctx)
}

// PackedSegment is a segment that was compressed and waits to be put: many may be packed at once, while they are put in order. The
// caller closes it. It holds up to 24 MiB.
type PackedSegment struct{ *packedObject }

// PackSegment does all of PutSegment that needs no order. It ends early with ctx's error.
func (c *Cluster) PackSegment(ctx context.Context, seg wal.Segment, sum wal.Summary, plain io.ReaderAt) (*PackedSegment, error) {
	z, err := c.segmentSize(ctx)
	if err != nil {
		return nil, err
	}
	o, err := c.packWAL(walName{Segment: seg}, z, sum, &interruptible{ctx: ctx, from: plain})
	if err != nil {
		return nil, err
	}
	return &PackedSegment{o}, nil
}

// Put does the rest of PutSegment, as often as it is called.
func (p *PackedSegment) Put(ctx context.Context) error { return p.put(ctx) }

// Close frees what it holds.
func (p *PackedSegment) Close() error { return p.o.Close() }

// interruptible reads until ctx ends.
type interruptible struct {
	ctx  context.Context
	from io.ReaderAt
}

// ReadAt is io.ReaderAt's.
func (r *interruptible) ReadAt(b []byte, off int64) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.from.ReadAt(b, off)
}

func (c *Cluster) putWAL(ctx context.Context, n walName, z wal.SegmentSize, sum wal.Summary, plain io.ReaderAt) error {
	o, err := c.packWAL(n, z, sum, plain)
	if err != nil {
		return err
	}
	defer o.o.Close()
	return o.put(ctx)
}

func (c *Cluster) packWAL(n walName, z wal.SegmentSize, sum wal.Summary, plain io.ReaderAt) (*packedObject, error) {
	if n.Segment.Timeline == 0 {
		return nil, errors.New("archive WAL: it has no timeline")
	}
	s, size := c.walSealing(n, z), z.Bytes()
	s.info = c.walInfo(n.Segment, z, sum)
	if n.partial() {
		size = n.Offset
	}
	return c.packSealed(s, plain, size)
}

// WALReader gives the plain bytes of an archived whole or partial segment, or of another sealed object. Reading to io.EOF proves them: sizes and
// SHA-256 were checked. Bytes that are not what was written end in an error of CodeCorrupt.
type WALReader struct {
	key   string
	head  walHead
	store io.ReadCloser
	plain *seal.Reader
}

// Read gives plain bytes.
func (w *WALReader) Read(p []byte) (int, error) {
	n, err := w.plain.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = w.fail(err)
	}
	return n, err
}

func (w *WALReader) fail(err error) error {
	if state.CodeOf(err) != "" {
		return err
	}
	if errors.Is(err, seal.ErrCorrupt) {
		return corrupt(w.key, err)
	}
	return fmt.Errorf("read %s: %w", w.key, code(err))
}

// Close ends the read.
func (w *WALReader) Close() error { return errors.Join(w.plain.Close(), w.store.Close()) }

// Summary gives what the segment holds, as its note says.
func (w *WALReader) Summary() wal.Summary { return w.head.info.Summary }

// Size gives the number of plain bytes.
func (w *WALReader) Size() int64 { return w.head.plain.Size }

// SHA256 gives the SHA-256 of the plain bytes, in hexadecimal digits.
func (w *WALReader) SHA256() string { return w.head.plain.SHA256 }

// openSealed opens any sealed object and gives its note.
func (c *Cluster) openSealed(ctx context.Context, key string) (*WALReader, seal.Meta, error) {
	r, err := c.repo.st.Get(ctx, key, 0, -1)
	if err != nil {
		return nil, seal.Meta{}, fmt.Errorf("get %s: %w", key, err)
	}
	w := &WALReader{key: key, store: r}
	if w.plain, err = seal.Open(r); err != nil {
		r.Close()
		return nil, seal.Meta{}, w.fail(err)
	}
	w.head.plain = w.plain.Meta().Plain
	return w, w.plain.Meta(), nil
}

// readSealed reads a whole sealed object of at most limit plain bytes.
func (c *Cluster) readSealed(ctx context.Context, key, kind string, limit int64) ([]byte, seal.Meta, error) {
	w, m, err := c.openSealed(ctx, key)
	if err != nil {
		return nil, m, err
	}
	defer w.Close()
	if m.Kind != kind || m.Plain.Size > limit {
		return nil, m, corrupt(key, fmt.Errorf("it is a %s of %d bytes", m.Kind, m.Plain.Size))
	}
	b, err := io.ReadAll(w)
	return b, m, err
}

func (c *Cluster) openWAL(ctx context.Context, n walName, z wal.SegmentSize) (*WALReader, error) {
	key := c.key.walFile(n, z)
	w, m, err := c.openSealed(ctx, key)
	if err != nil {
		return nil, err
	}
	if w.head, err = c.checkHead(m, n, z); err != nil {
		w.Close()
		return nil, corrupt(key, err)
	}
	return w, nil
}

// OpenSegment opens an archived whole segment. The error wraps store.ErrNotExist when the repository answered that it has none. The caller
// closes the reader.
func (c *Cluster) OpenSegment(ctx context.Context, seg wal.Segment) (*WALReader, error) {
	z, err := c.segmentSize(ctx)
	if err != nil {
		return nil, err
	}
	return c.openWAL(ctx, walName{Segment: seg}, z)
}

// SegmentSummary tells what an archived whole segment holds, or else its longest partial, from the note alone. The error wraps
// store.ErrNotExist when there is neither.
func (c *Cluster) SegmentSummary(ctx context.Context, seg wal.Segment) (wal.Summary, error) {
	z, err := c.segmentSize(ctx)
	if err != nil {
		return wal.Summary{}, err
	}
	h, err := c.head(ctx, walName{Segment: seg}, z)
	if isAbsent(err) {
		var n walName
		if n, err = c.longestPartial(ctx, seg, z); err == nil {
			h, err = c.head(ctx, n, z)
		}
	}
	return h.info.Summary, err
}
