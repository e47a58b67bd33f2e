package basebackup

import (
	"fmt"
	"io"

	"github.com/pgkeep/pgkeep/state/repository"
)

// decompress undoes what the server did to an archive for the transfer. The caller closes what it gives.
func decompress(compression string, r io.Reader) (io.ReadCloser, error) {
	if compression == "" {
		return io.NopCloser(r), nil
	}
	plain, err := repository.PlainTransfer(r)
	if err != nil {
		return nil, fmt.Errorf("undo the transfer's compression %s: %w", compression, err)
	}
	return plain, nil
}
