package receive

import (
	"context"
	"io"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/state/wal"
)

// Archive is one repository's WAL of this server, opened when it can be.
type Archive struct {
	Name string // the repository's label
	// Open gives the cluster in the repository, with its facts ensured; see InRepository. It is called again after a
	// failure, with back-off.
	Open func(ctx context.Context, c ClusterIdentity) (Cluster, error)
	// SystemIDs lists the system identifiers that the repository has under the server's name. It is asked before the
	// first byte when neither Identity nor the spool tells; nil: nothing is known there.
	SystemIDs func(ctx context.Context) ([]string, error)
}

// ClusterIdentity is what the stream tells about the cluster that it comes from.
type ClusterIdentity struct {
	Name        string
	SystemID    string
	Major       int // 0: not known yet, because only the spool was asked
	SegmentSize wal.SegmentSize
}

// Cluster is what a receiver does in a repository.
type Cluster interface {
	PackSegment(ctx context.Context, seg wal.Segment, sum wal.Summary, plain io.ReaderAt) (Packed, error)
	PutPartial(ctx context.Context, seg wal.Segment, upTo wal.LSN, plain io.ReaderAt) error
	OpenSegment(ctx context.Context, seg wal.Segment) (io.ReadCloser, error)
	OpenPartial(ctx context.Context, seg wal.Segment) (r io.ReadCloser, upTo wal.LSN, err error)
	PutHistory(ctx context.Context, t wal.Timeline, content []byte) error
	RecordGap(ctx context.Context, g state.Gap) error
	WALRanges(ctx context.Context) ([]state.WALRange, error)
	WriteIndex(ctx context.Context, t wal.Timeline) error
}

// Packed is a segment that waits to be put: its repository has compressed it. Segments may be packed at once; they are put one
// after another, in order.
type Packed interface {
	Put(ctx context.Context) error
	Close() error
}

// InRepository makes a cluster of a repository a Cluster.
func InRepository(c *repository.Cluster) Cluster { return inRepository{c} }

type inRepository struct{ *repository.Cluster }

func (c inRepository) PackSegment(ctx context.Context, seg wal.Segment, sum wal.Summary, plain io.ReaderAt) (Packed, error) {
	p, err := c.Cluster.PackSegment(ctx, seg, sum, plain)
	if err != nil {
		return nil, err
	}
	return p, nil
}

func (c inRepository) OpenSegment(ctx context.Context, seg wal.Segment) (io.ReadCloser, error) {
	r, err := c.Cluster.OpenSegment(ctx, seg)
	if err != nil {
		return nil, err
	}
	return r, nil
}

func (c inRepository) OpenPartial(ctx context.Context, seg wal.Segment) (io.ReadCloser, wal.LSN, error) {
	r, upTo, err := c.Cluster.OpenPartial(ctx, seg)
	if err != nil {
		return nil, 0, err
	}
	return r, upTo, nil
}
