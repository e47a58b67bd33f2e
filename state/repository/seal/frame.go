package seal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// MaxFrame is the most raw bytes that a frame may hold. Frames of data are far shorter; a list of what a backup holds may need some
// megabytes, and more where one relation of many scattered pages lies in a file that is longer than the usual gigabyte.
const MaxFrame = 128 << 20

// frameWindow is how far back a frame refers: no farther than most frames are long. An encoder holds twice as much, and there is one
// for each CPU.
const frameWindow = 512 << 10

// Framer makes independent frames: each decodes alone, and frames after one another decode as one stream, here and with
// the command line tool. A Framer is for one goroutine at a time.
type Framer struct {
	codec Codec
	zstd  *zstd.Encoder
	other compressor // gzip or lz4
}

// NewFramer gives a Framer for a codec that passes Check.
func NewFramer(c Codec) (*Framer, error) {
	f := &Framer{codec: c.Normal()}
	if err := c.Check(); err != nil {
		return nil, err
	}
	var err error
	switch f.codec.Algorithm {
	case Zstd:
		// A single segment always tells its length, which the reader checks before it gives memory.
		f.zstd, err = zstd.NewWriter(nil, append(zstdOptions(f.codec.Level), zstd.WithSingleSegment(true), zstd.WithWindowSize(frameWindow))...)
	case Gzip:
		f.other, err = gzip.NewWriterLevel(io.Discard, f.codec.Level)
	case LZ4:
		f.other, err = newLZ4(f.codec.Level, lz4.Block1Mb)
	}
	if err != nil {
		return nil, fmt.Errorf("set up %s: %w", f.codec.Algorithm, err)
	}
	return f, nil
}

// Frame appends raw, at most MaxFrame bytes, compressed into one frame, to dst.
func (f *Framer) Frame(dst, raw []byte) ([]byte, error) {
	if len(raw) > MaxFrame {
		return dst, fmt.Errorf("compress a frame: %d bytes, at most %d fit", len(raw), MaxFrame)
	}
	if f.zstd != nil {
		return f.zstd.EncodeAll(raw, dst), nil
	}
	out := bytes.NewBuffer(dst)
	f.other.Reset(out)
	if _, err := f.other.Write(raw); err != nil {
		return dst, fmt.Errorf("compress a frame: %w", err)
	}
	if err := f.other.Close(); err != nil {
		return dst, fmt.Errorf("compress a frame: %w", err)
	}
	return out.Bytes(), nil
}

// Note appends a frame that holds payload, at most MaxNote bytes, for us and nothing for a decoder: a skippable frame of zstd and
// lz4, an empty member with an extra field of gzip. CutNote reads it.
func (f *Framer) Note(dst, payload []byte) []byte { return appendNote(dst, f.codec.Algorithm, payload) }

// CutNote reads the note that b begins with and gives its payload and how many bytes it took. Like every note of a volume it
// carries no checksum of its own.
func CutNote(b []byte) (payload []byte, used int, err error) {
	payload, used, err = cutNote(b)
	if errors.Is(err, errShort) {
		return nil, 0, corrupt("the note is cut short")
	}
	return payload, used, err
}

// Deframer decodes frames of every algorithm. It is for one goroutine at a time.
type Deframer struct {
	zstd *zstd.Decoder
	gzip gzip.Reader
	lz4  *lz4.Reader
}

// NewDeframer gives a Deframer. The caller closes it.
func NewDeframer() (*Deframer, error) {
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecodeAllCapLimit(true),
		zstd.WithDecoderMaxWindow(MaxFrame), zstd.WithDecoderMaxMemory(MaxFrame)) // zstdFrame looks at both before
	if err != nil {
		return nil, fmt.Errorf("set up zstd: %w", err)
	}
	return &Deframer{zstd: z, lz4: lz4.NewReader(nil)}, nil
}

// Close frees what the Deframer holds.
func (d *Deframer) Close() { d.zstd.Close() }

// Frame appends the raw bytes of one frame, told by its magic, to dst. A frame that holds more than limit raw bytes, or anything
// after its end, is ErrCorrupt; no more memory than limit is given to it.
func (d *Deframer) Frame(dst, frame []byte, limit int) ([]byte, error) {
	a, err := told(frame)
	if err != nil {
		return dst, err
	}
	if a == Zstd {
		return d.zstdFrame(dst, frame, limit)
	}
	in := bytes.NewReader(frame)
	var r io.Reader = d.lz4
	if a == Gzip {
		if err := d.gzip.Reset(in); err != nil {
			return dst, corrupt("gzip frame: %v", err)
		}
		r = &d.gzip
	} else {
		d.lz4.Reset(in)
	}
	out := bytes.NewBuffer(dst)
	n, err := io.Copy(out, io.LimitReader(r, int64(limit)+1))
	if err != nil {
		return dst, corrupt("%s frame: %v", a, err)
	}
	if n > int64(limit) {
		return dst, corrupt("%s frame: more than %d bytes", a, limit)
	}
	return out.Bytes(), nil
}

func (d *Deframer) zstdFrame(dst, frame []byte, limit int) ([]byte, error) {
	var h zstd.Header
	if err := h.Decode(frame); err != nil {
		return dst, corrupt("zstd frame: %v", err)
	}
	if !h.HasFCS || h.FrameContentSize > uint64(limit) {
		return dst, corrupt("zstd frame: it says %d bytes, at most %d are here", h.FrameContentSize, limit)
	}
	if !h.SingleSegment && h.WindowSize > maxWindow {
		return dst, corrupt("zstd frame: a window of %d bytes, at most %d are here", h.WindowSize, maxWindow)
	}
	n, size := len(dst), int(h.FrameContentSize)
	dst = slices.Grow(dst, size)
	out, err := d.zstd.DecodeAll(frame, dst[:n:n+size]) // the capacity is the limit
	if err != nil {
		return dst, corrupt("zstd frame: %v", err)
	}
	if len(out) != n+size {
		return dst, corrupt("zstd frame: %d bytes, it said %d", len(out)-n, size)
	}
	return out, nil
}
