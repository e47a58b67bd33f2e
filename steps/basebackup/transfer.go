package basebackup

import (
	"fmt"
	"io"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// decompress undoes what the server did to an archive for the transfer. done frees what it needs.
func decompress(compression string, r io.Reader) (plain io.Reader, done func(), err error) {
	algorithm, _, _ := strings.Cut(compression, ":")
	switch algorithm {
	case "":
		return r, func() {}, nil
	case "gzip":
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, nil, fmt.Errorf("read gzip from the server: %w", err)
		}
		return z, func() { _ = z.Close() }, nil // it only reads
	case "zstd":
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(64<<20))
		if err != nil {
			return nil, nil, fmt.Errorf("read zstd from the server: %w", err)
		}
		return z, z.Close, nil
	case "lz4":
		return lz4.NewReader(r), func() {}, nil
	}
	return nil, nil, fmt.Errorf("%q is no transfer compression: there are none, gzip, lz4 and zstd", algorithm)
}
