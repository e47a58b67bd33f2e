package seal

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/klauspost/pgzip"
	"github.com/pierrec/lz4/v4"
)

const (
	// window is how far back a stream of ours refers; an encoder holds twice as much. maxWindow is what a decoder gives memory to.
	window    = 1 << 20
	maxWindow = 8 << 20
	// pgzip compresses blocks of this size, this many at once.
	gzipBlock   = 256 << 10
	gzipWorkers = 2
)

// compressor is a compressing writer that can be used again.
type compressor interface {
	io.WriteCloser
	Reset(w io.Writer)
}

// newCompressor gives a compressor of whole streams for a normal codec that passes Check.
func newCompressor(c Codec) (compressor, error) {
	switch c.Algorithm {
	case Gzip:
		w, err := pgzip.NewWriterLevel(io.Discard, c.Level)
		if err != nil {
			return nil, err
		}
		return w, w.SetConcurrency(gzipBlock, gzipWorkers)
	case LZ4:
		return newLZ4(c.Level, lz4.Block4Mb)
	case Zstd:
		return zstd.NewWriter(io.Discard, zstdOptions(c.Level)...)
	}
	return nil, c.Check()
}

func zstdOptions(level int) []zstd.EOption {
	return []zstd.EOption{
		zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(level)),
		zstd.WithEncoderConcurrency(1), // the caller decides what runs beside what
		zstd.WithWindowSize(window),    // higher levels would choose more than a reader here accepts
		zstd.WithEncoderCRC(true),
		zstd.WithZeroFrames(true),
	}
}

func newLZ4(level int, block lz4.BlockSize) (*lz4.Writer, error) {
	w := lz4.NewWriter(io.Discard)
	l := lz4.Fast
	if level > 1 {
		l = lz4.CompressionLevel(1 << (8 + level - 1)) // lz4.Level1 is 1 << 9
	}
	err := w.Apply(lz4.BlockSizeOption(block), lz4.ChecksumOption(true), lz4.ConcurrencyOption(1), lz4.CompressionLevelOption(l))
	if err != nil {
		return nil, fmt.Errorf("set up lz4: %w", err)
	}
	return w, nil
}

// newDecompressor gives the plain bytes of r, told by its magic, in bounded memory.
func newDecompressor(r io.Reader) (io.ReadCloser, error) {
	buffered := bufio.NewReaderSize(r, 64<<10)
	head, err := buffered.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	a, err := told(head)
	if err != nil {
		return nil, err
	}
	switch a {
	case Gzip:
		return gzip.NewReader(buffered)
	case LZ4:
		return io.NopCloser(lz4.NewReader(buffered)), nil
	default:
		d, err := zstd.NewReader(buffered, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, fmt.Errorf("set up zstd: %w", err)
		}
		return d.IOReadCloser(), nil
	}
}
