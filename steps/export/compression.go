package export

import (
	"compress/gzip"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/klauspost/pgzip"
	"github.com/pierrec/lz4/v4"

	"github.com/pgkeep/pgkeep/state"
)

// Compression is how tar files are compressed, by the name that PostgreSQL uses; empty: they are not.
type Compression string

// The compressions there are.
const (
	Gzip Compression = "gzip"
	Zstd Compression = "zstd"
	LZ4  Compression = "lz4"
)

// ParseCompression reads a name; none and the empty one are no compression.
func ParseCompression(name string) (Compression, error) {
	switch c := Compression(name); c {
	case Gzip, Zstd, LZ4:
		return c, nil
	case "", "none":
		return "", nil
	}
	return "", &state.Error{Text: fmt.Sprintf("%q is no compression", name), Hint: "none, gzip, zstd or lz4"}
}

// suffix is what pg_basebackup adds to the names of compressed tar files.
func (c Compression) suffix() string {
	return map[Compression]string{Gzip: ".gz", Zstd: ".zst", LZ4: ".lz4"}[c]
}

// writer compresses what is written to it. Its Close ends the compressed stream and not w.
func (c Compression) writer(w io.Writer) (io.WriteCloser, error) {
	switch c {
	case Gzip:
		return pgzip.NewWriterLevel(w, gzip.BestSpeed)
	case Zstd:
		return zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(2))
	case LZ4:
		return lz4.NewWriter(w), nil
	}
	return asIs{w}, nil
}

// asIs passes bytes on.
type asIs struct{ io.Writer }

// Close does nothing.
func (asIs) Close() error { return nil }
