package seal

import "io"

// Plain gives the plain bytes of a stream that another program compressed with zstd, gzip or lz4, told by its magic, in
// bounded memory.
func Plain(r io.Reader) (io.ReadCloser, error) { return newDecompressor(r) }
