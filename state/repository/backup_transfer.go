package repository

import (
	"io"

	"github.com/pgkeep/pgkeep/state/repository/seal"
)

// PlainTransfer gives the plain bytes of a stream that the server compressed for the transfer, with zstd, gzip or lz4.
func PlainTransfer(r io.Reader) (io.ReadCloser, error) { return seal.Plain(r) }
